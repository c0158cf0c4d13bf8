"""Side outputs of endpoints and collectors: each replica has one long-lived writer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import anyio.from_thread

from raflow.dependencies.side_output import SideOutput
from raflow.errors import SinkError
from raflow.http.ingest.conversion import Results
from raflow.http.ingest.outlet import FlushFailed, Outlet


class Flushed(SideOutput):
    """A sink that is open as long as the replica; calls at the same time share a flush.

    Args:
        outlet: Of the sink, open.
    """

    def __init__(self, outlet: Outlet) -> None:
        self._outlet = outlet

    async def push_batch(self, records: Sequence[Any]) -> None:
        """Return when the sink has the records."""
        results = Results(list(records), False, len(records))
        try:
            await self._outlet.write(results)
        except FlushFailed as error:
            msg = f"a side output was not written: {error}"
            raise SinkError(msg) from error
        for misfit in results.misfits.values():
            raise misfit

    def put(self, *records: Any) -> None:
        """Do the same in a thread of a synchronous function."""
        anyio.from_thread.run(self.push_batch, records)
