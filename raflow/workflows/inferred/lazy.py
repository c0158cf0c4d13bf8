"""The lazy result of a call: waits when it is touched, then behaves as the value.

It behaves as the value in arithmetic, comparison, `if`, `len`, indexing, iteration, unpacking, formatting,
attributes, `isinstance`, hashing, pickling and copying, and as an argument of further calls, where it makes
an edge instead of waiting. What looks at an object's exact type or identity sees the result instead, and
needs `wait(x)`:

- `x is None`, `x is True`, `type(x)`, `callable(x)`
- `json.dumps(x)`
- `pyarrow.array([x])`, `numpy.array([x])`
- methods of strings and patterns: `",".join([x])`, `x in "abc"`, `"abc".startswith(x)`, `re.match("a", x)`
- `"%d %d" % x` with a tuple
- sequence and mapping patterns of `match`
"""

from __future__ import annotations

import copy
import operator
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import wrapt

from raflow.errors import NotSerializable
from raflow.runtime.steps.values import pack, replace, unpack

if TYPE_CHECKING:
    from raflow.workflows.inferred.calls import Call

    _Proxy = wrapt.BaseObjectProxy[Any]
else:
    _Proxy = wrapt.BaseObjectProxy


class Result(_Proxy):
    """Stands for what a call will return."""

    def __init__(self, call: Call) -> None:
        super().__init__(None)  # not the value: a class with a factory gets it when it is first needed
        self._self_call = call
        self._self_touched = False

    def __wrapped_factory__(self) -> None:
        """Tell wrapt that the value comes later."""

    def __wrapped_get__(self) -> Any:
        self.__wrapped__ = value = self._self_call.value()
        self._self_touched = True
        return value

    def __repr__(self) -> str:
        return repr(self.__wrapped__)

    def __iter__(self) -> Iterator[Any]:
        return iter(self.__wrapped__)

    def __next__(self) -> Any:
        return next(self.__wrapped__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the value."""
        return self.__wrapped__(*args, **kwargs)

    def __fspath__(self) -> Any:
        return self.__wrapped__ if isinstance(self, str | bytes) else self.__wrapped__.__fspath__()

    def __copy__(self) -> Any:
        return copy.copy(self.__wrapped__)

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return copy.deepcopy(self.__wrapped__, memo)

    def __reduce_ex__(self, protocol: Any) -> Any:
        return _itself, (self.__wrapped__,)


def _itself(value: Any) -> Any:
    return value


def _in_place(name: str) -> Callable[[Result, Any], Any]:
    """Return an operator like `+=` that gives the value, no longer lazy."""
    change = getattr(operator, name)
    return lambda result, other: change(result.__wrapped__, unwrapped(other))


for _name in (
    "add",
    "sub",
    "mul",
    "matmul",
    "truediv",
    "floordiv",
    "mod",
    "pow",
    "lshift",
    "rshift",
    "and",
    "xor",
    "or",
):
    setattr(Result, f"__i{_name}__", _in_place(f"__i{_name}__"))


def is_result(value: Any) -> bool:
    """Return whether a value is a lazy result, without waiting for it."""
    return type(value) is Result


def unwrapped(value: Any) -> Any:
    """Return the value of a lazy result, waiting for it; anything else as it is."""
    return value.__wrapped__ if is_result(value) else value


def results_in(value: Any) -> list[Result]:
    """Return the lazy results in a value and in its lists, tuples, sets and dicts.

    Raises:
        NotSerializable: The value contains itself.
    """
    found: list[Result] = []
    replace(value, lambda each: found.append(each) if is_result(each) else None)
    return found


def copied(value: Any, what: str) -> Any:
    """Return a copy of a value, in whose objects lazy results are values.

    Raises:
        NotSerializable: It cannot travel.
        TaskError: A lazy result in one of its objects has failed.
    """
    return unpack(pack(value, what))


def wait(x: Any) -> Any:
    """Wait for a lazy result, or for those in lists, tuples, sets and dicts, and return the plain value.

    Plain values are returned as they are.

    Raises:
        TaskError: The call has failed; `__cause__` is the original error.
        TaskTimedout: Its last attempt took longer than the timeout.
    """
    try:
        return replace(x, unwrapped) if results_in(x) else x
    except NotSerializable:  # a value that contains itself holds no lazy results of ours
        return x
