"""What is decided of a run before data moves: which input of a join every partition has."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from raflow import Flow, FlowOptions, Stream, consumer
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.errors import ResumeError
from raflow.metrics import Status
from raflow.operators.contract import Even, Everywhere, Hash, Route, Wide
from raflow.runtime import intake
from raflow.runtime.entry import EntryRun
from raflow.runtime.ledger import Ledger
from raflow.runtime.records import UnitRecord, prepared_event
from raflow.runtime.work import pack_text
from raflow.sinks import SinkContext
from raflow.sources import Split

ROWS = {"small": 100, "large": 100_000}
HASHED = (Hash(("k",)), Hash(("k",)))
ALL_OF_LEFT, ALL_OF_RIGHT = (Everywhere(), Even()), (Even(), Everywhere())


@pytest.fixture(autouse=True)
def limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_SMALL_BYTES", 10_000)


def source(rows: int) -> MemorySource:
    return MemorySource(pa.table({"k": range(rows)}), rows_per_split=50_000)


def joined(left: str, right: str, how: str) -> Flow:
    flow = Flow("joined")
    flow.read(source(ROWS[left])).join(flow.read(source(ROWS[right])), on="k", how=how).write(MemorySink())
    return flow


def routes(flow: Flow, ledger: Ledger, *, resumed: bool = False) -> tuple[Route, ...]:
    found = intake.intake(flow.plan(), ledger, SinkContext(ledger.run_id), resumed=resumed).plan
    (wide,) = (op.work for op in found.ops() if isinstance(op.work, Wide))
    assert [one for stage in found.stages for one in stage.takers.values()] == [wide, wide]
    return wide.routes


@pytest.mark.parametrize(
    ("left", "right", "how", "expected"),
    [
        ("large", "small", "inner", ALL_OF_RIGHT),
        ("small", "large", "inner", ALL_OF_LEFT),
        ("small", "small", "inner", ALL_OF_RIGHT),
        ("large", "large", "inner", HASHED),
        ("large", "small", "left", ALL_OF_RIGHT),
        ("large", "small", "semi", ALL_OF_RIGHT),
        ("large", "small", "anti", ALL_OF_RIGHT),
        ("small", "large", "left", HASHED),
        ("small", "large", "right", ALL_OF_LEFT),
        ("large", "small", "right", HASHED),
        ("small", "small", "outer", HASHED),
    ],
)
def test_a_small_input_of_a_join_goes_everywhere_unless_its_rows_without_partner_count(
    left: str, right: str, how: str, expected: tuple[Route, ...], tmp_path: Path
) -> None:
    assert routes(joined(left, right, how), Ledger.create(str(tmp_path), "joined")) == expected


def test_a_resumed_run_joins_as_it_began(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    flow, ledger = joined("large", "small", "inner"), Ledger.create(str(tmp_path), "joined")
    assert routes(flow, ledger) == ALL_OF_RIGHT
    monkeypatch.setattr(intake, "_SMALL_BYTES", -1)
    assert routes(flow, Ledger(str(tmp_path), ledger.run_id), resumed=True) == ALL_OF_RIGHT


def resumed(began: Stream, now: Stream, folder: Path) -> None:
    """Begin a run of one stream, and resume it with another."""
    ledger = Ledger.create(str(folder), "same")
    intake.begin(began.write(MemorySink()).plan(), ledger, SinkContext(ledger.run_id))
    again = Ledger(str(folder), ledger.run_id)
    intake.resume(now.write(MemorySink()).plan(), again, SinkContext(ledger.run_id))


@dataclass
class Fare:
    fare: float


@dataclass
class Tipped:
    fare: float
    tip: float = 0.0


def amount(record: Fare) -> Fare:
    return record


def tipped(record: Tipped) -> Tipped:
    return record


def trips() -> Stream:
    return Flow("same").read(MemorySource([{"fare": 1.0, "tip": 2.0}]))


def test_a_resumed_run_reads_no_columns_that_it_began_without(tmp_path: Path) -> None:
    resumed(trips().map(tipped, name="f"), trips().map(amount, name="f"), tmp_path)
    with pytest.raises(ResumeError, match=r"'\S*source' now needs 'tip', which .* start a new run"):
        resumed(trips().map(amount, name="f"), trips().map(tipped, name="f"), tmp_path)


def test_a_resumed_run_leaves_out_the_same_records_as_it_began_with(tmp_path: Path) -> None:
    fare, tip = pc.field("fare"), pc.field("tip")
    resumed(trips().select("fare", "tip").filter(fare > 3), trips().select("fare", "tip").filter(fare > 3), tmp_path)
    with pytest.raises(ResumeError, match=r"reads where \(fare > 2\) now, .* where \(fare > 3\); restore the filter"):
        resumed(
            trips().select("fare", "tip").filter(fare > 3), trips().select("fare", "tip").filter(fare > 2), tmp_path
        )
    with pytest.raises(ResumeError, match=r"reads all records now, .* those where \(tip > 3\)"):
        resumed(trips().select("fare", "tip").filter(tip > 3), trips().select("fare", "tip"), tmp_path)


def test_a_run_of_which_the_condition_is_not_known_is_resumed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "_said", lambda condition: None)
    resumed(
        trips().select("fare", "tip").filter(pc.field("fare") > 3),
        trips().select("fare", "tip").filter(pc.field("fare") > 2),
        tmp_path,
    )


def test_an_input_of_unknown_size_is_not_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemorySource, "_split", lambda source, start: Split("all", [start, ROWS["small"]]))
    assert routes(joined("small", "small", "inner"), Ledger.create(str(tmp_path), "joined")) == HASHED


def halves(record: dict[str, Any]) -> dict[str, Any]:
    return {"n": record["n"] / 2}


def publish(entry: EntryRun, unit: int, values: pa.RecordBatch, ledger: Ledger) -> None:
    """Write a unit as a run does, into the folder and into the ledger."""
    (sink,) = entry.sinks
    writer = sink.open(SinkContext(ledger.run_id))
    writer.begin(str(unit), 1)
    writer.write(values)
    record = UnitRecord(1, (tuple(writer.prepare()),), {entry.writers[0].name: pack_text(values.schema) or ""})
    ledger.record([prepared_event(entry.name, unit, record)])
    sink.commit(record.parts[0])
    ledger.record([{"event": "committed", "op": entry.name, "unit": unit}])


def test_a_resumed_run_does_units_again_that_were_written_before_the_schema_widened(tmp_path: Path) -> None:
    out, flow = tmp_path / "out", Flow("halves", FlowOptions(ledger_url=str(tmp_path / "ledger")))
    source = MemorySource([{"n": n} for n in range(3)], rows_per_split=1)
    flow.add_consumer(consumer(source=source, sink=ParquetFiles(out), name="halves")(halves))
    ledger = Ledger.create(str(tmp_path / "ledger"), "halves")
    began = intake.intake(flow.plan(), ledger, SinkContext(ledger.run_id), resumed=False)
    (entry,) = began.entries.values()
    publish(entry, 0, pa.record_batch({"n": pa.array([0])}), ledger)
    wide = pa.record_batch({"n": pa.array([0.5])})
    ledger.record([{"event": "agreed", "op": entry.writers[0].name, "value": pack_text(wide.schema)}])
    publish(entry, 1, wide, ledger)
    ledger.end(Status.FAILED)  # before it has noted that unit 0 is to be repeated

    flow.run(engine="local", resume="last")
    tables = [pq.read_table(path) for path in out.glob("*.parquet")]
    assert {table.schema.field("n").type for table in tables} == {pa.float64()}
    assert sorted(n for table in tables for n in table["n"].to_pylist()) == [0, 0.5, 1]
