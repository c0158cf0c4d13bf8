"""User code with its kind: what `@consumer` makes of a function or class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from raflow.code import Code, called
from raflow.decorated import Decorated, name_of, refuse_decorated
from raflow.errors import InvalidOption
from raflow.nodes import Node
from raflow.options import ProcessorOptions
from raflow.sinks import Sink
from raflow.sources import Source

Origin: TypeAlias = Any
"""Where records come from: a `Source`, a `Processor`, a `Stream`, or a list of them for all their records."""


class Processor(Decorated):
    """A function or class with its source, its sinks and its options.

    Calling it calls the function, so that it can be tested as if it were not decorated. Its name, which
    is unique in its Flow, is also that of `--set`.

    Attributes:
        source: Where its records come from.
        sinks: Where its results go; empty to drop them.
        node: What it does, for the plan.
    """

    kind = "consumer"

    def __init__(
        self,
        code: Callable[..., Any],
        source: Origin,
        sinks: tuple[Sink, ...],
        name: str,
        options: dict[str, Any],
    ) -> None:
        super().__init__(code, name, options)
        self.source = source
        self.sinks = sinks
        self.node = Node(Code(code), inputs(source), sinks, name, options)

    def _parts(self) -> tuple[Any, ...]:
        return self.code, self.source, self.sinks, self.name, self.options


def consumer(
    source: Origin, sink: Sink | Sequence[Sink] | None = None, *, name: str | None = None, **options: Any
) -> Callable[[Callable[..., Any]], Processor]:
    """Make a function or class a consumer: source → function → sink.

    The annotation of the first parameter decides what the function gets: a dataclass, pydantic model,
    dict, str or bytes is one record a call; `pa.RecordBatch`, `pa.Table`, `pd.DataFrame`, `pl.DataFrame`
    or `list[T]` is a batch. It returns the same kinds; None drops, lists and generators flatten.
    Its other parameters are dependencies (`raflow.dependency`).

    Args:
        source: Where records come from: a source, a processor, a stream, or a list of them.
        sink: Where results go; several sinks each get all of them; None drops them, unless another
            processor has this one as its source.
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
    inputs(source)
    sinks = sinks_of(sink)

    def decorate(code: Callable[..., Any]) -> Processor:
        refuse_decorated(code)
        named = name or name_of(code)
        called(code, named)
        return Processor(code, source, sinks, named, dict(options))

    return decorate


def inputs(source: Origin) -> tuple[Node, ...]:
    """Return the nodes of a source, a processor, a stream, or a list of them.

    Raises:
        InvalidOption: It is none of these.
    """
    origins = list(source) if isinstance(source, (list, tuple)) else [source]
    nodes = [Node(one) if isinstance(one, Source) else getattr(one, "node", None) for one in origins]
    for one, node in zip(origins, nodes, strict=True):
        if not isinstance(node, Node):
            msg = (
                f"source is {one!r}; it must be a raflow Source, e.g. raflow.connectors.files.ParquetFiles(path), "
                "a processor, a stream, or a list of them"
            )
            raise InvalidOption(msg)
    if not nodes:
        msg = "source is an empty list; give at least one source"
        raise InvalidOption(msg)
    return tuple(node for node in nodes if node)


def sinks_of(sink: Sink | Sequence[Sink] | None) -> tuple[Sink, ...]:
    """Return no, one or several sinks as a tuple.

    Raises:
        InvalidOption: One of them is no sink.
    """
    sinks = () if sink is None else (sink,) if isinstance(sink, Sink) else tuple(sink)
    for one in sinks:
        if not isinstance(one, Sink):
            msg = f"sink is {one!r}; it must be a raflow Sink, e.g. raflow.connectors.files.ParquetFiles(path)"
            raise InvalidOption(msg)
    return sinks
