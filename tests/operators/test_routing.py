"""How rows are spread over partitions, and the hash that decides it."""

from __future__ import annotations

import datetime
import subprocess
import sys
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.operators import routing
from raflow.operators.contract import Even, Hash, Range, Single
from raflow.operators.hashing import hashes, row_hashes

ROWS = pa.table({"key": [3, 1, None, 2, 3, None], "n": range(6)})
SAME = [
    [
        pa.array([1, 2], pa.int8()),
        pa.array([1, 2], pa.int64()),
        pa.array([1.0, 2.0]),
        pa.array([Decimal(1), Decimal(2)]),
    ],
    [pa.array(["a", "b"]), pa.array(["a", "b"], pa.large_string()), pa.array(["a", "b"]).dictionary_encode()],
    [pa.array([0.0, float("nan")]), pa.array([-0.0, -float("nan")])],
    [
        pa.array([Decimal("0.3")], pa.decimal128(3, 1)),
        pa.array([Decimal("0.30")], pa.decimal128(5, 2)),
        pa.array([0.3]),
    ],
    [
        pa.array([1_700_000_000_006, 1_700_000_000_001, -5], pa.timestamp("ms")).cast(pa.timestamp(unit))
        for unit in ("ms", "us", "ns")
    ],
    [pa.array([datetime.date(2026, 1, 2)]), pa.array([datetime.datetime(2026, 1, 2)], pa.timestamp("ns"))],
    [pa.nulls(1), pa.nulls(1, pa.int64()), pa.nulls(1, pa.string()), pa.nulls(1, pa.list_(pa.int8()))],
]
PRINT = """
import pyarrow as pa
from raflow.operators.hashing import hashes
table = pa.table({"a": [1, 2, None], "b": ["x", None, "z"], "c": [[1], [2, 3], None]})
print(hashes(table, ("a", "b", "c")).tolist())
"""


@pytest.mark.parametrize(
    "columns", SAME, ids=["numbers", "texts", "floats", "decimals", "milliseconds", "times", "nulls"]
)
def test_equal_keys_have_one_hash_whatever_their_type(columns: list[pa.Array]) -> None:
    found = [hashes(pa.table({"key": column}), ("key",)).tolist() for column in columns]
    assert all(one == found[0] for one in found)


@pytest.mark.parametrize("kind", [pa.uint8(), pa.uint32(), pa.uint64()], ids=str)
def test_dictionaries_with_unsigned_indices_have_the_hash_of_their_values(kind: pa.DataType) -> None:
    values = pa.array(["a", None, "b", "a"])
    encoded = values.dictionary_encode().cast(pa.dictionary(kind, pa.string()))
    assert hashes(pa.table({"key": encoded}), ("key",)).tolist() == hashes(pa.table({"key": values}), ("key",)).tolist()


def test_the_hash_is_the_same_in_every_process_and_for_ever() -> None:
    assert hashes(pa.table({"key": [1, 2]}), ("key",)).tolist() == [8873853812651464650, 6216405523665815615]
    printed = {subprocess.check_output([sys.executable, "-c", PRINT], env={"PYTHONHASHSEED": seed}) for seed in "12"}
    assert len(printed) == 1


def test_equal_rows_have_one_hash_whatever_the_order_of_their_columns_and_if_a_null_is_not_even_said() -> None:
    one = pa.table({"a": [1, 2, None], "b": ["x", None, "z"]})
    other = one.select(["b", "a"]).append_column("c", pa.nulls(3, pa.float64()))
    assert row_hashes(one).tolist() == row_hashes(other).tolist()
    assert row_hashes(one).tolist() != row_hashes(one.rename_columns(["b", "a"])).tolist()
    parts = [routing.split(table, Hash(None), 4) for table in (one, other)]
    assert [part["a"].to_pylist() for part in parts[0]] == [part["a"].to_pylist() for part in parts[1]]


@given(st.lists(st.one_of(st.none(), st.integers(0, 9))), st.integers(1, 5))
@settings(deadline=None)
def test_each_row_goes_to_one_partition_in_order_and_equal_keys_to_the_same(keys: list[Any], partitions: int) -> None:
    table = pa.table({"key": pa.array(keys, pa.int64()), "n": range(len(keys))})
    for route in (Hash(("key",)), Even(), Single()):
        parts = routing.split(table, route, partitions)
        assert len(parts) == partitions
        assert sorted(n for part in parts for n in part["n"].to_pylist()) == list(range(len(keys)))
        assert all(part["n"].to_pylist() == sorted(part["n"].to_pylist()) for part in parts)
        if isinstance(route, Hash):
            seen = [set(part["key"].to_pylist()) for part in parts]
            assert sum(map(len, seen)) == len(set(keys))


@given(
    st.lists(st.tuples(st.one_of(st.none(), st.floats(width=32)), st.integers(0, 3)), max_size=60),
    st.integers(1, 5),
    st.sampled_from(["ascending", "descending"]),
)
@settings(deadline=None)
def test_ranges_one_after_the_other_are_the_sorted_whole(rows: list[Any], partitions: int, order: str) -> None:
    table = pa.table(
        {"x": pa.array([x for x, _ in rows], pa.float64()), "y": pa.array([y for _, y in rows], pa.int64())}
    )
    route = Range((("x", order), ("y", "ascending")))
    bounds = routing.bounds(routing.sample(table, route, 20), route, partitions)
    parts = [routing.ordered_by(part, route.by) for part in routing.split(table, route, partitions, bounds)]
    assert repr(pa.concat_tables(parts).to_pylist()) == repr(routing.ordered_by(table, route.by).to_pylist())


def test_few_rows_of_many_units_are_dealt_to_all_partitions() -> None:
    parts = [routing.split(ROWS.slice(unit, 1), Even(), 3, start=unit) for unit in range(6)]
    assert [sum(part[n].num_rows for part in parts) for n in range(3)] == [2, 2, 2]


def test_columns_that_arrow_cannot_take_are_spread_too() -> None:
    table = ROWS.append_column("text", pa.array(list("abcdef"), pa.string_view()))
    parts = routing.split(table, Hash(("key",)), 4)
    assert sorted(text for part in parts for text in part["text"].to_pylist()) == list("abcdef")
