"""The fingerprint of a value: equal in every process for the same value."""

from __future__ import annotations

import hashlib
import json
from collections import OrderedDict
from types import BuiltinFunctionType, FunctionType
from typing import Any

from raflow.checkpoints.classes import path_of
from raflow.checkpoints.codec import Encoder
from raflow.checkpoints.form import Form
from raflow.checkpoints.forms import PICKLED, form_of


def digest(value: Any, name: str = "value") -> str:
    """Return the SHA-256 of a value, as hexadecimal text.

    The order of sets and of dictionaries does not count, nor whether parts are shared; types do:
    1, 1.0 and True differ.

    Args:
        value: Anything that `encode` takes.
        name: What errors call the value.

    Raises:
        NotSerializable: Some part cannot be taken apart; the message names its place and its type.
    """
    return _hash(_Digester().root(value, name))


class _Digester(Encoder):
    """Hashes every part once, so that values with shared parts cost what they weigh."""

    def raw(self, data: Any) -> Any:
        return ["raw", hashlib.sha256(data).hexdigest()]

    def closed(self, node: Any) -> tuple[Any, Any]:
        hashed = ["hash", _hash(node)]
        return hashed, hashed

    def _apart(self, value: Any) -> Any:
        if type(value) is dict:
            return ["dict", *sorted(self._items(value), key=_text)]
        if isinstance(value, (set, frozenset)):
            return [_name(value), *sorted(self.many(value, value, lambda of, number: f"{{{number}}}"), key=_text)]
        if hasattr(value, "combine_chunks"):
            value = value.combine_chunks()  # how Arrow data is cut does not count
        form = form_of(value)
        if form is PICKLED:
            return self._reduced(value)
        return self._form(form, value)

    def _items(self, value: Any) -> list[Any]:
        return [self.many(value, pair, lambda of, number, key=pair[0]: f"[{key!r}]") for pair in value.items()]

    def _reduced(self, value: Any) -> Any:
        """Return what pickle would store: pickles themselves differ with the order of sets."""
        if isinstance(value, (type, FunctionType, BuiltinFunctionType)) and path_of(value):
            return ["global", f"{value.__module__}:{value.__qualname__}"]
        try:
            reduced = value.__reduce_ex__(4)
        except Exception:
            return self._form(PICKLED, value)
        if isinstance(reduced, str):
            return ["global", _name(value), reduced]
        function, arguments, *rest = reduced
        state, items, pairs = [*rest, None, None, None][:3]
        named = dict(pairs or ())
        pairs = list(named.items()) if isinstance(value, OrderedDict) else named
        parts = [function, arguments, state, list(items or ()), pairs]
        return [_name(value), *self.many(value, parts, lambda of, number: "")]

    def _form(self, form: Form, value: Any) -> Any:
        return [form.tag, *self.many(value, form.take(value), form.label)]


def _name(value: Any) -> str:
    return f"{type(value).__module__}:{type(value).__qualname__}"


def _text(node: Any) -> str:
    return json.dumps(node, sort_keys=True)


def _hash(node: Any) -> str:
    return hashlib.sha256(_text(node).encode()).hexdigest()
