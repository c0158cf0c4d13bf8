"""Reads pickles of classes that travel by value without touching such a class where it was defined.

cloudpickle finds the class again in the process that defined it, and then sets all its attributes to copies
of what they were: a counter on the class would go back, a registry would be another list.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from cloudpickle import cloudpickle

_MARK = b"_make_skeleton_"
_MAKERS = {"_make_skeleton_class": 4, "_make_skeleton_enum": 5}
"""What makes a class, and which of its arguments is the id by which the class is known."""


def loads(data: bytes, buffers: Iterable[Any] = ()) -> Any:
    """Return the value of a pickle."""
    if _MARK not in data:
        return pickle.loads(data, buffers=buffers)
    return _Unpickler(io.BytesIO(data), buffers=buffers).load()


class _Unpickler(pickle.Unpickler):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._known: set[Any] = set()

    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if module != cloudpickle.__name__:
            return found
        if name in _MAKERS:
            return partial(self._made, found, _MAKERS[name])
        return partial(self._set, found) if name == "_class_setstate" else found

    def _made(self, make: Callable[..., type], place: int, *args: Any) -> type:
        is_known = args[place] in cloudpickle._DYNAMIC_CLASS_TRACKER_BY_ID
        made = make(*args)
        if is_known:
            self._known.add(made)
        return made

    def _set(self, set_state: Callable[[Any, Any], Any], kind: Any, state: Any) -> Any:
        return kind if kind in self._known else set_state(kind, state)
