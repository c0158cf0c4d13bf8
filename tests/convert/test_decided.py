"""What a record type decides of a type, and what stays as it was found."""

from __future__ import annotations

import pyarrow as pa
import pytest

from raflow.convert import decided

ANY, AT, ZONED = pa.null(), pa.timestamp("us"), pa.timestamp("us", "UTC")


def to(item: pa.DataType) -> pa.DataType:
    return pa.map_(pa.string(), item)


@pytest.mark.parametrize(
    ("found", "wanted", "kind"),
    [
        (pa.string(), pa.date32(), pa.date32()),
        (pa.int64(), ANY, pa.int64()),
        (pa.timestamp("s", "UTC"), AT, ZONED),
        (pa.timestamp("ns"), AT, pa.timestamp("ns")),
        (pa.date32(), AT, AT),
        (pa.null(), AT, pa.null()),
        (pa.int64(), AT, pa.int64()),
        (pa.list_(pa.timestamp("s")), pa.list_(AT), pa.list_(AT)),
        (pa.string(), pa.list_(ANY), pa.list_(ANY)),
    ],
)
def test_what_is_open_is_as_it_was_found(found: pa.DataType, wanted: pa.DataType, kind: pa.DataType) -> None:
    assert decided(found, wanted) == kind


def test_a_record_has_the_fields_of_its_type_whatever_was_found() -> None:
    found = pa.struct({"unwanted": pa.int64(), "at": pa.timestamp("s"), "any": pa.string()})
    wanted = pa.struct({"name": pa.string(), "at": AT, "any": ANY})
    assert decided(found, wanted) == pa.struct({"name": pa.string(), "at": AT, "any": pa.string()})
    assert decided(pa.null(), wanted) == pa.struct({"name": pa.string(), "at": ANY, "any": ANY})


@pytest.mark.parametrize(
    ("found", "item", "kind"),
    [
        ({"a": pa.timestamp("s"), "b": pa.null()}, AT, to(AT)),
        ({"a": pa.timestamp("s"), "b": pa.timestamp("s", "UTC")}, AT, to(AT)),
        ({"a": pa.string(), "b": pa.timestamp("s", "UTC")}, AT, to(ZONED)),
        ({"a": pa.int64(), "b": pa.float64()}, ANY, to(pa.float64())),
        ({}, AT, to(ANY)),
        ({"a": pa.list_(pa.timestamp("s"))}, pa.list_(AT), to(pa.list_(AT))),
    ],
)
def test_a_map_has_any_keys(found: dict[str, pa.DataType], item: pa.DataType, kind: pa.DataType) -> None:
    assert decided(pa.struct(found), to(item)) == kind
    assert decided(kind, to(item)) == kind


def test_there_is_no_map_to_anything_of_several_types() -> None:
    found = pa.struct({"a": pa.int64(), "b": pa.string()})
    assert decided(found, to(ANY)) == found
