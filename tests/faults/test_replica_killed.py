"""kill -9 of replicas: in the middle of a split, and between prepare and commit."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from raflow import Flow, RunFailed
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.sinks import Part

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

ROWS = 2000
SOURCE = MemorySource(pa.table({"n": range(ROWS)}), rows_per_split=100)


def once(path: Path) -> bool:
    """Whether this is the first call with that path, over all processes."""
    try:
        path.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def test_the_split_of_a_replica_that_dies_is_read_again(tmp_path: Path) -> None:
    flow, sink = Flow("dying"), MemorySink()

    @flow.consumer(source=SOURCE, sink=sink)
    def work(batch: pa.RecordBatch) -> pa.RecordBatch:
        if batch.column("n")[0].as_py() in (500, 1500) and once(tmp_path / str(batch.column("n")[0])):
            os.kill(os.getpid(), signal.SIGKILL)
        return batch

    run = flow.run(engine="ray")
    assert sink.table().column("n").to_pylist() == list(range(ROWS))
    assert run.stats().stages[0].replicas_lost == 2


class KillsBeforeCommit(ParquetFiles):
    """Ends the replicas after they have prepared a unit, before the driver publishes it."""

    pids: Path

    def commit(self, parts: Sequence[Part]) -> None:
        if once(self.pids / "killed"):
            for pid in self.pids.glob("[0-9]*"):
                os.kill(int(pid.name), signal.SIGKILL)
        super().commit(parts)


def test_what_a_dead_replica_has_prepared_is_published_once(tmp_path: Path) -> None:
    sink = KillsBeforeCommit(tmp_path / "out")
    sink.pids = tmp_path
    flow = Flow("prepared")

    @flow.consumer(source=SOURCE, sink=sink)
    def work(batch: pa.RecordBatch) -> pa.RecordBatch:
        (tmp_path / str(os.getpid())).touch()
        return batch

    run = flow.run(engine="ray")
    assert run.stats().stages[0].replicas_lost >= 1
    numbers = ds.dataset(tmp_path / "out").to_table()["n"].to_pylist()
    assert sorted(numbers) == list(range(ROWS))


def test_a_split_that_kills_every_replica_ends_the_run_with_its_name() -> None:
    flow = Flow("poison")

    @flow.consumer(source=SOURCE, num_replicas=1)
    def work(batch: pa.RecordBatch) -> None:
        if batch.column("n")[0].as_py() == 300:
            os._exit(1)

    with pytest.raises(RunFailed, match="3 replicas of 'work' died in records 300-400"):
        flow.run(engine="ray")
