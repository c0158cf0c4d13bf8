import struct
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raflow.operators.grouping import Ask, firsts, group, positions, rows_of

NAN = float("nan")
OTHER_NAN = struct.unpack("<d", struct.pack("<Q", 0xFFF8000000000001))[0]

EQUAL = {
    "integers": (pa.array([1, 2, 1, None, None, 2]), [0, 1, 3]),
    "zeros": (pa.array([0.0, -0.0, 1.0, None, 0.0]), [0, 2, 3]),
    "NaNs": (pa.array([NAN, 1.0, -NAN, OTHER_NAN, None]), [0, 1, 4]),
    "halves": (pa.array([np.float16(0.0), np.float16(-0.0), None], pa.float16()), [0, 2]),
    "nulls": (pa.nulls(3), [0]),
    "texts": (pa.array(["a", "", None, "a"]), [0, 1, 2]),
    "categories": (pa.array(["a", "b", "a", None]).dictionary_encode(), [0, 1, 3]),
    "decimals": (pa.array([Decimal("1.50"), None, Decimal("1.5")]), [0, 1]),
    "lists": (pa.array([[1, 2], [], None, [1, None], [1, 2], [], None]), [0, 1, 2, 3]),
    "lists that differ in where they end": (pa.array([[[1], [2]], [[1, 2]], [[1], [2]]]), [0, 1]),
    "lists of floats": (pa.array([[0.0], [-0.0], [NAN], [NAN]]), [0, 2]),
    "large lists": (pa.array([["a"], ["a"], None], pa.large_list(pa.string())), [0, 2]),
    "fixed size lists": (pa.array([[1, 2], None, [1, 2]], pa.list_(pa.int8(), 2)), [0, 1]),
    "maps": (pa.array([[("a", 1)], [], [("a", 1)], None], pa.map_(pa.string(), pa.int8())), [0, 1, 3]),
    "structs": (pa.array([{"a": 1, "b": [1]}, {"a": None, "b": [1]}, None, {"a": 1, "b": [1]}]), [0, 1, 2]),
    "structs of nulls": (pa.array([{"a": None}, None, {"a": None}], pa.struct([("a", pa.int8())])), [0, 1]),
    "structs of nothing": (pa.array([{}, None, {}], pa.struct([])), [0, 1]),
    "extensions": (pa.array([b"a" * 16, None, b"a" * 16], pa.uuid()), [0, 1]),
    "durations": (pa.array([1, 2, 1], pa.duration("s")), [0, 1]),
}


@pytest.mark.parametrize("name", EQUAL)
def test_equal_values_are_one_group_whatever_their_type(name: str) -> None:
    values, expected = EQUAL[name]
    assert firsts([pa.chunked_array([values])]).to_pylist() == expected


@pytest.mark.parametrize("name", EQUAL)
def test_values_in_several_chunks_and_in_slices_are_the_same_values(name: str) -> None:
    values, expected = EQUAL[name]
    chunks = pa.chunked_array([pa.concat_arrays([values, values]).slice(len(values), 1), values.slice(1)])
    assert firsts([chunks]).to_pylist() == expected


@pytest.mark.parametrize("name", EQUAL)
def test_a_group_keeps_its_key_and_the_type_of_it(name: str) -> None:
    values, expected = EQUAL[name]
    table = pa.table({"key": values, "other": [7] * len(values)})
    keys, [count] = group(table, ["other", "key"], [Ask(positions(len(values)), "count")])
    assert keys.schema == table.select(["other", "key"]).schema
    assert sorted(_plain(keys.column("key"))) == sorted(_plain(values.take(pa.array(expected))))
    assert sum(count.to_pylist()) == len(values)


@pytest.mark.parametrize("name", EQUAL)
def test_no_rows_are_no_groups(name: str) -> None:
    table = pa.table({"key": EQUAL[name][0].slice(0, 0)})
    keys, [count] = group(table, ["key"], [Ask(positions(0), "count")])
    assert keys.num_rows == len(count) == 0
    assert keys.schema == table.schema


def test_the_first_rows_are_in_order_though_groups_have_none() -> None:
    keys = [pa.chunked_array([[0, 0, 1]]), pa.chunked_array([[0.0, 1.5, 0.0]])]
    assert firsts(keys).to_pylist() == [0, 1, 2]


def test_without_keys_all_rows_are_one_group() -> None:
    keys, [count] = group(pa.table({"a": [1, 2, 3]}), [], [Ask(positions(3), "count")])
    assert count.to_pylist() == [3]
    assert keys.num_columns == 0


def test_the_rows_of_each_group_keep_their_order() -> None:
    table = pa.table({"key": ["b", "a", "b", "a", "b"]})
    _, [lists] = group(table, ["key"], [Ask(positions(5), "list")])
    rows = rows_of(lists)
    assert rows.order.tolist() == [0, 2, 4, 1, 3]
    assert rows.lengths.tolist() == [3, 2]
    assert rows.groups.tolist() == [0, 0, 0, 1, 1]


def _plain(values: Any) -> list[str]:
    return [repr(value).replace("-0.0", "0.0") for value in values.to_pylist()]
