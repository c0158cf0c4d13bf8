"""Values that Arrow's JSON parser does not have, or of which it loses something."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta, timezone
from typing import Any

import pyarrow as pa
import pytest

from raflow.convert.json_lines import read_lines
from raflow.convert.json_values import converted, readable, seen


def read(value: str, kind: pa.DataType) -> Any:
    table = read_lines(f'{{"v": {value}}}\n{{}}'.encode(), pa.schema({"v": readable(kind)}))
    array = converted(table.column("v").combine_chunks(), kind)
    array.validate(full=True)
    found, absent = array.to_pylist()
    assert (array.type, absent) == (kind, None)
    return found


AT = datetime(2024, 1, 1, 8, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("value", "kind", "expected"),
    [
        ('"2024-01-01T10:00:00+02:00"', pa.timestamp("us", "UTC"), AT),
        ('"2024-01-01T08:00:00.5"', pa.timestamp("us"), datetime(2024, 1, 1, 8, microsecond=500_000)),
        ('"2024-02-29"', pa.date32(), date(2024, 2, 29)),
        ('"10:00:00.25"', pa.time64("us"), time(10, microsecond=250_000)),
        ('"10:00"', pa.time32("s"), time(10)),
        ("90.000005", pa.duration("us"), timedelta(seconds=90, microseconds=5)),
        ("-1", pa.duration("s"), timedelta(seconds=-1)),
        ('"aGk="', pa.binary(), b"hi"),
        ('[{"b": "aGk=", "t": "10:00"}]', pa.list_(pa.struct({"b": pa.binary(), "t": pa.time64("us")})), None),
    ],
)
def test_values_become_what_is_wanted(value: str, kind: pa.DataType, expected: Any) -> None:
    assert read(value, kind) == (expected or [{"b": b"hi", "t": time(10)}])


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        ('"2024-01-01T10:00:00Z"', pa.timestamp("us")),
        ('"2024-01-01T10:00:00"', pa.timestamp("us", "UTC")),
        ('"25:00"', pa.time64("us")),
        ('"10:00:00Z"', pa.time64("us")),
        ('"PT90S"', pa.duration("us")),
        ("1e300", pa.duration("us")),
        ('"hi"', pa.binary()),
    ],
)
def test_a_value_that_is_not_of_the_type_is_invalid(value: str, kind: pa.DataType) -> None:
    with pytest.raises(pa.ArrowInvalid):
        read(value, kind)


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (["2024-01-01", None, "2024-01-01T10:00:00"], pa.timestamp("s")),
        ([None, "2024-01-01T10:00:00Z", "2024-01-01T10:00:00+02:00"], pa.timestamp("s", "UTC")),
        (["2024-01-01T10:00:00", "2024-01-01T10:00:00.123"], pa.timestamp("us")),
        (["2024-01-01T10:00:00.123456789Z"], pa.timestamp("ns", "UTC")),
        (["2024-01-01T10:00:00Z", "2024-01-01T10:00:00"], pa.string()),
        (["2024-01-01", "soon"], pa.string()),
        (["10:00:00", None], pa.string()),
        ([None], pa.string()),
    ],
)
def test_texts_that_are_timestamps_are_seen_wherever_they_stand(texts: list[str | None], kind: pa.DataType) -> None:
    array = pa.array(texts, pa.string())
    assert seen(array) == kind
    lists = pa.ListArray.from_arrays([0, len(array)], pa.StructArray.from_arrays([array], ["at"]))
    assert seen(lists) == pa.list_(pa.struct({"at": kind}))
