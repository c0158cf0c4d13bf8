"""The decorators that make methods of a class steps. They only write down what is asked for.

A decorated function stays the function that it is; its attribute `step` holds the definition. The
order of the decorators of one function does not matter.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

from raflow.errors import DuplicateName, InvalidOption, InvalidStep
from raflow.options import StepOptions
from raflow.runtime.steps.step import PLAIN
from raflow.workflows.spec.apps import App

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass(eq=False)
class Step:
    """What decorators say about one step."""

    function: Callable[..., Any]
    """What was decorated."""
    declared: bool = False
    """Whether it has `@step`; the other decorators alone make no step."""
    options: StepOptions = PLAIN
    predecessors: tuple[Callable[..., Any], ...] = ()
    """The functions named by `@needs`, in order."""
    fans_out: bool = False
    joins: bool = False
    repetitions: int | None = None
    condition: Callable[..., Any] | None = None
    app: App | None = None

    def get_id(self) -> str:
        """Return the step's name: that of the function."""
        return self.function.__name__

    def is_needs(self) -> bool:
        """Return whether it has predecessors."""
        return bool(self.predecessors)

    def is_foreach(self) -> bool:
        """Return whether each item of its result becomes an input of its own."""
        return self.fans_out

    def is_join(self) -> bool:
        """Return whether it gets all inputs at once."""
        return self.joins

    def is_repeat(self) -> bool:
        """Return whether it runs several times with the same input."""
        return self.repetitions is not None

    def get_repetitions(self) -> int:
        """Return how often it runs with the same input."""
        return 1 if self.repetitions is None else self.repetitions

    def is_app(self) -> bool:
        """Return whether it runs something else in place of its own body."""
        return self.app is not None

    def get_app_id(self) -> str | list[str] | None:
        """Return what it runs, or None."""
        return self.app.app_id if self.app else None


def definition_of(function: Any) -> Step | None:
    """Return what decorators said about a function, method or static method; None if nothing."""
    found = getattr(unwrapped(function), "step", None)
    return found if isinstance(found, Step) else None


def unwrapped(function: Any) -> Any:
    """Return the function in a method, static method or class method."""
    return getattr(function, "__func__", function)


def _define(function: Any) -> Step:
    inner = unwrapped(function)
    if not hasattr(inner, "__name__") or isinstance(inner, type) or not callable(inner):
        msg = f"{function!r} cannot be a step; decorate a function of the class"
        raise InvalidStep(msg)
    if "step" not in vars(inner):
        inner.step = Step(inner)
    return inner.step  # type: ignore[no-any-return]


def _marking(**said: Any) -> Callable[[Function], Function]:
    """Return a decorator that writes something down."""

    def mark(function: Function) -> Function:
        definition = _define(function)
        for name, value in said.items():
            setattr(definition, name, value)
        return function

    return mark


@overload
def step(function: Function, /) -> Function: ...
@overload
def step(**options: Any) -> Callable[[Function], Function]: ...
def step(function: Any = None, /, **options: Any) -> Any:
    """Make a function of a class a step.

    It gets the results of its predecessors by position, in the order of `@needs`; without predecessors
    it gets the flow's input. Without parameters it gets nothing. It may be `async`. With `self` as
    first parameter it sees a copy of the flow: its class, `self.name`, `self.input` and whatever else
    was set on it and can travel, but not `graph`, `runner`, `client` and `uplink`; what it sets on
    `self` stays in that copy.

    Args:
        function: Given when there are no parentheses.
        options: See `StepOptions`: retry, retry_delay, backoff, timeout, num_cpus, memory_bytes, …

    Raises:
        InvalidOption: An option is unknown or its value cannot be used.
        DuplicateName: The class already has a step of this name.

    Example:
        >>> from raflow.workflows.spec import FlowSpec, needs, step
        >>> class Square(FlowSpec):
        ...     @step
        ...     def read(numbers):
        ...         return numbers
        ...
        ...     @needs(predecessors=[read])
        ...     @step(retry=3, timeout=10)
        ...     def square(numbers):
        ...         return [number**2 for number in numbers]
        >>> flow = Square("square", [1, 2, 3])
        >>> flow.run()
        >>> flow.get_result(flow.square)
        [1, 4, 9]
    """
    chosen = StepOptions(**options)
    body = sys._getframe(1).f_locals

    def mark(function: Any) -> Any:
        _check_new(function, body)
        return _marking(declared=True, options=chosen)(function)

    return mark if function is None else mark(function)


def _check_new(function: Any, body: dict[str, Any]) -> None:
    """Refuse a second step of a name in a class body, which Python would take in place of the first."""
    name = getattr(unwrapped(function), "__name__", "")
    before = definition_of(body.get(name)) if "__qualname__" in body else None
    if before and before.function is not unwrapped(function):
        msg = f"class {body['__qualname__']} has two steps of the name {name!r}; rename one"
        raise DuplicateName(msg)


def needs(predecessors: Sequence[Callable[..., Any]]) -> Callable[[Function], Function]:
    """Say which steps come before, and in which order their results are the arguments.

    Predecessors that run several times combine as a product, the last one changing fastest; the step
    runs once for each combination.

    Args:
        predecessors: Steps of this class or of those that it inherits from.
    """
    if callable(predecessors):
        msg = "@needs wants a list of steps: @needs(predecessors=[first, second])"
        raise InvalidStep(msg)
    return _marking(predecessors=tuple(predecessors))


@overload
def foreach(function: Function, /) -> Function: ...
@overload
def foreach(function: None = None, /) -> Callable[[Function], Function]: ...
def foreach(function: Any = None, /) -> Any:
    """Let each item of the step's result, any iterable, be an input of its own for the successors."""
    mark = _marking(fans_out=True)
    return mark if function is None else mark(function)


@overload
def join(function: Function, /) -> Function: ...
@overload
def join(function: None = None, /) -> Callable[[Function], Function]: ...
def join(function: Any = None, /) -> Any:
    """Let the step run once, with one argument: the list of all inputs, each a list of results.

    Three items of one predecessor arrive as `[[a], [b], [c]]`, two plain predecessors as `[[a, b]]`.
    """
    mark = _marking(joins=True)
    return mark if function is None else mark(function)


def repeat(repetitions: int) -> Callable[[Function], Function]:
    """Let the step run several times with each input; successors get one list of all its results.

    Raises:
        InvalidOption: The number is not a whole one from 0 on.
    """
    if not isinstance(repetitions, int) or isinstance(repetitions, bool) or repetitions < 0:
        msg = f"@repeat wants how often to run, a whole number from 0 on: @repeat(3), not {repetitions!r}"
        raise InvalidOption(msg)
    return _marking(repetitions=repetitions)


def optional(condition: Callable[..., Any]) -> Callable[[Function], Function]:
    """Let the step run only if a condition holds; a skipped one gives its successors None.

    Args:
        condition: Called in the process of `run` when the predecessors have ended, with the `Step`;
            with results after it, as `get_result` gives them (in a first step: the flow's input), if it
            requires as many more parameters or takes `*results`. These results are fetched then. It may
            be `async`.
    """
    if not callable(condition):
        msg = f"@optional wants a function that takes the step and returns whether to run it, not {condition!r}"
        raise InvalidOption(msg)
    return _marking(condition=condition)


def app(  # noqa: PLR0913, PLR0917 - one keyword per option of a run
    app_id: str | Sequence[str],
    instance_id: str = "",
    parameters: dict[str, Any] | None = None,
    options: dict[str, Any] | None = None,
    input_type: Any = None,
    full_result: bool = False,
    run_configuration: Any = None,
    polling_options: Any = None,
    bypass_result: Any = None,
    emit_live_logs: bool = False,
) -> Callable[[Function], Function]:
    """Let the step run something else, as a run of its own, in place of the function's body.

    Its input is the predecessor's result, or the flow's input; an `AppRunConfig` says more about a
    single run. Its output is the step's result.

    Args:
        app_id: A target, `file.py:name` or `pkg.mod:name`, of a `FlowSpec` class or object (the output is
            the result of its last step, or of its last steps by their names), of an inferred workflow, of a
            function of the input, which may be `async` and may return a `Workflow` to be run, or of a Flow
            (which takes no input); or a command as a list, which gets its input as JSON on stdin and writes
            its output as JSON to stdout.
        instance_id: For the flow's `client`; in the metadata of a Ray job.
        parameters: An older word for `options`.
        options: Become strings, None is left out: `--name value` of a command, keyword arguments of a
            function, `self.options` of a `FlowSpec`.
        input_type: For the flow's `client`.
        full_result: Return the whole `AppResult`, not only its output.
        run_configuration: For the flow's `client`; for `RayJobs` a dict of options of `submit_job`.
        polling_options: `PollingOptions` for `RayJobs`; the client in process waits without polling.
        bypass_result: Run nothing and take this as the output; None: run it.
        emit_live_logs: Pass each line of a command's stderr on to `log` as it comes.

    Raises:
        InvalidOption: Both `parameters` and `options` are given.
    """
    if parameters and options:
        msg = "@app got parameters and options, which mean the same; give options only"
        raise InvalidOption(msg)
    chosen = App(
        app_id if isinstance(app_id, str) else [str(word) for word in app_id],
        options=dict(options or parameters or {}),
        instance_id=instance_id,
        input_type=input_type,
        full_result=full_result,
        run_configuration=run_configuration,
        polling_options=polling_options,
        bypass_result=bypass_result,
        emit_live_logs=emit_live_logs,
    )
    return _marking(app=chosen)
