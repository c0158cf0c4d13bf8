from __future__ import annotations

from itertools import combinations_with_replacement

import pyarrow as pa
import pytest

from raflow.operators.hashing import hashes
from raflow.operators.keys import common_type

ONES = [
    *(pa.array([1, 7, None], kind) for kind in (pa.int8(), pa.int64(), pa.uint8(), pa.uint64())),
    *(pa.array([1, 7, None], kind) for kind in (pa.float32(), pa.float64(), pa.decimal128(5, 2), pa.decimal256(50, 3))),
    *(pa.array(["1", "7", None], kind) for kind in (pa.string(), pa.large_string())),
    pa.array(["1", "7", None]).dictionary_encode(),
    *(pa.array([b"1", b"7", None], kind) for kind in (pa.binary(), pa.large_binary(), pa.binary(1))),
    *(pa.array([1, 7, None], pa.int64()).cast(pa.duration("s")).cast(pa.duration(unit)) for unit in ("s", "us", "ns")),
    *(pa.array([1, 7, None], pa.timestamp("s")).cast(pa.timestamp(unit)) for unit in ("s", "ms", "ns")),
    pa.array([1, 7, None], pa.date32()),
    pa.array([1, 7, None], pa.date32()).cast(pa.date64()),
    pa.array([1, 7, None], pa.time32("s")),
    pa.array([1, 7, None], pa.time32("s")).cast(pa.time64("us")),
    pa.array([True, False, None]),
]
PAIRS = list(combinations_with_replacement(ONES, 2))


@pytest.mark.parametrize(("left", "right"), PAIRS, ids=[f"{a.type}-{b.type}" for a, b in PAIRS])
def test_equal_keys_of_one_kind_meet_in_one_partition_and_one_type(left: pa.Array, right: pa.Array) -> None:
    kind = common_type(left.type, right.type)
    assert kind == common_type(right.type, left.type)
    if kind is not None:
        assert left.cast(kind).equals(right.cast(kind))
        found = [hashes(pa.table({"k": one}), ("k",)).tolist() for one in (left, right)]
        assert found[0] == found[1]


@pytest.mark.parametrize(
    ("left", "right", "wide"),
    [
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.uint32(), pa.int8(), pa.int64()),
        (pa.uint64(), pa.int8(), pa.decimal128(20, 0)),
        (pa.int64(), pa.decimal128(5, 2), pa.decimal128(22, 2)),
        (pa.decimal128(38, 0), pa.decimal128(38, 10), pa.decimal256(48, 10)),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.null(), pa.string(), pa.string()),
        (pa.string(), pa.int64(), None),
        (pa.bool_(), pa.int64(), None),
        (pa.string(), pa.binary(), None),
    ],
    ids=str,
)
def test_the_common_type_holds_all_values_of_both(
    left: pa.DataType, right: pa.DataType, wide: pa.DataType | None
) -> None:
    assert common_type(left, right) == common_type(right, left) == wide
