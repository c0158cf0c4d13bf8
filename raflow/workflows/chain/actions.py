"""User code as an action: what `@action` makes of a function, a method or a class."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from types import FunctionType
from typing import Any, TypeVar, overload

from raflow.decorated import Named, name_of
from raflow.errors import NotCallableObject
from raflow.options import StepOptions
from raflow.workflows.context import Context

INITIAL, PREVIOUS = "initial_context", "previous_context"
T = TypeVar("T")
_MARK = "__action_options__"
_ASKS_RESOURCES = {"num_cpus", "num_gpus", "memory_bytes", "resources"}


class Action(Named):
    """A function with the options of its attempts. Calling it calls the function, without any of them.

    Attributes:
        function: The user's function.
        options: How often and how long it is tried, and what it needs.
        name: The function's name.
    """

    kind = "action"
    __name__: str

    def __init__(self, function: Callable[..., Any], options: StepOptions) -> None:
        self.function = function
        self.options = options
        self.name = name_of(function)
        functools.update_wrapper(self, function, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function."""
        return self.function(*args, **kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Action:
        bind = getattr(type(self.function), "__get__", None)
        if bind is None or (isinstance(self.function, FunctionType) and (instance is None or not self._takes_self)):
            return self
        return Action(bind(self.function, instance, owner), self.options)

    def given(self, initial: Context, previous: Context) -> Any:
        """Call the function with those contexts that it has parameters for."""
        by_position, by_name = self._injected
        if not by_position and not by_name:
            return self.function()
        contexts = {INITIAL: initial, PREVIOUS: previous}
        return self.function(*map(contexts.get, by_position), **{name: contexts[name] for name in by_name})

    @property
    def asks_resources(self) -> bool:
        """Whether it says what it needs of a cluster."""
        return not _ASKS_RESOURCES.isdisjoint(self.options.model_fields_set)

    @functools.cached_property
    def delays(self) -> list[float]:
        """The wait before each attempt."""
        return self.options.delays()

    def _parts(self) -> tuple[Any, ...]:
        return self.function, self.options

    @functools.cached_property
    def _injected(self) -> tuple[list[str], list[str]]:
        """The contexts that the function takes by position, and those by name; wrappers are seen through."""
        own, wrapped = _parameters(self.function, through=False), _parameters(self.function)
        kinds = {one.kind for one in own.values()}
        by_position: list[str] = []
        by_name: list[str] = []
        for name in [name for name in {**own, **wrapped} if name in (INITIAL, PREVIOUS)]:
            if name in own:
                is_named = own[name].kind is not inspect.Parameter.POSITIONAL_ONLY
            elif kinds & {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}:
                is_named = inspect.Parameter.VAR_KEYWORD in kinds
            else:
                continue
            (by_name if is_named else by_position).append(name)
        return by_position, by_name

    @functools.cached_property
    def _takes_self(self) -> bool:
        first = next(iter(_parameters(self.function)), INITIAL)
        return first not in (INITIAL, PREVIOUS)


@overload
def action(function: type[T]) -> type[T]: ...  # type: ignore[overload-overlap] # a class is callable, and comes first
@overload
def action(function: Callable[..., Any]) -> Action: ...
@overload
def action(**options: Any) -> Callable[[Callable[..., Any]], Any]: ...
def action(function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a function, method or class a step of workflows: `@action` or `@action(retry=3, timeout=10)`.

    A function gets contexts by the names of its parameters, `initial_context` and `previous_context`, in any
    order, or none. It may be `async def`. A class stays a class; as a step it is instantiated, and its methods
    that are actions are called in their order.

    Args:
        function: What is decorated.
        options: Those of `raflow.options.StepOptions`: `retry=1` (attempts in all), `timeout=0` (seconds per
            attempt; 0: no bound), `retry_delay=1`, `backoff=False` (whether the delay doubles), `jitter`,
            `max_delay`, `retry_on`, and what it needs of a cluster: `num_cpus`, `num_gpus`, `memory_bytes`,
            `resources`.

    Raises:
        InvalidOption: An option is unknown or its value cannot be used.
        NotCallableObject: What is decorated cannot be called.

    Example:
        >>> @action(retry=3, timeout=10, retry_delay=2, backoff=True)
        ... def double(previous_context):
        ...     return previous_context.storage * 2
        >>> double(Context(storage=4))
        8
    """
    checked = StepOptions(**options)
    return _decorated(function, checked) if function is not None else lambda code: _decorated(code, checked)


def as_action(step: Any) -> Action | None:
    """Return what was decorated as an action, or None if it was not."""
    if isinstance(step, type):
        options = getattr(step, _MARK, None)
        return Action(step, options) if options else None
    return step if isinstance(step, Action) else None


def _decorated(code: Any, options: StepOptions) -> Any:
    if isinstance(code, type):
        setattr(code, _MARK, options)
        return code
    if not callable(code) and not isinstance(code, classmethod):
        msg = f"@action got {code!r}, which cannot be called; give it a function, a method or a class"
        raise NotCallableObject(msg)
    return Action(code, options)


def _parameters(function: Any, *, through: bool = True) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(function, follow_wrapped=through).parameters)
    except (TypeError, ValueError):  # builtins may have none
        return {}
