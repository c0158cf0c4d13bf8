from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from raflow.convert import check, encode, returned_schema, shape_of
from raflow.schema import conform, merge

LONG = st.integers(-(2**63), 2**63 - 1)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
DECIMAL = st.decimals(-(10**20), 10**20, places=9)


class Level(Enum):
    LOW = 1
    HIGH = 2


@dataclass(frozen=True)
class Inner:
    count: int
    label: str | None


class Part(BaseModel):
    sizes: list[int]
    maybe: float | None


@dataclass
class Row:
    number: int
    real: float
    flag: bool
    text: str
    raw: bytes
    moment: datetime
    instant: datetime
    day: date
    clock: time
    span: timedelta
    money: Decimal
    key: UUID
    level: Level
    inner: Inner
    part: Part
    inners: list[Inner]
    pair: tuple[float, ...]
    words: set[str]
    counts: dict[str, int]
    moments: list[datetime]
    maybe: int | None


MOMENTS = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30))
INNERS = st.builds(Inner, LONG, st.none() | TEXT)
PARTS = st.builds(Part, sizes=st.lists(LONG, max_size=3), maybe=st.none() | st.floats(allow_nan=False))
ROWS = st.builds(
    Row,
    number=LONG,
    real=st.floats(allow_nan=False),
    flag=st.booleans(),
    text=TEXT,
    raw=st.binary(max_size=8),
    moment=MOMENTS,
    instant=MOMENTS.map(lambda moment: moment.replace(tzinfo=timezone.utc)),
    day=st.dates(),
    clock=st.times(),
    span=st.timedeltas(timedelta(days=-(10**6)), timedelta(days=10**6)),
    money=DECIMAL,
    key=st.uuids(),
    level=st.sampled_from(Level),
    inner=INNERS,
    part=PARTS,
    inners=st.lists(INNERS, max_size=3),
    pair=st.lists(st.floats(allow_nan=False), max_size=3).map(tuple),
    words=st.sets(TEXT, max_size=3),
    counts=st.dictionaries(TEXT, LONG, max_size=3),
    moments=st.lists(MOMENTS, max_size=2),
    maybe=st.none() | LONG,
)


@settings(max_examples=150, deadline=None)
@given(st.lists(ROWS, min_size=1, max_size=5))
def test_what_is_encoded_decodes_to_the_same_records(rows: list[Row]) -> None:
    agreed = returned_schema(Row)
    assert agreed is not None
    encoded = encode(rows, agreed)
    assert encoded.rejected == []
    assert encoded.batch is not None
    batch = conform(encoded.batch, merge([agreed, encoded.batch.schema]))
    shape = shape_of(Row)
    assert shape.columns is not None
    check(shape.columns, batch.schema)
    assert list(shape.decode(batch).values) == rows


JSON = st.recursive(
    st.none() | st.booleans() | LONG | st.floats() | TEXT | st.binary(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.none() | st.dictionaries(st.sampled_from("abc"), JSON, max_size=3), max_size=6))
def test_any_dicts_either_fit_or_are_rejected_and_none_is_lost(results: list[Any]) -> None:
    encoded = encode(results, None)
    kept = 0 if encoded.batch is None else encoded.batch.num_rows
    assert kept + len(encoded.rejected) == sum(result is not None for result in results)
    assert len({index for index, _ in encoded.rejected}) == len(encoded.rejected)


@settings(max_examples=100, deadline=None)
@given(st.lists(JSON, min_size=1, max_size=4))
def test_a_batch_fits_the_hint_that_it_gave(values: list[Any]) -> None:
    first = encode([{"v": value} for value in values], None)
    if first.batch is not None:
        kept = first.batch.to_pylist()
        again = encode(kept, first.batch.schema)
        assert again.rejected == []
        assert again.batch is not None
        assert again.batch.schema == first.batch.schema


def test_importing_the_package_imports_no_data_frames() -> None:
    code = "import sys, raflow.convert; sys.exit(bool({'pandas', 'polars', 'ray'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_sliced_batch_decodes_its_own_rows() -> None:
    batch = pa.record_batch({"a": [1, None, 3, 4], "b": [["x"], ["y"], None, ["z"]]})
    values = shape_of(dict).decode(batch.slice(1, 2)).values
    assert values == [{"a": None, "b": ["y"]}, {"a": 3, "b": None}]
