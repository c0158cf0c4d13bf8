"""Side outputs: what a processor writes to a sink besides its reply or result."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from contextvars import ContextVar
from typing import Any

from raflow.dependencies.needs import needs
from raflow.dependencies.scopes import Scope, mark
from raflow.errors import InvalidDependency, InvalidOption
from raflow.sinks import Sink


class SideOutput(ABC):
    """Takes records for a sink: dicts, dataclasses or pydantic models.

    In HTTP each call returns when the sink has the records. In a consumer they are taken at once, and written with
    the results of their unit of work; what a call of its function has pushed that raises is dropped. Records that
    do not fit what was written before are an error: in a consumer one of the unit, for `on_error`.
    """

    async def push(self, record: Any) -> None:
        """Take a record.

        Raises:
            SchemaError: HTTP: it does not fit what was written before.
            SinkError: HTTP: the sink does not have it; the log says why.
            InvalidDependency: In a consumer: outside of a call of its function, or in a thread of its own.
        """
        await self.push_batch([record])

    @abstractmethod
    async def push_batch(self, records: Sequence[Any]) -> None:
        """Do the same with several records; in HTTP those that fit are written, also if others do not."""

    @abstractmethod
    def put(self, *records: Any) -> None:
        """Do the same in a synchronous function."""


class Outlets:
    """What opens side outputs: the application of a Flow, or the replica of a consumer."""

    def __init__(self, opened: Callable[[SinkDependency], AbstractAsyncContextManager[SideOutput]]) -> None:
        self.opened = opened


mark(Outlets, Scope.REPLICA, is_given=True)


class SinkDependency:
    """A dependency that writes to a sink: `audit: Annotated[SideOutput, SinkDependency(sink)]`.

    In HTTP each replica has one long-lived writer, as collectors have it; the same object used in several places
    shares that. In a consumer its rows go the way of the results: they are visible once their unit of work is
    committed, once each, also after a retry or resume.

    Args:
        sink: Where records go.

    Raises:
        InvalidOption: It is no sink.
    """

    def __init__(self, sink: Sink) -> None:
        if not isinstance(sink, Sink):
            msg = f"SinkDependency takes a raflow Sink, e.g. raflow.connectors.files.ParquetFiles(path), not {sink!r}"
            raise InvalidOption(msg)
        self.sink = sink
        mark(self, Scope.REPLICA)

    def __repr__(self) -> str:
        return f"SinkDependency({self.sink!r})"

    async def __call__(self, outlets: Outlets) -> AsyncIterator[SideOutput]:
        """Yield the output; at the end it is flushed and closed."""
        async with outlets.opened(self) as output:
            yield output


_CALL: ContextVar[list[list[Any]]] = ContextVar("records that a call has pushed, by side output")


class Pushed:
    """What the calls of a consumer's function have pushed, until it is written.

    Args:
        wants: The function's dependencies, by parameter.
        numbers: Of the side outputs, as `numbered` has returned them before the function travelled.
    """

    def __init__(self, wants: Mapping[str, Any], numbers: Sequence[int]) -> None:
        self._numbers = {id(one): number for one, number in zip(_used(wants.values()), numbers, strict=True)}
        self._all: list[list[Any]] = [[] for _ in set(numbers)]

    @asynccontextmanager
    async def opened(self, make: SinkDependency) -> AsyncIterator[SideOutput]:
        """Yield the output for which a `SinkDependency` stands."""
        yield _Collecting(self._numbers[id(make)])

    @contextmanager
    def call(self) -> Iterator[None]:
        """Keep what is pushed, unless the call fails."""
        mine: list[list[Any]] = [[] for _ in self._all]
        token = _CALL.set(mine)
        try:
            yield
        finally:
            _CALL.reset(token)
        for records, more in zip(self._all, mine, strict=True):
            records.extend(more)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """Forget what calls have pushed if something fails after them."""
        before = [len(records) for records in self._all]
        try:
            yield
        except BaseException:
            for records, size in zip(self._all, before, strict=True):
                del records[size:]
            raise

    def take(self) -> list[list[Any]]:
        """Return and forget all records, by number of their output."""
        taken, self._all = self._all, [[] for _ in self._all]
        return taken


class _Collecting(SideOutput):
    def __init__(self, number: int) -> None:
        self._number = number

    async def push_batch(self, records: Sequence[Any]) -> None:
        self.put(*records)

    def put(self, *records: Any) -> None:
        try:
            _CALL.get()[self._number] += records
        except LookupError:
            msg = "a side output of a consumer takes records while its function is called, and on the thread of that"
            raise InvalidDependency(msg) from None


def numbered(wants: Mapping[str, Any]) -> tuple[list[SinkDependency], list[int]]:
    """Return the side outputs of a function, and for each place where one is used its number among them.

    Objects do not stay the same when they travel, places do.
    """
    used = list(_used(wants.values()))
    makes = list({id(one): one for one in used}.values())
    return makes, [next(n for n, make in enumerate(makes) if make is one) for one in used]


def _used(makes: Any) -> Iterator[SinkDependency]:
    for make in makes:
        if isinstance(make, SinkDependency):
            yield make
        else:
            yield from _used(needs(make).values())
