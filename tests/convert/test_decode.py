from __future__ import annotations

import dataclasses
import pickle
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, Literal
from uuid import UUID

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict, Field, field_validator

from raflow.convert import check, encode_batch, shape_of
from raflow.errors import InvalidProcessor, RecordError, SchemaError


@dataclass
class Trip:
    zone: int
    fare: float
    tip: float = 0.5


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@dataclass
class Stop:
    name: str
    seconds: int = 60


@dataclass
class Rich:
    colour: Colour
    key: UUID
    mode: Literal["a", "b"]
    tags: set[str]
    pair: tuple[int, ...]
    stops: list[Stop]
    counts: dict[str, int]
    anything: Any
    last: Stop | None = None


class Order(BaseModel):
    number: int
    price: Decimal
    buyer: str | None = None
    city: str = Field("Bonn", alias="town")


TRIPS = pa.record_batch({"fare": [1.5, 2.5], "other": ["x", "y"], "zone": [7, 8]})


def decoded(annotation: Any, batch: pa.RecordBatch) -> list[Any]:
    result = shape_of(annotation).decode(batch)
    assert result.rejected == []
    assert list(result.rows) == list(range(batch.num_rows))
    return list(result.values)


def rejected(annotation: Any, batch: pa.RecordBatch) -> tuple[list[Any], dict[int, str]]:
    result = shape_of(annotation).decode(batch)
    assert all(isinstance(error, RecordError) for _, error in result.rejected)
    assert sorted([*result.rows, *(row for row, _ in result.rejected)]) == list(range(batch.num_rows))
    return list(result.values), {row: str(error) for row, error in result.rejected}


def test_a_dataclass_takes_its_columns_by_name_and_its_defaults() -> None:
    assert decoded(Trip, TRIPS) == [Trip(7, 1.5, 0.5), Trip(8, 2.5, 0.5)]
    assert decoded(list[Trip], TRIPS.slice(1)) == [Trip(8, 2.5, 0.5)]


@pytest.mark.parametrize("annotation", [dict, dict[str, Any], Any, None])
def test_without_a_record_type_records_are_dicts_of_all_columns(annotation: Any) -> None:
    assert shape_of(annotation).columns is None
    assert decoded(annotation, TRIPS)[1] == {"fare": 2.5, "other": "y", "zone": 8}


def test_columns_are_read_only_if_the_record_type_wants_them() -> None:
    columns = shape_of(Trip).columns
    assert columns is not None
    assert columns.names == ["zone", "fare", "tip"]
    assert columns.types == [pa.int64(), pa.float64(), pa.float64()]


def test_columns_of_another_width_are_cast() -> None:
    batch = pa.record_batch(
        {"zone": pa.array([1, 2], pa.int8()), "fare": [3, 4], "tip": pa.array([0, 1], pa.float32())}
    )
    first = decoded(Trip, batch)[0]
    assert first == Trip(1, 3.0, 0.0)
    assert type(first.fare) is float


def test_integers_become_floats_beyond_their_exact_range() -> None:
    batch = pa.record_batch({"zone": [1], "fare": [2**53 + 1], "tip": [0.0]})
    assert decoded(Trip, batch)[0].fare == float(2**53)


def test_a_float_is_an_integer_only_if_it_is_whole() -> None:
    batch = pa.record_batch({"zone": [1.0, 2.5, 3.0, float("nan")], "fare": [1.0] * 4})
    values, errors = rejected(Trip, batch)
    assert [trip.zone for trip in values] == [1, 3]
    assert errors.keys() == {1, 3}
    assert "'zone' of Trip must be int64, found double 2.5" in errors[1]


def test_an_integer_beyond_64_bits_is_rejected() -> None:
    batch = pa.record_batch({"zone": pa.array([1, 2**63], pa.uint64()), "fare": [1.0, 1.0]})
    values, errors = rejected(Trip, batch)
    assert len(values) == 1
    assert "9223372036854775808" in errors[1]


def test_a_null_is_rejected_where_there_is_no_default_and_replaced_where_there_is() -> None:
    batch = pa.record_batch({"zone": [1, None, 3], "fare": [None, 1.0, 1.0], "tip": [1.0, 1.0, None]})
    values, errors = rejected(Trip, batch)
    assert values == [Trip(3, 1.0, 0.5)]
    assert errors.keys() == {0, 1}
    assert "'zone' of Trip must be int64 but is null" in errors[1]


def test_null_is_none_in_an_optional_field_even_with_a_default() -> None:
    @dataclass
    class Row:
        a: int | None
        b: int | None = 5

    assert decoded(Row, pa.record_batch({"a": [None, 1], "b": [2, None]})) == [Row(None, 2), Row(1, None)]
    assert decoded(Row, pa.record_batch({"a": [1]})) == [Row(1, 5)]


def test_nan_stays_nan() -> None:
    (trip,) = decoded(Trip, pa.record_batch({"zone": [1], "fare": [float("nan")]}))
    assert trip.fare != trip.fare


def test_typed_fields_get_their_python_values() -> None:
    row = {
        "colour": "red",
        "key": "12345678123456781234567812345678",
        "mode": "a",
        "tags": ["x", "y"],
        "pair": [1, 2],
        "stops": [{"name": "A", "seconds": 5}, {"name": "B", "seconds": None}],
        "counts": {"k": 1},
        "anything": [1],
        "last": None,
    }
    batch = pa.RecordBatch.from_pylist([row])
    (rich,) = decoded(Rich, batch)
    assert rich.colour is Colour.RED
    assert rich.key == UUID(str(row["key"]))
    assert (rich.tags, rich.pair, rich.counts) == ({"x", "y"}, (1, 2), {"k": 1})
    assert rich.stops == [Stop("A", 5), Stop("B", 60)]
    assert rich.last is None


def test_values_that_a_field_cannot_take_are_rejected_with_field_and_value() -> None:
    @dataclass
    class Row:
        colour: Colour
        mode: Literal[1, 2]

    values, errors = rejected(Row, pa.record_batch({"colour": ["red", "green", "blue"], "mode": [1, 1, 3]}))
    assert values == [Row(Colour.RED, 1)]
    assert "'colour' of Row cannot be 'green'" in errors[1]
    assert "'mode' of Row cannot be 3" in errors[2]


def test_maps_are_dicts_in_every_record_type() -> None:
    maps = pa.array([[("a", 1)], [("b", 2)]], pa.map_(pa.string(), pa.int32()))

    class Model(BaseModel):
        counts: dict[str, int]

    batch = pa.record_batch({"counts": maps})
    assert decoded(Model, batch)[1].counts == {"b": 2}
    assert decoded(dict, batch)[0] == {"counts": {"a": 1}}


def test_every_form_of_dataclass_works() -> None:
    @dataclass(frozen=True)
    class Parent:
        a: int

    @dataclass(frozen=True)
    class Child(Parent):
        b: str = "b"
        total: int = field(init=False, default=3)

    @dataclass(kw_only=True, slots=True)
    class Keywords:
        b: str
        a: int = field(default=9)

    batch = pa.record_batch({"b": ["x", "y"], "a": [1, 2]})
    assert decoded(Child, batch) == [Child(1, "x"), Child(2, "y")]
    assert decoded(Child, batch.select(["a"])) == [Child(1), Child(2)]
    assert decoded(Keywords, batch) == [Keywords(b="x", a=1), Keywords(b="y", a=2)]
    assert decoded(Keywords, batch.select(["b"]))[0].a == 9


def test_a_dataclass_that_refuses_a_record_rejects_only_that_one() -> None:
    @dataclass
    class Positive:
        a: int

        def __post_init__(self) -> None:
            if self.a < 0:
                msg = "negative"
                raise ValueError(msg)

    values, errors = rejected(Positive, pa.record_batch({"a": [1, -1, 2]}))
    assert values == [Positive(1), Positive(2)]
    assert "Positive does not take the record: ValueError: negative; the record: {'a': -1}" in errors[1]


def test_rejects_of_several_causes_keep_their_rows() -> None:
    @dataclass
    class Row:
        a: int
        colour: Colour

    batch = pa.record_batch({"a": [1.5, 1, None, 4], "colour": ["red", "pink", "red", "blue"]})
    result = shape_of(Row).decode(batch)
    assert result.values == [Row(4, Colour.BLUE)]
    assert list(result.rows) == [3]
    assert [row for row, _ in result.rejected] == [0, 1, 2]


class Halt(BaseModel):
    name: str
    seconds: int = 60
    note: str | None = "none"


class Leg(BaseModel):
    first: Halt = Halt(name="start")
    halts: list[Halt] = []
    named: dict[str, Halt] = {}
    stop: Stop | None = None


@dataclass
class Tour:
    legs: list[Leg]
    halt: Halt


HALT, NAME_ALONE = Halt(name="a", note=None), {"name": "a", "seconds": None, "note": None}


@pytest.mark.parametrize(
    "values",
    [
        {"first": NAME_ALONE},
        {"first": None, "halts": [NAME_ALONE, NAME_ALONE]},
        {"named": {"x": NAME_ALONE}},
        {"stop": {"name": "a", "seconds": None}},
    ],
    ids=lambda values: list(values)[-1],
)
def test_nulls_in_a_model_inside_of_a_record_stand_for_its_defaults(values: dict[str, Any]) -> None:
    columns = shape_of(Leg).columns
    assert columns is not None
    schema = pa.schema([(name, columns.field(name).type) for name in values])
    batch = pa.RecordBatch.from_pylist([values], schema=schema)
    found = {
        "first": Leg(first=HALT),
        "halts": Leg(halts=[HALT, HALT]),
        "named": Leg(named={"x": HALT}),
        "stop": Leg(stop=Stop("a")),
    }[list(values)[-1]]
    assert decoded(Leg, batch) == [found]
    outer = pa.schema([("legs", pa.list_(pa.struct(list(schema)))), ("halt", columns.field("first").type)])
    tour = pa.RecordBatch.from_pylist([{"legs": [values], "halt": NAME_ALONE}], schema=outer)
    assert decoded(Tour, tour) == [Tour([found], HALT)]


def test_a_null_in_a_model_inside_of_a_record_is_refused_without_a_default() -> None:
    _, errors = rejected(Leg, pa.RecordBatch.from_pylist([{"first": {"name": None, "seconds": 1}}]))
    assert "first.name" in errors[0]


def test_a_model_takes_aliases_defaults_and_nulls() -> None:
    batch = pa.record_batch({"number": [1, 2], "price": pa.array([Decimal("1.25"), Decimal(2)]), "town": ["Ulm", None]})
    orders = decoded(Order, batch)
    assert [order.city for order in orders] == ["Ulm", "Bonn"]
    assert (orders[0].price, orders[0].buyer) == (Decimal("1.25"), None)
    assert check(shape_of(Order).columns, batch.schema).names == ["number", "price", "town"]


def test_a_model_that_refuses_records_rejects_only_those() -> None:
    class Small(BaseModel):
        a: int = Field(lt=10)

    values, errors = rejected(Small, pa.record_batch({"a": [1, 100, None, 2]}))
    assert [small.a for small in values] == [1, 2]
    assert "field 'a': Input should be less than 10, found 100" in errors[1]


def test_a_validator_that_runs_before_the_type_sees_any_column() -> None:
    class Price(BaseModel):
        euros: float

        @field_validator("euros", mode="before")
        @classmethod
        def without_sign(cls, value: str) -> str:
            return value.strip("€")

    batch = pa.record_batch({"euros": ["€1.5"]})
    check(shape_of(Price).columns, batch.schema)
    assert decoded(Price, batch)[0].euros == 1.5


def test_timestamps_are_cut_to_microseconds_and_keep_their_zone() -> None:
    @dataclass
    class Event:
        at: datetime

    naive = pa.array([1_001, None], pa.timestamp("ns"))
    (event,), _ = rejected(Event, pa.record_batch({"at": naive}))
    assert event.at == datetime(1970, 1, 1, microsecond=1)
    aware = pa.record_batch({"at": naive.drop_null().cast(pa.timestamp("ns", "Europe/Berlin"))})
    assert decoded(Event, aware)[0].at == datetime(1970, 1, 1, microsecond=1, tzinfo=timezone.utc)
    assert decoded(dict, aware)[0]["at"].utcoffset() == timedelta(hours=1)
    nested = pa.record_batch({"x": pa.array([[{"t": 1_001}]], pa.list_(pa.struct([("t", pa.timestamp("ns"))])))})
    assert type(decoded(dict, nested)[0]["x"][0]["t"]) is datetime


def test_a_date_beyond_what_python_has_is_rejected() -> None:
    @dataclass
    class Event:
        day: date

    values, errors = rejected(Event, pa.record_batch({"day": pa.array([0, 10_000_000], pa.date32())}))
    assert values == [Event(date(1970, 1, 1))]
    assert errors.keys() == {1}


def test_a_text_or_bytes_record_is_the_only_column() -> None:
    assert decoded(str, pa.record_batch({"line": ["a", "ü"]})) == ["a", "ü"]
    assert decoded(bytes, pa.record_batch({"line": ["ü"]})) == ["ü".encode()]
    _, errors = rejected(str, pa.record_batch({"line": ["a", None]}))
    assert errors.keys() == {1}
    with pytest.raises(SchemaError, match="exactly one column; there are fare, other, zone"):
        shape_of(str).decode(TRIPS)


@pytest.mark.parametrize("kind", [pa.RecordBatch, pa.Table, pd.DataFrame, pl.DataFrame])
def test_frames_are_one_value_with_all_columns(kind: Any) -> None:
    shape = shape_of(kind)
    decoded = shape.decode(TRIPS)
    assert not shape.per_record
    assert shape.columns is None
    assert isinstance(decoded.values, kind)
    assert decoded.values.shape == (2, 3)


@pytest.mark.parametrize("number", [2**53 + 1, -(2**53) - 1, 2**63 - 1, -(2**63)])
def test_integers_that_no_float_holds_stay_as_they_are_beside_nulls(number: int) -> None:
    batch = pa.record_batch({"id": pa.array([number, None]), "small": [1, None], "whole": [1, 2], "none": [None, None]})
    back = encode_batch(shape_of(pd.DataFrame).decode(batch).values, None).batch
    assert back is not None
    assert back.schema.field("id").type == pa.int64()
    assert back.to_pylist() == batch.to_pylist()


def test_small_integers_beside_nulls_are_floats_in_pandas() -> None:
    batch = pa.record_batch({"n": pa.array([2**53, None]), "none": pa.nulls(2, pa.int64())})
    frame: pd.DataFrame = shape_of(pd.DataFrame).decode(batch).values
    assert [str(kind) for kind in frame.dtypes] == ["float64", "float64"]


def test_empty_and_columnless_batches_decode() -> None:
    assert decoded(Trip, TRIPS.slice(0, 0)) == []
    assert decoded(Order, pa.RecordBatch.from_pylist([], schema=shape_of(Order).columns)) == []
    assert decoded(dict, TRIPS.select([])) == [{}, {}]

    @dataclass
    class Nothing:
        a: int = 1

    assert decoded(Nothing, TRIPS) == [Nothing(), Nothing()]


def test_categories_and_views_are_their_values() -> None:
    batch = pa.record_batch(
        {"c": pa.array(["a", None, "a"]).dictionary_encode(), "v": pa.array(["x"] * 3, pa.string_view())}
    )

    @dataclass
    class Row:
        c: str | None
        v: str

    assert decoded(Row, batch)[1:] == [Row(None, "x"), Row("a", "x")]
    assert decoded(dict, batch)[0] == {"c": "a", "v": "x"}


def test_check_names_every_absent_and_unfit_column_at_once() -> None:
    with pytest.raises(SchemaError) as caught:
        check(shape_of(Trip).columns, pa.schema([("zones", pa.int64()), ("fare", pa.string())]))
    message = str(caught.value)
    assert "there is no column 'zone' (did you mean 'zones'?)" in message
    assert "field 'fare' must be double but the column is string" in message
    assert "The columns are: zones, fare" in message
    assert "'tip'" not in message


@pytest.mark.parametrize(
    ("annotation", "found", "fits"),
    [
        (int, pa.int8(), True),
        (int, pa.float64(), True),
        (float, pa.decimal128(5, 2), True),
        (int, pa.null(), True),
        (int, pa.bool_(), False),
        (int, pa.string(), False),
        (str, pa.large_string(), True),
        (str, pa.dictionary(pa.int8(), pa.string()), True),
        (str, pa.int64(), False),
        (datetime, pa.timestamp("ns", "UTC"), True),
        (datetime, pa.date32(), True),
        (date, pa.timestamp("us"), False),
        (list[float], pa.list_(pa.int32()), True),
        (list[float], pa.list_(pa.string()), False),
        (list[int], pa.int64(), False),
        (dict[str, int], pa.struct([("a", pa.int8())]), True),
        (dict[str, int], pa.struct([("a", pa.string())]), False),
        (Stop, pa.struct([("name", pa.string())]), True),
        (Stop, pa.struct([("seconds", pa.int64())]), False),
        (Any, pa.struct([("a", pa.duration("ns"))]), True),
    ],
)
def test_check_knows_what_can_become_what(annotation: Any, found: pa.DataType, fits: bool) -> None:
    kind = dataclasses.make_dataclass("Kind", [("x", annotation)])
    columns, available = shape_of(kind).columns, pa.schema([("x", found)])
    assert columns is not None
    if fits:
        assert check(columns, available).names == ["x"]
    else:
        with pytest.raises(SchemaError, match="field 'x'"):
            check(columns, available)


def test_a_field_that_cannot_be_a_column_is_named() -> None:
    @dataclass
    class Row:
        z: complex

    with pytest.raises(
        InvalidProcessor, match=r"Row\.z is annotated complex, which cannot be a column; allowed are int"
    ):
        shape_of(Row)


def test_a_type_that_holds_itself_is_refused() -> None:
    with pytest.raises(InvalidProcessor, match="Node holds itself"):
        shape_of(Node)


@dataclass
class Node:
    children: list[Node]


@pytest.mark.parametrize("annotation", [int, set[int], Trip | None, list[int], list[list[Trip]], "Trip", object()])
def test_other_annotations_are_refused_with_what_is_allowed(annotation: Any) -> None:
    with pytest.raises(InvalidProcessor, match=r"a function cannot get .*pa\.RecordBatch"):
        shape_of(annotation)


def test_long_values_are_cut_in_errors() -> None:
    class Model(BaseModel):
        model_config = ConfigDict(str_max_length=5)
        a: str

    _, errors = rejected(Model, pa.record_batch({"a": ["x" * 5_000]}))
    assert len(errors[0]) < 600


def test_shapes_and_errors_survive_pickling() -> None:
    shape = pickle.loads(pickle.dumps(shape_of(Trip)))
    result = shape.decode(pa.record_batch({"zone": [None], "fare": [1.0]}))
    assert "zone" in str(pickle.loads(pickle.dumps(result.rejected[0][1])))


def test_a_map_with_a_key_twice_is_rejected() -> None:
    @dataclass
    class Row:
        counts: dict[str, int]

    maps = pa.array([[("a", 1)], [("a", 1), ("a", 2)]], pa.map_(pa.string(), pa.int64()))
    values, errors = rejected(Row, pa.record_batch({"counts": maps}))
    assert values == [Row({"a": 1})]
    assert "a key twice" in errors[1]


def test_maps_inside_of_lists_and_structs_are_dicts() -> None:
    kind = pa.list_(pa.struct([("m", pa.map_(pa.string(), pa.int64()))]))
    batch = pa.record_batch({"x": pa.array([[{"m": [("a", 1)]}, {"m": None}], None], kind)})
    assert decoded(dict, batch) == [{"x": [{"m": {"a": 1}}, {"m": None}]}, {"x": None}]


@pytest.mark.skipif(not hasattr(pa, "uuid"), reason="this pyarrow has no type for UUIDs")
def test_a_uuid_column_is_text_or_uuids() -> None:
    @dataclass
    class Row:
        key: UUID
        text: str

    key = UUID("12345678123456781234567812345678")
    column = pa.array([key.bytes], pa.uuid())
    batch = pa.record_batch({"key": column, "text": column})
    assert decoded(Row, batch) == [Row(key, str(key))]
    assert decoded(dict, batch)[0]["key"] == str(key)


@dataclass
class Plain:
    zone: int
    fare: float


@dataclass
class Careful(Plain):
    def __post_init__(self) -> None:
        if self.fare < 0:
            msg = "a negative fare"
            raise ValueError(msg)


@dataclass
class OwnInit(Plain):
    def __init__(self, zone: int, fare: float) -> None:
        super().__init__(zone, abs(fare))


@dataclass
class WithFactory(Plain):
    tags: list[str] = field(default_factory=list)


FARES = pa.record_batch({"zone": [1, 2], "fare": [2.5, -1.0]})


@pytest.mark.parametrize("kind", [Plain, dict])
def test_records_without_code_of_their_own_are_made_when_they_are_taken(kind: type) -> None:
    eager, taken = shape_of(kind).decode(FARES), shape_of(kind).decode(FARES, while_taken=True)
    assert isinstance(eager.values, list)
    assert not isinstance(taken.values, list)
    assert list(taken.values) == eager.values
    assert (taken.rows, taken.rejected) == (eager.rows, [])


@pytest.mark.parametrize(
    ("kind", "fares", "rejected"), [(Careful, [2.5], [1]), (OwnInit, [2.5, 1.0], []), (WithFactory, [2.5, -1.0], [])]
)
def test_records_whose_making_runs_code_of_the_user_are_made_before(
    kind: type, fares: list[float], rejected: list[int]
) -> None:
    found = shape_of(kind).decode(FARES, while_taken=True)
    assert [value.fare for value in found.values] == fares
    assert [row for row, _ in found.rejected] == rejected
    assert isinstance(found.values, list)
