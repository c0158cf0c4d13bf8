"""User code with its kind: what `@consumer` makes of a function or class."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import typing
from collections.abc import Callable, Sequence
from typing import Any

from raflow.errors import FlowError, InvalidOption, InvalidProcessor
from raflow.options import ProcessorOptions
from raflow.sinks import Sink
from raflow.sources import Source


class Processor:
    """A function or class with its source, its sinks and its options.

    Calling it calls the function, so that it can be tested as if it were not decorated.

    Attributes:
        name: Unique in its Flow; in logs, errors, stats and `--set`.
        code: The user's function, or a class with `process` and, if wanted, `setup` and `teardown`.
        source: Where its records come from.
        sinks: Where its results go; empty to drop them.
        options: The options that were given, without defaults.
    """

    kind = "consumer"

    def __init__(
        self,
        code: Callable[..., Any],
        source: Source,
        sinks: tuple[Sink, ...],
        name: str,
        options: dict[str, Any],
    ) -> None:
        self.code = code
        self.source = source
        self.sinks = sinks
        self.name = name
        self.options = options
        functools.update_wrapper(self, code, updated=())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, or make an instance of the class."""
        return self.code(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<{self.kind} {self.name}>"

    def __reduce__(self) -> Any:
        module, path = self.code.__module__, self.code.__qualname__
        if module != "__main__" and _at(sys.modules.get(module), path) is self:
            return _import, (module, path)
        return Processor, (self.code, self.source, self.sinks, self.name, self.options)

    def annotations(self) -> tuple[Any, Any]:
        """Return the annotations of the first parameter and of the result; `inspect.Parameter.empty` if none.

        Raises:
            InvalidProcessor: An annotation names something that does not exist.
        """
        function, first = _function(self.code, self.name)
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as error:
            msg = f"processor {self.name!r}: its annotations use {error.name!r}, which its module does not define"
            raise InvalidProcessor(msg) from error
        empty = inspect.Parameter.empty
        return hints.get(first, empty), hints.get("return", empty)


def consumer(
    source: Source, sink: Sink | Sequence[Sink] | None = None, *, name: str | None = None, **options: Any
) -> Callable[[Callable[..., Any]], Processor]:
    """Make a function or class a consumer: source → function → sink.

    The annotation of the first parameter decides what the function gets: a dataclass, pydantic model,
    dict, str or bytes is one record a call; `pa.RecordBatch`, `pa.Table`, `pd.DataFrame`, `pl.DataFrame`
    or `list[T]` is a batch. It returns the same kinds; None drops, lists and generators flatten.

    Args:
        source: Where records come from.
        sink: Where results go; several sinks each get all of them; None drops them.
        name: Defaults to the function's name.
        options: Options of `raflow.options.ProcessorOptions`.

    Raises:
        InvalidProcessor: The code cannot be a processor.
        InvalidOption: An option is unknown or its value cannot be used.

    Example:
        >>> from raflow import Flow, consumer
        >>> from raflow.connectors.memory import MemorySink, MemorySource
        >>> sink = MemorySink()
        >>> @consumer(source=MemorySource([{"n": 1}, {"n": 2}]), sink=sink, num_replicas=1)
        ... def double(record: dict) -> dict:
        ...     return {"n": record["n"] * 2}
        >>> double({"n": 4})
        {'n': 8}
    """
    ProcessorOptions(**options)
    if not isinstance(source, Source):
        msg = f"source is {source!r}; it must be a raflow Source, e.g. raflow.connectors.files.ParquetFiles(path)"
        raise InvalidOption(msg)
    sinks = _sinks(sink)

    def decorate(code: Callable[..., Any]) -> Processor:
        own_name = name or str(getattr(code, "__name__", type(code).__name__))
        _function(code, own_name)
        return Processor(code, source, sinks, own_name, dict(options))

    return decorate


def _sinks(sink: Sink | Sequence[Sink] | None) -> tuple[Sink, ...]:
    sinks = () if sink is None else (sink,) if isinstance(sink, Sink) else tuple(sink)
    for one in sinks:
        if not isinstance(one, Sink):
            msg = f"sink is {one!r}; it must be a raflow Sink, e.g. raflow.connectors.files.ParquetFiles(path)"
            raise InvalidOption(msg)
    return sinks


def _function(code: Any, name: str) -> tuple[Callable[..., Any], str]:
    """Return what is called per record or batch, and the name of its one parameter."""
    if isinstance(code, Processor):
        msg = f"{code.name!r} is a processor already; give it to flow.add_consumer"
        raise InvalidProcessor(msg)
    if isinstance(code, type):
        function = getattr(code, "process", None)
        if function is None:
            msg = f"class {code.__name__} has no method process(self, record); a class processor needs one"
            raise InvalidProcessor(msg)
        _check_constructor(code)
        parameters = list(inspect.signature(function).parameters.values())[1:]
    elif callable(code):
        function = code
        parameters = list(inspect.signature(code).parameters.values())
    else:
        msg = f"{code!r} cannot be a processor; decorate a function or a class with a process method"
        raise InvalidProcessor(msg)
    return function, _one_parameter(parameters, name)


def _one_parameter(parameters: list[inspect.Parameter], name: str) -> str:
    required = [
        one for one in parameters if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    positional = [one for one in parameters if one.kind not in (one.KEYWORD_ONLY, one.VAR_KEYWORD)]
    if not positional or len(required) > 1 or any(one.kind is one.KEYWORD_ONLY for one in required):
        listed = ", ".join(str(one) for one in parameters) or "none"
        msg = f"processor {name!r} must take one record or batch; its parameters are: {listed}"
        raise InvalidProcessor(msg)
    return positional[0].name


def _check_constructor(code: type) -> None:
    if code.__init__ is object.__init__:  # type: ignore[misc]
        return
    required = [
        one
        for one in list(inspect.signature(code.__init__).parameters.values())[1:]  # type: ignore[misc]
        if one.default is one.empty and one.kind not in (one.VAR_KEYWORD, one.VAR_POSITIONAL)
    ]
    if required:
        needed = required[0].name
        msg = f"class {code.__name__} is made without arguments in each replica; its constructor needs {needed!r}"
        raise InvalidProcessor(msg)


def _at(module: Any, path: str) -> Any:
    found = module
    for part in path.split("."):
        found = getattr(found, part, None)
    return found


def _import(module: str, path: str) -> Processor:
    found = _at(importlib.import_module(module), path)
    if not isinstance(found, Processor):
        msg = f"{module}.{path} is no processor here; is another version of the module installed?"
        raise FlowError(msg)
    return found
