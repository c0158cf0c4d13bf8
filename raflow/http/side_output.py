"""Side outputs: what an endpoint or collector writes to a sink besides its reply or result."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

from raflow.dependencies.scopes import Scope, mark
from raflow.errors import SinkError
from raflow.http.outlet import FlushFailed, Outlet
from raflow.http.writing import Results
from raflow.processors import sinks_of
from raflow.sinks import Sink


class SideOutput:
    """A sink that is open as long as the replica; calls at the same time share a flush."""

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    async def push(self, record: Any) -> None:
        """Return when the sink has a record: a dict, dataclass or pydantic model.

        A synchronous function calls `anyio.from_thread.run(output.push, record)`.

        Raises:
            SchemaError: It does not fit what was written before.
            SinkError: The sink does not have it; the log says why.
        """
        await self.push_batch([record])

    async def push_batch(self, records: Sequence[Any]) -> None:
        """Do the same with several records; those that fit are written, also if others do not."""
        results = Results(list(records), False, len(records))
        try:
            await self._outlet.write(results)
        except FlushFailed as error:
            msg = f"a side output was not written: {error}"
            raise SinkError(msg) from error
        for misfit in results.misfits.values():
            raise misfit


class Outlets:
    """What an application gives to `SinkDependency`: it knows the run and the Flow's credentials."""

    def __init__(self, opened: Callable[[Sink], Outlet]) -> None:
        self.opened = opened


mark(Outlets, Scope.REPLICA, is_given=True)


class SinkDependency:
    """A dependency that writes to a sink: `audit: Annotated[SideOutput, SinkDependency(sink)]`.

    Each replica has one long-lived writer, as collectors have it; the same object used in several places
    shares that.

    Args:
        sink: Where records go.

    Raises:
        InvalidOption: It is no sink.
    """

    def __init__(self, sink: Sink) -> None:
        (self.sink,) = sinks_of(sink)
        mark(self, Scope.REPLICA)

    def __repr__(self) -> str:
        return f"SinkDependency({self.sink!r})"

    async def __call__(self, outlets: Outlets) -> AsyncIterator[SideOutput]:
        """Yield the output; at the end it is flushed and closed."""
        outlet = outlets.opened(self.sink)
        await outlet.open()
        try:
            yield SideOutput(outlet)
        finally:
            await outlet.close()
