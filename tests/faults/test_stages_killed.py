"""kill -9 of replicas of flows with several stages: of the first, of a later one, and on both sides of an exchange."""

from __future__ import annotations

import os
import signal
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pytest

from raflow import Flow, RunFailed, consumer
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.nodes import Node
from raflow.operators.contract import Hash, Range, Route, Wide
from raflow.operators.routing import ordered_by
from tests.faults.test_replica_killed import once

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("ray_session")]

ROWS = 2000
SOURCE = MemorySource(pa.table({"n": range(ROWS), "key": [n % 17 for n in range(ROWS)]}), rows_per_split=100)
SMALL = {"num_cpus": 0.5, "num_replicas": 2}


def dying_at(path: Path, *numbers: int) -> type:
    """A processor whose replica dies at the first sight of each of these numbers."""

    class Dying:
        def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            for number in set(numbers) & set(batch.column("n").to_pylist()):
                if once(path / str(number)):
                    os.kill(os.getpid(), signal.SIGKILL)
            return batch

    return Dying


def same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


@dataclass(frozen=True)
class Total(Wide):
    """Sums by key, and may die while it does."""

    path: Path | None = None

    @property
    def label(self) -> str:
        return "total by key"

    @property
    def routes(self) -> tuple[Route, ...]:
        return (Hash(("key",)),)

    def schema(self, *given: pa.Schema) -> pa.Schema | None:
        return None

    def partial(self, side: int, table: pa.Table) -> pa.Table:
        return table.group_by("key").aggregate([("n", "sum")]).rename_columns(["key", "n"])

    def finish(self, *tables: pa.Table) -> pa.Table:
        if self.path is not None and once(self.path / "finish"):
            os.kill(os.getpid(), signal.SIGKILL)
        return self.partial(0, tables[0])


@dataclass(frozen=True)
class Ordered(Wide):
    """Sorts by `n`, downwards."""

    @property
    def label(self) -> str:
        return "sort by n"

    @property
    def routes(self) -> tuple[Route, ...]:
        return (Range((("n", "descending"),)),)

    def schema(self, *given: pa.Schema) -> pa.Schema | None:
        return given[0]

    def finish(self, *tables: pa.Table) -> pa.Table:
        return ordered_by(tables[0], (("n", "descending"),))


TOTALS = dict(Counter({key: sum(range(key, ROWS, 17)) for key in range(17)}))


@pytest.mark.parametrize("stage", [0, 1])
def test_what_a_dead_replica_held_of_a_unit_is_done_again_in_all_stages(stage: int, tmp_path: Path) -> None:
    flow, sink = Flow("dying"), MemorySink()
    codes = [same, same]
    codes[stage] = dying_at(tmp_path, 500, 1500)
    first = consumer(source=SOURCE, name="first", batch_rows=50, **SMALL)(codes[0])  # type: ignore[arg-type]
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, sink=sink, name="second", **SMALL)(codes[1]))
    run = flow.run(engine="ray")
    assert sorted(sink.table().column("n").to_pylist()) == list(range(ROWS))
    assert run.stats().stages[stage].replicas_lost == 2


def test_an_exchange_gets_every_record_once_when_replicas_die_on_both_sides(tmp_path: Path) -> None:
    flow, sink, aside = Flow("dying"), MemorySink(), MemorySink()
    first = consumer(source=SOURCE, sink=aside, name="first")(dying_at(tmp_path, 500, 1500))
    flow.add_consumer(first)
    flow.add_stream(Node(Total(tmp_path), (first.node,), (sink,)))
    run = flow.run(engine="ray")
    assert {row["key"]: row["n"] for row in sink.records()} == TOTALS
    assert sorted(aside.table().column("n").to_pylist()) == list(range(ROWS))
    assert [stage.replicas_lost for stage in run.stats().stages] == [2, 1]


def test_partitions_of_a_range_are_in_order_also_when_a_replica_dies(tmp_path: Path) -> None:
    flow, sink = Flow("dying"), MemorySink()
    first = consumer(source=SOURCE, name="first")(dying_at(tmp_path, 500))
    ordered = Node(Ordered(), (first.node,))
    flow.add_consumer(first)
    last = consumer(source=MemorySource([]), sink=sink, name="last")(same)
    flow.add_stream(Node(last.node.work, (ordered,), (sink,), name="last"))
    flow.run(engine="ray")
    assert sink.table().column("n").to_pylist() == list(range(ROWS - 1, -1, -1))


def test_a_setup_that_ends_its_process_each_time_ends_the_run(tmp_path: Path) -> None:
    class Fatal:
        def setup(self) -> None:
            os._exit(3)

        def process(self, batch: pa.RecordBatch) -> pa.RecordBatch:
            return batch

    flow = Flow("fatal")
    first = consumer(source=SOURCE, num_cpus=0.5)(same)
    flow.add_consumer(first)
    flow.add_consumer(consumer(source=first, name="fatal", num_cpus=0.5, num_replicas=1)(Fatal))
    with pytest.raises(RunFailed, match="3 replicas of 'fatal' died in set-up"):
        flow.run(engine="ray")
