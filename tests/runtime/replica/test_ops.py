"""Batches on their way from op to op."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pyarrow.compute as pc
import pytest

from raflow import Flow
from raflow.connectors.memory import MemorySource
from raflow.errors import RunFailed
from raflow.stream import Stream

RECORDS = MemorySource([{"n": n} for n in range(40)], rows_per_split=10)


@dataclass
class Visit:
    n: int
    country: str | None = None
    paid: bool | None = None


def sparse(record: dict[str, int]) -> dict[str, Any]:
    return {"n": record["n"], **({"country": "x", "paid": True} if record["n"] < 5 else {})}


def declared(record: dict) -> Visit:  # type: ignore[type-arg]
    return sparse(record)  # type: ignore[return-value]


def filled(record: dict[str, int]) -> dict[str, Any]:
    return {"country": None, "paid": None, **sparse(record)}


STEPS: dict[str, Callable[[Stream], Any]] = {
    "select": lambda s: s.select("country", "n").to_arrow(engine="local")["country"].null_count == 35,
    "filter": lambda s: s.filter(pc.field("country") == "x").count(engine="local") == 5,
    "find": lambda s: s.filter(pc.match_substring(pc.field("country"), "x")).count(engine="local") == 5,
    "true": lambda s: s.filter(pc.field("paid")).count(engine="local") == 5,
    "compute": lambda s: s.with_columns(c=pc.coalesce(pc.field("country"), "")).count(engine="local") == 40,
    "groups": lambda s: s.group_by("country").count().count(engine="local") == 2,
    "distinct": lambda s: s.distinct("country").count(engine="local") == 2,
    "sort": lambda s: s.sort("country").select("country").to_arrow(engine="local")["country"][4].as_py() == "x",
}


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("function", [declared, filled], ids=["declared", "said to be none"])
def test_what_a_record_does_not_have_is_null_however_batches_are_cut(function: Any, step: str) -> None:
    assert STEPS[step](Flow().read(RECORDS).map(function))


@pytest.mark.parametrize("step", ["select", "groups"])
def test_a_column_that_a_batch_lacks_and_nobody_declares_is_told_with_what_to_do(step: str) -> None:
    with pytest.raises(RunFailed, match="there is no column 'country' for .*there are: n.*annotate what the function"):
        STEPS[step](Flow().read(RECORDS).map(sparse))


def late(record: dict) -> bool:  # type: ignore[type-arg]
    return bool(record["n"] > 37)


def test_a_filter_function_declares_no_columns() -> None:
    assert Flow().read(RECORDS).filter(late).collect(engine="local") == [{"n": 38}, {"n": 39}]
