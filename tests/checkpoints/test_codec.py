"""Values come back equal and of the same type; whatever cannot is an error that names its place."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import threading
from collections import Counter, OrderedDict, defaultdict, deque
from collections.abc import Callable
from dataclasses import make_dataclass
from datetime import date, datetime, time, timedelta, timezone
from decimal import Decimal
from fractions import Fraction
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from raflow.checkpoints.codec import decode, encode
from raflow.errors import CorruptCheckpoint, NotSerializable, ResumeError
from tests.checkpoints import shapes

ROOT = Path(__file__).parents[2]
BERLIN = ZoneInfo("Europe/Berlin")


def again(value: Any) -> Any:
    return decode(encode(value))


def same(one: Any, other: Any) -> bool:
    """Whether two values are equal and of the same types throughout."""
    if type(one) is not type(other):
        return False
    if isinstance(one, float):
        return (math.isnan(one) and math.isnan(other)) or (
            one == other and math.copysign(1, one) == math.copysign(1, other)
        )
    if isinstance(one, shapes.Trip):
        return same(vars(one), vars(other))
    if type(one) is dict:
        return len(one) == len(other) and all(same(a, b) for a, b in zip(one.items(), other.items(), strict=True))
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


SCALARS: list[Any] = [
    None, True, False, 0, -1, 2**63 - 1, 2**63, -(2**63), 10**5000, 1.5, -0.0, math.inf, -math.inf, math.nan,
    1 + 2j, complex(math.nan, math.inf), "", "text", "snow ☃ \ud800", "a\x00b", b"", b"\x00\xff", bytearray(b"ab"),
    range(3), range(10, 0, -2), Decimal("1.10"), Decimal("NaN"), Decimal("-Infinity"), Fraction(1, 3),
    UUID(int=7), date(2026, 1, 2), time(1, 2, 3, 4), time(1, tzinfo=timezone.utc, fold=1), timedelta(-1, 2, 3),
    datetime(2026, 1, 2, 3, 4, 5, 6), datetime(2026, 10, 25, 2, 30, tzinfo=BERLIN, fold=1),
    datetime(2026, 1, 1, tzinfo=timezone.utc), datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=-5), "EST")),
    timezone.utc, BERLIN, Path("/a/b"), PurePosixPath("x/y"), PureWindowsPath("c:/x"), ..., int, len,
]  # fmt: skip


@pytest.mark.parametrize(
    "value",
    SCALARS,
    ids=lambda value: (
        f"{type(value).__name__} {str(value)[:20]!r}" if not isinstance(value, int) or abs(value) < 2**70 else "huge"
    ),
)
def test_a_scalar_comes_back(value: Any) -> None:
    back = again(value)
    if isinstance(value, Decimal) and value.is_nan():
        assert back.is_nan()
    elif isinstance(value, complex):
        assert repr(back) == repr(value)
    else:
        assert same(back, value)
    if isinstance(value, datetime | time):
        assert back.fold == value.fold
        assert back.tzinfo == value.tzinfo


CONTAINERS: list[Any] = [
    [], (), {}, set(), frozenset(), [1, [2, (3,)]], (None,), {1, "a"}, frozenset({(1, 2)}), {"b": 1, "a": 2},
    {1: "int", (1, 2): "tuple", None: 0, 1.5: [], frozenset({1}): {}}, {"a": {"b": {"c": b"x"}}}, {True: 1},
    shapes.Point(1, [2]), shapes.Span(3, {"a": shapes.Point(1, 2)}), shapes.Colour.RED, shapes.Colour.BLUE,
    shapes.Level.LOW,
    shapes.Right.READ | shapes.Right.WRITE, shapes.Right(0),
    shapes.Trip(1, {"x"}, shapes.Trip(2)), shapes.Frozen("a", (1, shapes.Colour.RED)), shapes.Slotted([1]),
    shapes.Order(number=1, items=[{"a": 1}]), OrderedDict(b=1, a=2), defaultdict(list, {"a": [1]}), Counter("aab"),
    deque([1, 2], maxlen=3), shapes.Text("abc"), shapes.Thing(a=1, b=[2]),
]  # fmt: skip


@pytest.mark.parametrize("value", CONTAINERS, ids=lambda value: type(value).__name__)
def test_a_container_comes_back(value: Any) -> None:
    assert same(again(value), value)


def test_a_deque_keeps_its_length_and_a_defaultdict_its_factory() -> None:
    assert again(deque([1], maxlen=2)).maxlen == 2
    assert again(defaultdict(list))["new"] == []


def test_a_model_keeps_what_was_set_and_its_private_state() -> None:
    order = shapes.Order(number=1)
    order._seen.add("x")
    back = again(order)
    assert (back.model_fields_set, back._seen) == ({"number"}, {"x"})


def test_state_beside_the_fields_of_a_dataclass_is_kept() -> None:
    assert again(shapes.Cached(3)).square == 9


def test_a_dataclass_with_class_variables_and_arguments_of_its_constructor_alone_comes_back() -> None:
    back = again(shapes.Priced(10.0, tax=2.0))
    assert back == shapes.Priced(8.0)
    assert vars(back) == {"net": 8.0}


def test_a_model_whose_cached_property_was_read_comes_back() -> None:
    basket = shapes.Basket(prices=[1, 2])
    assert basket.total == 3
    back = again(basket)
    assert (back.prices, back.total, back.model_fields_set) == ([1, 2], 3, {"prices"})


def test_an_exception_comes_back_with_its_arguments() -> None:
    back = again([ValueError("bad", 3)])[0]
    assert type(back) is ValueError
    assert back.args == ("bad", 3)


def test_an_instance_of_a_local_class_comes_back() -> None:
    class Local:
        def __init__(self) -> None:
            self.n = 1

    back = again(Local())
    assert type(back) is Local
    assert back.n == 1


def test_what_appears_twice_is_stored_once_and_stays_one() -> None:
    shared = {"data": bytes(1000)}
    data = encode([shared, shared, (shared,)])
    assert len(data) < 1500
    back = decode(data)
    assert back[0] is back[1] is back[2][0]


def test_deeply_shared_values_cost_what_they_weigh() -> None:
    value: list[Any] = []
    for _ in range(60):
        value = [value, value]
    assert len(encode(value)) < 3000


ARRAYS: list[Any] = [
    np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(5), np.zeros((0, 3), "f4"),
    np.array(["2026-01-01", "NaT"], "M8[ns]"), np.array([1], "m8[s]"), np.array(["a", "bcd"]), np.array([b"x"]),
    np.array([True]), np.array([1 + 2j]), np.array([1], ">i4"), np.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]),
    np.array([None, "x", 3], dtype=object), np.arange(10)[::2],
]  # fmt: skip


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype} {value.shape}")
def test_an_array_comes_back_writable(value: np.ndarray[Any, Any]) -> None:
    back = again({"a": value})["a"]
    assert type(back) is np.ndarray
    assert back.dtype == value.dtype
    assert back.shape == value.shape
    np.testing.assert_array_equal(back, value)
    assert back.flags.writeable


@pytest.mark.parametrize(
    "value",
    [
        np.float64(1.5),
        np.float32(2),
        np.int8(-3),
        np.bool_(True),
        np.datetime64("2026-01-01", "us"),
        np.str_("a\x00"),
        np.bytes_(b"x"),
        np.complex64(1j),
    ],
    ids=repr,
)
def test_a_numpy_scalar_comes_back(value: Any) -> None:
    assert same(again(value), value)


def test_subclasses_of_arrays_stay_what_they_are() -> None:
    masked = np.ma.masked_array([1, 2], mask=[True, False])
    back = again(masked)
    assert type(back) is type(masked)
    assert back.mask.tolist() == [True, False]


FRAMES: dict[str, Any] = {
    "plain": pd.DataFrame({"a": [1, 2], "b": ["x", None]}),
    "index": pd.DataFrame({"a": [1.5]}, index=pd.Index(["r"], name="row")),
    "dates": pd.DataFrame({"t": pd.to_datetime(["2026-01-01"]).tz_localize("Europe/Berlin")}),
    "nullable": pd.DataFrame({"n": pd.array([1, None], "Int64"), "c": pd.Categorical(["a", "b"])}),
    "objects": pd.DataFrame({"o": [1, "x"], "l": [[1], None]}, dtype=object),
    "numbered columns": pd.DataFrame([[1, 2]], columns=[0, 1]),
    "levels": pd.DataFrame(
        [[1]], columns=pd.MultiIndex.from_tuples([("a", 1)]), index=pd.MultiIndex.from_tuples([(1, "x")])
    ),
    "frequency": pd.DataFrame({"a": [1, 2]}, index=pd.date_range("2026", periods=2, freq="D")),
    "empty": pd.DataFrame(),
    "twice the same name": pd.DataFrame([[1, 2]], columns=["a", "a"]),
}


@pytest.mark.parametrize("name", FRAMES)
def test_a_frame_comes_back_with_index_and_dtypes(name: str) -> None:
    back = again(FRAMES[name])
    pd.testing.assert_frame_equal(back, FRAMES[name], check_freq=True)
    assert type(back.index) is type(FRAMES[name].index)


def test_attributes_of_a_frame_are_kept() -> None:
    frame = pd.DataFrame({"a": [1]})
    frame.attrs["unit"] = "km"
    assert again(frame).attrs == {"unit": "km"}


@pytest.mark.parametrize(
    "value",
    [
        pd.Series([1, 2], name="n"),
        pd.Series([1.5], index=["a"]),
        pd.Series(["x"], name=("a", 1)),
        pd.Series([1, "x"]),
        pd.Series([], dtype="int8"),
    ],
    ids=repr,
)
def test_a_series_comes_back(value: Any) -> None:
    pd.testing.assert_series_equal(again(value), value)


@pytest.mark.parametrize(
    "value",
    [
        pd.RangeIndex(3, name="r"),
        pd.Index([1, 2]),
        pd.Index(["a"]),
        pd.date_range("2026", periods=3, freq="h"),
        pd.CategoricalIndex(["a"]),
        pd.MultiIndex.from_product([[1], ["a"]], names=["x", None]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_an_index_comes_back(value: Any) -> None:
    back = again(value)
    pd.testing.assert_index_equal(back, value, exact=True)
    assert getattr(back, "freq", None) == getattr(value, "freq", None)


@pytest.mark.parametrize(
    "value",
    [
        pd.Timestamp("2026-01-01 02:00", tz="Europe/Berlin"),
        pd.Timestamp(1, unit="ns"),
        pd.Timedelta(5),
        pd.Period("2026-01"),
    ],
    ids=repr,
)
def test_values_of_pandas_come_back(value: Any) -> None:
    back = again(value)
    assert same(back, value)
    assert getattr(back, "tz", None) == getattr(value, "tz", None)


def test_the_missing_values_of_pandas_stay_the_only_ones() -> None:
    back = again([pd.NaT, pd.NA])
    assert back[0] is pd.NaT
    assert back[1] is pd.NA


TABLE = pa.table({"a": [1, None], "s": ["x", "y"], "l": [[1], []]}).replace_schema_metadata({"k": "v"})
ARROW: list[Any] = [
    TABLE, TABLE.slice(1), TABLE.slice(0, 0), pa.concat_tables([TABLE, TABLE]), TABLE.to_batches()[0],
    TABLE.to_batches()[0].slice(1),
    pa.array([1, None]), pa.array(["a", "b"]).dictionary_encode(), pa.nulls(2), pa.array([{"a": 1}]),
    pa.array([1, 2, 3])[1:], pa.chunked_array([[1], [2, 3]]), pa.chunked_array([], pa.int8()),
    pa.table({}), pa.scalar(5), pa.schema([("a", pa.int8())]), pa.int64(),
]  # fmt: skip


@pytest.mark.parametrize("value", ARROW, ids=lambda value: type(value).__name__)
def test_arrow_comes_back(value: Any) -> None:
    back = again([value])[0]
    assert type(back) is type(value)
    assert back.equals(value)
    if isinstance(value, pa.Table | pa.RecordBatch):
        assert back.schema.equals(value.schema, check_metadata=True)
        back.validate(full=True)


def test_a_slice_is_stored_without_the_rest_of_its_table() -> None:
    table = pa.table({"a": np.arange(100_000)})
    assert len(encode(table.slice(5, 10))) < 2000


def test_a_large_array_costs_little_more_than_its_bytes() -> None:
    array = np.zeros(1_000_000, "u1")
    assert len(encode({"a": array, "b": bytes(10)})) < 1_000_600


def test_polars_comes_back() -> None:
    frame = pl.DataFrame({"a": [1, None], "b": ["x", "y"]})
    assert again(frame).equals(frame)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary() | st.dates() | st.uuids()
    | st.fractions()
    | st.decimals(allow_nan=False) | st.timedeltas() | st.datetimes(timezones=st.none() | st.timezones()),
    lambda inner: st.lists(inner) | st.tuples(inner, inner)
    | st.dictionaries(st.text() | st.integers() | st.tuples(st.integers(), st.text()), inner)
    | st.sets(st.text() | st.integers()) | st.frozensets(st.binary())
    | st.builds(shapes.Trip, zone=st.integers(), inner=inner),
)  # fmt: skip


@given(VALUES)
@settings(max_examples=150, deadline=None)
def test_any_value_comes_back(value: Any) -> None:
    assert same(again(value), value)


@given(npst.arrays(npst.scalar_dtypes(), npst.array_shapes(min_dims=0, max_dims=3, min_side=0)))
@settings(max_examples=80, deadline=None)
def test_any_array_comes_back(array: np.ndarray[Any, Any]) -> None:
    back = again(array)
    assert back.dtype == array.dtype
    assert back.tobytes() == array.tobytes()


def circle() -> list[Any]:
    value: list[Any] = [1]
    value.append({"me": value})
    return value


def deep() -> Any:
    value: Any = 0
    for _ in range(sys.getrecursionlimit() * 2):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: {"a": [0, 1, 2, (n for n in "")]}, r"result\['a'\]\[3\] is a generator, which cannot be stored"),
        (lambda: (threading.Lock(),), r"result\[0\] is a lock"),
        (circle, r"result\[1\]\['me'\] is a list that contains itself"),
        (lambda: shapes.Trip(1, inner=[threading.Lock()]), r"result\.inner\[0\] is a lock"),
        (lambda: shapes.Span(1, sys.stdout.buffer), r"result\.stop is a "),
        (lambda: {(1, 2): {3: sys._getframe()}}, r"result\[\(1, 2\)\]\[3\] is a frame"),
        (lambda: [shapes.Thing(inner=threading.Lock())], r"result\[0\] is a Thing, which cannot be stored: .*lock"),
        (lambda: [memoryview(b"x")], r"result\[0\] is a memoryview"),
        (lambda: [shapes.Unreadable(1, "x")], r"result\[0\] is a Unreadable, which cannot be stored"),
        (deep, "result is nested too deeply"),
    ],
)
def test_what_cannot_be_stored_is_named(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(NotSerializable, match=message) as caught:
        encode(make(), "result")
    assert isinstance(caught.value, TypeError)


BLOB = encode({"a": [1, 2], "b": np.arange(3)})


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "empty: 0 bytes"),
        (b"[1, 2]", "cut short: 6 bytes, less than a header"),
        (b"PAR1" + bytes(100), r"not written by raflow: it begins with b'PAR1"),
        (BLOB[:-1], "cut short"),
        (BLOB + b"x", "cut short or continued"),
        (BLOB[:8] + b"\x63\x00" + BLOB[10:], "format 99"),
    ],
)
def test_foreign_and_cut_bytes_are_an_error(data: bytes, message: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=message):
        decode(data)


@given(st.integers(0, len(BLOB) - 1), st.integers(1, 255))
@settings(max_examples=150, deadline=None)
def test_any_changed_byte_is_found(place: int, change: int) -> None:
    data = bytearray(BLOB)
    data[place] ^= change
    with pytest.raises(CorruptCheckpoint):
        decode(bytes(data))


@given(st.integers(0, len(BLOB) - 1))
@settings(max_examples=50, deadline=None)
def test_any_cut_is_found(length: int) -> None:
    with pytest.raises(CorruptCheckpoint):
        decode(BLOB[:length])


PROGRAM = """
import sys
from dataclasses import dataclass
from raflow.checkpoints.codec import decode, encode

@dataclass
class Trip:
    zone: int

class Plain:
    zone = 2

if sys.argv[1] == "write":
    sys.stdout.buffer.write(encode([Trip(1), Plain(), lambda n: n + 1]))
else:
    trip, plain, function = decode(sys.stdin.buffer.read())
    assert type(trip) is Trip and type(plain) is Plain
    print(trip.zone, plain.zone, function(2))
"""


def test_classes_of_a_program_are_found_in_its_next_process(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)

    def run(what: str, data: bytes = b"") -> bytes:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, str(tmp_path / "program.py"), what]
        return subprocess.run(command, input=data, env=environment, stdout=subprocess.PIPE, check=True).stdout

    assert run("read", run("write")).split() == [b"1", b"2", b"3"]


def test_a_worker_stores_a_class_of_the_program_by_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    kind = make_dataclass("Trip", [("zone", int)], namespace={"__module__": "__main__"})
    kind.__module__ = "__main__"
    data = encode(kind(1))
    with pytest.raises(ResumeError, match=r"__main__\.Trip, which is not there any more"):
        decode(data)
    monkeypatch.setattr(sys.modules["__main__"], "Trip", kind, raising=False)
    assert decode(data) == kind(1)


def test_a_class_that_is_gone_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode([shapes.Frozen("a")])
    monkeypatch.delattr(shapes, "Frozen")
    with pytest.raises(ResumeError, match=r"tests\.checkpoints\.shapes\.Frozen, which is not there any more"):
        decode(data)


def test_fields_that_have_changed_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(shapes.Frozen("a"))
    monkeypatch.setattr(shapes, "Frozen", shapes.Trip)
    with pytest.raises(ResumeError, match="fields have changed since: inner, name, rest, tags, zone"):
        decode(data)


def test_a_pickle_that_cannot_be_read_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encode(shapes.Thing(a=1))
    monkeypatch.delattr(shapes, "Thing")
    with pytest.raises(ResumeError, match="pickle that cannot be read here: .*Thing"):
        decode(data)
