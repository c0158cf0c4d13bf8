"""Looking into nested types."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raflow.convert.nested import holds_map, is_untyped, left_open

AT = pa.timestamp("us")
COUNTS = pa.map_(pa.string(), pa.int64())


@pytest.mark.parametrize("around", [lambda kind: kind, pa.list_, lambda kind: pa.struct({"a": kind})])
def test_what_is_inside_is_found(around: type[pa.DataType]) -> None:
    assert holds_map(around(COUNTS))
    assert not holds_map(around(AT))
    assert is_untyped(around(pa.map_(pa.string(), pa.null())))
    assert not is_untyped(around(COUNTS))


def test_values_decide_zones_and_maps_to_anything() -> None:
    declared = pa.struct({"at": AT, "n": COUNTS, "any": pa.map_(pa.string(), pa.list_(pa.null())), "x": pa.date32()})
    is_open = pa.struct({"at": pa.null(), "n": COUNTS, "any": pa.null(), "x": pa.date32()})
    assert left_open(pa.list_(declared)) == pa.list_(is_open)
    assert left_open(pa.map_(pa.string(), AT)) == pa.map_(pa.string(), pa.null())
