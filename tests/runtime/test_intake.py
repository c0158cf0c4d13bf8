"""What is decided of a run before data moves: which input of a join every partition has."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from raflow import Flow
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.operators.contract import Even, Everywhere, Hash, Route, Wide
from raflow.runtime import intake
from raflow.runtime.ledger import Ledger
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


def test_an_input_of_unknown_size_is_not_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MemorySource, "_split", lambda source, start: Split("all", [start, ROWS["small"]]))
    assert routes(joined("small", "small", "inner"), Ledger.create(str(tmp_path), "joined")) == HASHED
