from __future__ import annotations

from collections.abc import AsyncIterator, Generator, Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, Field

from raflow.convert import Encoded, concat, encode, encode_batch, returned_schema
from raflow.errors import InvalidProcessor, RecordError, SchemaError
from raflow.schema import fix, is_fixed


class Size(Enum):
    BIG = 3


@dataclass
class Point:
    x: int
    y: float = 0.0


@dataclass
class Shape:
    name: str
    points: list[Point]
    tags: set[str] = field(default_factory=set)
    sizes: dict[str, int] = field(default_factory=dict)
    extra: Any = None


class Model(BaseModel):
    number: int = Field(alias="no")
    size: Size = Size.BIG


KEY = UUID("12345678-1234-5678-1234-567812345678")


def rows(encoded: Encoded) -> list[dict[str, Any]]:
    assert encoded.rejected == []
    assert encoded.batch is not None
    return encoded.batch.to_pylist()


def errors(encoded: Encoded) -> dict[int, str]:
    assert all(isinstance(error, RecordError) for _, error in encoded.rejected)
    return {index: str(error) for index, error in encoded.rejected}


def test_dicts_become_columns_in_the_order_of_their_keys() -> None:
    encoded = encode([{"b": 1, "a": "x"}, {"b": 2, "a": None}], None)
    assert encoded.batch == pa.record_batch({"b": [1, 2], "a": ["x", None]})


def test_keys_are_united_and_missing_ones_are_null() -> None:
    assert rows(encode([{"a": 1}, {"b": 2}, {}], None)) == [
        {"a": 1, "b": None},
        {"a": None, "b": 2},
        {"a": None, "b": None},
    ]


def test_none_drops_and_lists_flatten_one_level() -> None:
    assert rows(encode([None, {"a": 1}, [{"a": 2}, None, {"a": 3}], []], None)) == [
        {"a": 1},
        {"a": 2},
        {"a": 3},
    ]
    assert encode([None, []], None) == Encoded(None, [])
    assert encode([], None) == Encoded(None, [])


def test_dataclasses_models_and_dicts_mix() -> None:
    assert rows(encode([Point(1, 2.0), {"x": 3}, Model(no=7)], None)) == [
        {"x": 1, "y": 2.0, "no": None, "size": None},
        {"x": 3, "y": None, "no": None, "size": None},
        {"x": None, "y": None, "no": 7, "size": 3},
    ]


def test_records_of_one_type_become_columns() -> None:
    assert rows(encode([Point(1), Point(2, 3.0)], None)) == [{"x": 1, "y": 0.0}, {"x": 2, "y": 3.0}]
    assert rows(encode([Model(no=1), Model(no=2)], returned_schema(Model))) == [
        {"no": 1, "size": 3},
        {"no": 2, "size": 3},
    ]


def test_a_model_with_extra_fields_keeps_them() -> None:
    class Loose(BaseModel, extra="allow"):
        a: int

    assert rows(encode([Loose(a=1, b=2), Loose(a=3)], None)) == [{"a": 1, "b": 2}, {"a": 3, "b": None}]  # type: ignore[call-arg]


@pytest.mark.parametrize("value", ["ü", b"\xff", 1, 2.5, True, np.float32(1)])
def test_a_plain_value_is_a_record_with_one_column(value: Any) -> None:
    assert rows(encode([value], None)) == [{"value": value}]


@pytest.mark.parametrize(
    ("value", "stored", "kind"),
    [
        (Size.BIG, 3, pa.int64()),
        (KEY, str(KEY), pa.string()),
        (Point(1), {"x": 1, "y": 0.0}, pa.struct([("x", pa.int64()), ("y", pa.float64())])),
        ([Point(1)], [{"x": 1, "y": 0.0}], pa.list_(pa.struct([("x", pa.int64()), ("y", pa.float64())]))),
        ({"k": Size.BIG}, {"k": 3}, pa.struct([("k", pa.int64())])),
        (Model(no=1), {"no": 1, "size": 3}, pa.struct([("no", pa.int64()), ("size", pa.int64())])),
        (np.int32(4), 4, pa.int64()),
        (np.float64(4.5), 4.5, pa.float64()),
        (np.str_("s"), "s", pa.string()),
        (np.bool_(True), True, pa.bool_()),
        (np.datetime64("2024-01-02"), datetime(2024, 1, 2), pa.timestamp("us")),
        (np.array([1.0, 2.0], "float32"), [1.0, 2.0], pa.list_(pa.float32())),
        (np.array([[1], [2]]), [[1], [2]], pa.list_(pa.list_(pa.int64()))),
        (pd.Timestamp("2024-01-02T03:04:05.000001"), datetime(2024, 1, 2, 3, 4, 5, 1), pa.timestamp("us")),
        (pd.NaT, None, pa.null()),
        (pd.NA, None, pa.null()),
        ((1, 2), [1, 2], pa.list_(pa.int64())),
        (bytearray(b"x"), b"x", pa.binary()),
        (pa.scalar(5), 5, pa.int64()),
        (date(2024, 1, 1), date(2024, 1, 1), pa.date32()),
        (timedelta(seconds=1), timedelta(seconds=1), pa.duration("us")),
        (Decimal("1.5"), Decimal("1.5"), pa.decimal128(38, 9)),
        ([], [], pa.list_(pa.null())),
    ],
)
def test_values_inside_of_dicts_are_converted(value: Any, stored: Any, kind: pa.DataType) -> None:
    encoded = encode([{"v": value}], None)
    assert rows(encoded) == [{"v": stored}]
    assert encoded.batch is not None
    assert encoded.batch.schema.field("v").type == kind


LONG = Decimal("1.012345678901234567")


@pytest.mark.parametrize(
    ("values", "hint", "kind"),
    [
        ([Decimal("1.5"), LONG], None, pa.decimal128(38, 18)),
        ([Decimal("1.500000000000000000")], None, pa.decimal128(38, 9)),
        ([LONG, 2, None], None, pa.decimal128(38, 18)),
        ([Decimal("0." + "1" * 18), Decimal(10**24)], None, pa.decimal256(43, 18)),
        ([LONG], fix(pa.field("v", pa.decimal128(38, 9))), pa.decimal128(38, 18)),
        ([Decimal("1.5")], pa.field("v", pa.decimal256(47, 18)), pa.decimal256(47, 18)),
        ([LONG], pa.field("v", pa.decimal256(47, 18)), pa.decimal256(47, 18)),
        ([[LONG]], fix(pa.field("v", pa.list_(pa.decimal128(38, 9)))), pa.list_(pa.decimal256(47, 18))),
        (
            [{"d": LONG, "n": 1}, {"d": Decimal(1)}],
            fix(pa.field("v", pa.struct([("d", pa.decimal128(38, 9)), ("n", pa.float64())]))),
            pa.struct([("d", pa.decimal256(47, 18)), ("n", pa.float64())]),
        ),
    ],
)
def test_decimals_have_as_many_places_as_they_need(values: list[Any], hint: Any, kind: Any) -> None:
    encoded = encode([{"v": value} for value in values], None if hint is None else pa.schema([hint]))
    assert errors(encoded) == {}
    assert encoded.batch is not None
    assert encoded.batch.column("v").type == kind
    assert encoded.batch.column("v").to_pylist()[0] == values[0] or type(values[0]) is dict


def test_a_decimal_that_is_no_number_does_not_keep_others_from_their_places() -> None:
    encoded = encode([{"v": LONG}, {"v": Decimal("NaN")}], None)
    assert errors(encoded).keys() == {1}
    assert encoded.batch is not None
    assert encoded.batch.to_pylist() == [{"v": LONG}]


@pytest.mark.parametrize("value", [{1}, 1j, object(), {1: 2}, [{1}], {"a": 1j}, lambda: 1, 2**63, -(2**70), "\ud800"])
def test_a_value_without_arrow_form_rejects_its_record_and_names_the_field(value: Any) -> None:
    encoded = encode([{"v": None}, {"v": value}, {"v": None}], None)
    assert encoded.batch is not None
    assert encoded.batch.num_rows == 2
    assert errors(encoded).keys() == {1}
    assert "field 'v'" in errors(encoded)[1]
    assert "the record: {'v':" in errors(encoded)[1]


@pytest.mark.parametrize("result", [{1: 2}, {1, 2}, object(), (1, 2)])
def test_a_result_that_is_no_record_is_rejected(result: Any) -> None:
    encoded = encode([{"a": 1}, result], None)
    assert "the function returned" in errors(encoded)[1]
    assert encoded.batch is not None
    assert encoded.batch.num_rows == 1


@pytest.mark.parametrize(
    ("values", "bad"),
    [
        ([1, "a", 2], {1}),
        (["a", 1, b"b"], {1, 2}),
        ([True, 1], {1}),
        ([1, True], {1}),
        ([date(2024, 1, 1), datetime(2024, 1, 1)], {1}),
        ([datetime(2024, 1, 1), datetime(2024, 1, 1, tzinfo=timezone.utc)], {1}),
        ([[1], ["a"], [2.5]], {1}),
        ([{"a": 1}, {"a": "x"}, {"b": 1}], {1}),
        ([1, [1]], {1}),
        ([[1], 1], {1}),
        ([None, Decimal(1), 1.5], {2}),
        ([["a"], ["a", b"b"]], {1}),
        ([[1], [1, True]], {1}),
        ([{"a": [1]}, {"a": [1, "x"]}], {1}),
    ],
)
def test_the_first_value_decides_the_kind_and_others_are_rejected(values: list[Any], bad: set[int]) -> None:
    encoded = encode([{"v": value} for value in values], None)
    assert errors(encoded).keys() == bad
    assert encoded.batch is not None
    assert encoded.batch.num_rows == len(values) - len(bad)


def test_the_hint_decides_the_kind_before_the_first_value() -> None:
    encoded = encode([{"v": "a"}, {"v": 1}], pa.schema([("v", pa.int64())]))
    assert errors(encoded) == {0: "field 'v' is string 'a' where int64 is expected; the record: {'v': 'a'}"}
    assert encoded.batch == pa.record_batch({"v": [1]})


@pytest.mark.parametrize(
    ("hint", "values", "kind"),
    [
        (pa.null(), [1], pa.int64()),
        (pa.int64(), [1, 2.5], pa.float64()),
        (pa.float64(), [1, 2], pa.float64()),
        (pa.float64(), [2**53 + 1], pa.float64()),
        (pa.int64(), [None], pa.int64()),
        (pa.int32(), [1], pa.int64()),
        (pa.list_(pa.int64()), [[1.5]], pa.list_(pa.float64())),
        (pa.list_(pa.float64()), [[1]], pa.list_(pa.float64())),
        (pa.list_(pa.null()), [["a"]], pa.list_(pa.string())),
        (pa.struct([("a", pa.int64())]), [{"b": 1}], pa.struct([("b", pa.int64())])),
        (pa.map_(pa.string(), pa.int64()), [{"b": 1}], pa.map_(pa.string(), pa.int64())),
        (pa.timestamp("us", "UTC"), [datetime(2024, 1, 1, tzinfo=timezone.utc)], pa.timestamp("us", "UTC")),
        (pa.large_string(), ["a"], pa.large_string()),
    ],
)
def test_types_widen_where_values_need_it(hint: pa.DataType, values: list[Any], kind: pa.DataType) -> None:
    encoded = encode([{"v": value} for value in values], pa.schema([("v", hint)]))
    assert encoded.rejected == []
    assert encoded.batch is not None
    assert encoded.batch.schema.field("v").type == kind


def test_a_fixed_type_never_widens() -> None:
    encoded = encode([{"v": 1}, {"v": 2.0}, {"v": 2.5}], pa.schema([fix(pa.field("v", pa.int64()))]))
    assert encoded.batch == pa.record_batch({"v": [1, 2]})
    assert errors(encoded).keys() == {2}


def test_a_fixed_type_holds_all_the_way_down() -> None:
    hint = pa.schema([fix(pa.field("v", pa.list_(pa.struct([("a", pa.list_(pa.int64()))]))))])
    good, bad = (
        [{"a": [1, 2]}, {"a": None}],
        [[{"a": [1.5]}], [{"a": [True]}], [{"b": 1}], [1], {"a": [1]}, 1],
    )
    encoded = encode([{"v": good}, *({"v": each} for each in bad)], hint)
    assert encoded.batch is not None
    assert encoded.batch.column("v").to_pylist() == [good]
    assert errors(encoded).keys() == set(range(1, len(bad) + 1))


def test_aware_datetimes_are_stored_in_utc() -> None:
    zone = timezone(timedelta(hours=2))
    encoded = encode([{"at": datetime(2024, 1, 1, 2, tzinfo=zone)}], None)
    assert encoded.batch is not None
    assert encoded.batch.schema.field("at").type == pa.timestamp("us", "UTC")
    assert rows(encoded)[0]["at"] == datetime(2024, 1, 1, tzinfo=timezone.utc)


@dataclass
class Loose:
    anything: dict[str, Any] = field(default_factory=dict)
    times: dict[str, datetime] = field(default_factory=dict)
    inner: list[Inner] = field(default_factory=list)


@dataclass
class Inner:
    at: datetime
    counts: dict[str, int]
    anything: dict[str, Any]


def test_values_decide_the_types_of_maps_to_anything_and_zones_in_maps() -> None:
    at = datetime(2024, 1, 1, tzinfo=timezone.utc)
    hint = returned_schema(Loose)
    encoded = encode([Loose({"a": 1, "b": "x"}, {"k": at}, [Inner(at, {"n": 1}, {"z": 1.5})]), Loose()], hint)
    assert rows(encoded) == [
        {
            "anything": {"a": 1, "b": "x"},
            "times": [("k", at)],
            "inner": [{"at": at, "counts": [("n", 1)], "anything": {"z": 1.5}}],
        },
        {"anything": {"a": None, "b": None}, "times": [], "inner": []},
    ]
    assert encoded.batch is not None
    later = encode([Loose(times={"k": at, "n": at.replace(tzinfo=None)}), Loose(times={"m": at})], encoded.batch.schema)
    assert errors(later).keys() == {0}


def test_every_reject_has_its_position_in_the_results() -> None:
    results = [None, [{"a": 1}, {"a": "x"}], {"a": 2}, {"a": 1j}, {1: 1}, {"a": 2**64}]
    encoded = encode(results, None)
    assert [index for index, _ in encoded.rejected] == [1, 3, 4, 5]
    assert encoded.batch == pa.record_batch({"a": [1, 2]})


def test_records_without_fields_keep_their_number() -> None:
    encoded = encode([{}, {}], None)
    assert encoded.batch is not None
    assert (encoded.batch.num_rows, encoded.batch.num_columns) == (2, 0)


def test_nan_stays_nan() -> None:
    encoded = encode([{"a": float("nan")}, {"a": None}], None)
    assert encoded.batch is not None
    assert encoded.batch.column(0).null_count == 1


@pytest.mark.parametrize(
    "annotation",
    [
        Point,
        Point | None,
        list[Point],
        Iterator[Point],
        Generator[Point, None, None],
        AsyncIterator[Point],
        list[Point] | None,
    ],
)
def test_the_return_annotation_fixes_the_columns(annotation: Any) -> None:
    schema = returned_schema(annotation)
    assert schema == pa.schema([("x", pa.int64()), ("y", pa.float64())])
    assert all(is_fixed(each) for each in schema)


@pytest.mark.parametrize(
    "annotation", [dict, dict[str, Any], None, str, pa.Table, pd.DataFrame, Any, Point | Model, list]
)
def test_other_return_annotations_leave_the_columns_to_the_values(annotation: Any) -> None:
    assert returned_schema(annotation) is None


def test_fields_that_may_hold_anything_are_not_fixed() -> None:
    schema = returned_schema(Shape)
    assert schema is not None
    assert schema.field("extra").type == pa.null()
    assert not is_fixed(schema.field("extra"))
    assert schema.field("sizes").type == pa.map_(pa.string(), pa.int64())


def test_a_returned_field_without_arrow_type_is_refused() -> None:
    @dataclass
    class Odd:
        z: complex

    with pytest.raises(InvalidProcessor, match=r"Odd\.z"):
        returned_schema(list[Odd])


def test_declared_sets_maps_and_nested_records_are_stored() -> None:
    shape = Shape("s", [Point(1)], {"t"}, {"a": 1}, extra=5)
    encoded = encode([shape], returned_schema(Shape))
    assert rows(encoded) == [
        {"name": "s", "points": [{"x": 1, "y": 0.0}], "tags": ["t"], "sizes": [("a", 1)], "extra": 5}
    ]


TABLE = pa.table({"a": pa.chunked_array([[1], [2, 3]]), "b": pa.chunked_array([["x"], ["y", "ü"]])})


@pytest.mark.parametrize(
    "result",
    [
        TABLE,
        TABLE.combine_chunks().to_batches()[0],
        TABLE.to_pandas(),
        TABLE.to_pandas().set_index(pd.Index([5, 6, 7])),
        pl.DataFrame({"a": [1, 2, 3], "b": ["x", "y", "ü"]}),
        TABLE.to_pylist(),
        iter(TABLE.to_pylist()),
        iter(TABLE.to_batches()),
        [TABLE.slice(0, 1), TABLE.slice(1).to_pandas()],
    ],
)
def test_batch_results_of_every_kind_become_one_batch(result: Any) -> None:
    encoded = encode_batch(result, None)
    assert encoded.batch is not None
    assert encoded.batch.schema == pa.schema([("a", pa.int64()), ("b", pa.string())])
    assert encoded.batch.to_pylist() == TABLE.to_pylist()


def test_pandas_oddities_become_plain_columns() -> None:
    frame = pd.DataFrame(
        {
            "none": ["a", None],
            "nan": [1.0, float("nan")],
            "zone": pd.Series([pd.Timestamp("2024-01-01", tz="Europe/Berlin"), pd.NaT], index=["i", "j"]),
            "category": pd.Categorical(["x", None]),
        },
        index=["i", "j"],
    )
    encoded = encode_batch(frame, None)
    assert rows(encoded)[1] == {"none": None, "nan": None, "zone": None, "category": None}
    assert encoded.batch is not None
    assert encoded.batch.schema.field("category").type == pa.string()
    assert encoded.batch.schema.metadata is None


def test_empty_batch_results() -> None:
    assert encode_batch(None, None) == Encoded(None, [])
    assert encode_batch([], None) == Encoded(None, [])
    for empty in (
        TABLE.slice(0, 0),
        pa.table({"a": pa.chunked_array([], pa.int64())}),
        pd.DataFrame({"a": []}),
    ):
        encoded = encode_batch(empty, None)
        assert encoded.batch is not None
        assert encoded.batch.num_rows == 0
        assert "a" in encoded.batch.schema.names


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (pd.DataFrame({"a": [1, "x"]}), "pandas.DataFrame cannot become Arrow columns"),
        (
            pa.RecordBatch.from_arrays([pa.array([1]), pa.array([2])], names=["a", "a"]),
            "several columns of one name",
        ),
        ([TABLE, pa.table({"a": ["x"]})], "field 'a'"),
    ],
)
def test_batch_results_that_are_no_columns_say_why(result: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        encode_batch(result, None)


def test_concat_widens() -> None:
    whole = concat([pa.record_batch({"a": [1]}), pa.record_batch({"a": [2.5], "b": ["x"]})])
    assert whole == pa.record_batch({"a": [1.0, 2.5], "b": [None, "x"]})
    assert concat([]) is None
