"""What a decorator makes of a function or class: callable as before, and picklable although it has its name."""

from __future__ import annotations

import functools
import importlib
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from raflow.errors import FlowError, InvalidProcessor

CARRIED: set[str] = set()
"""Names of the modules that replicas cannot import: what is in them travels as it is."""


class Named:
    """What has the name of its function or class in a module: travels as that name, or else in its parts."""

    kind: str
    name: str

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    def __reduce__(self) -> Any:
        module, path = getattr(self, "__module__", ""), getattr(self, "__qualname__", "")
        if module not in CARRIED | {"__main__"} and _at(sys.modules.get(module), path) is self:
            return _import, (module, path)
        return type(self), self._parts()

    def _parts(self) -> tuple[Any, ...]:
        """Return the arguments that make an equal one."""
        raise NotImplementedError


class Decorated(Named):
    """A function or class with a name and options.

    Calling it calls the function, so that it can be tested as if it were not decorated.

    Attributes:
        code: The user's function, or a class with `process` and, if wanted, `setup` and `teardown`.
        name: In logs, errors and stats.
        options: The options that were given, without defaults.
    """

    kind = "function"

    def __init__(self, code: Callable[..., Any], name: str, options: dict[str, Any]) -> None:
        self.code = code
        self.name = name
        self.options = options
        functools.update_wrapper(self, code, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or make an instance of the class."""
        return self.code(*args, **kwargs)


Made = TypeVar("Made", bound=Decorated)
Decorator = Callable[[Callable[..., Any]], Made]


def adding(make: Decorator[Made], add: Callable[[Made], None]) -> Decorator[Made]:
    """Return a decorator that makes what another one does, and adds it to its container."""

    def decorate(code: Callable[..., Any]) -> Made:
        made = make(code)
        add(made)
        return made

    return decorate


def refuse_decorated(code: Any) -> None:
    """Check that code is not decorated yet.

    Raises:
        InvalidProcessor: It is.
    """
    if isinstance(code, Decorated):
        msg = f"{code.name!r} is a {code.kind} already; decorate its function once"
        raise InvalidProcessor(msg)


def name_of(code: Any) -> str:
    """Return the name of a function or class: of a partial one that of what it calls, of an object its class's."""
    while isinstance(code, functools.partial):
        code = code.func
    return str(getattr(code, "__name__", type(code).__name__))


def _at(module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _import(module: str, path: str) -> Named:
    found = _at(importlib.import_module(module), path)
    if not isinstance(found, Named):
        msg = f"{module}.{path} is not decorated here; is another version of the module installed?"
        raise FlowError(msg)
    return found
