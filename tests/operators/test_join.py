from __future__ import annotations

import pickle
from collections import Counter
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import InvalidOption, SchemaError
from raflow.operators.join import Join
from raflow.operators.routing import split

HOWS = ["inner", "left", "right", "outer", "semi", "anti"]
KEYS: dict[str, st.SearchStrategy[Any]] = {
    "int8": st.integers(-2, 2),
    "int64": st.integers(-2, 2) | st.just(2**53 + 1),
    "uint64": st.integers(0, 3) | st.just(2**53 + 1),
    "float32": st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5]),
    "float64": st.sampled_from([-2.0, -0.0, 0.0, 1.0, 1.5]),
    "decimal128(5, 2)": st.sampled_from([Decimal("-2.00"), Decimal("0.00"), Decimal("1.00"), Decimal("1.50")]),
    "string": st.sampled_from(["", "a", "b", "A"]),
    "large_string": st.sampled_from(["", "a", "b", "A"]),
}
TYPES = {
    **{name: pa.type_for_alias(name) for name in KEYS if "decimal" not in name},
    "decimal128(5, 2)": pa.decimal128(5, 2),
}


def table(kinds: tuple[str, ...], rows: list[tuple[Any, ...]], payload: str) -> pa.Table:
    columns = [pa.array([row[at] for row in rows], TYPES[kind]) for at, kind in enumerate(kinds)]
    lists = pa.array([[n] for n in range(len(rows))], pa.list_(pa.int64()))
    names = [f"k{at}" for at in range(len(kinds))]
    return pa.table([*columns, np.arange(len(rows)), lists], [*names, payload, "list"])


@st.composite
def two_tables(draw: st.DrawFn) -> tuple[pa.Table, pa.Table]:
    texts = ["string", "large_string"]
    numbers = [name for name in KEYS if name not in texts]
    pairs = draw(
        st.lists(
            st.sampled_from([(a, b) for kin in (texts, numbers) for a in kin for b in kin]), min_size=1, max_size=2
        )
    )
    tables = []
    for side, payload in enumerate("lr"):
        kinds = tuple(pair[side] for pair in pairs)
        rows = draw(st.lists(st.tuples(*(st.none() | KEYS[kind] for kind in kinds)), max_size=12))
        tables.append(table(kinds, rows, payload))
    return tables[0], tables[1]


def by_duckdb(join: Join, left: pa.Table, right: pa.Table) -> list[tuple[Any, ...]]:
    names = ", ".join(one for one, _ in join.on)
    kind = "full outer" if join.how == "outer" else join.how
    columns = "l" if join.how in ("semi", "anti") else "l, r"
    with duckdb.connect() as database:
        database.register("a", left.drop(["list"]))
        database.register("b", right.drop(["list"]))
        return database.sql(f"select {columns} from a {kind} join b using ({names})").fetchall()


def rows_of(found: pa.Table, names: list[str]) -> list[tuple[Any, ...]]:
    return list(zip(*(found[name].to_pylist() for name in names), strict=True))


@settings(deadline=None, max_examples=100)
@given(two_tables(), st.sampled_from(HOWS))
def test_rows_are_joined_as_by_duckdb(tables: tuple[pa.Table, pa.Table], how: str) -> None:
    left, right = tables
    keys = [name for name in left.column_names if name.startswith("k")]
    join = Join(tuple((key, key) for key in keys), how)
    found = join.finish(left, right)
    found.validate(full=True)
    assert found.schema == join.schema(left.schema, right.schema)
    names = ["l"] if how in ("semi", "anti") else ["l", "r"]
    pairs = rows_of(found, names)
    assert Counter(pairs) == Counter(by_duckdb(join, left, right))
    assert pairs == sorted(pairs, key=lambda pair: [(number is None, number) for number in pair])
    for key in keys:
        kind = found[key].type  # of a semi join that of the left side, which may not hold the right one's
        lefts = left[key].cast(kind, safe=False).to_pylist()
        rights = right[key].cast(kind, safe=False).to_pylist() if "r" in names else []
        assert found[key].to_pylist() == [rights[pair[-1]] if pair[0] is None else lefts[pair[0]] for pair in pairs]
    assert [None if one is None else one[0] for one in found["list"].to_pylist()] == found["l"].to_pylist()
    if "r" in names:
        assert [None if one is None else one[0] for one in found["list_right"].to_pylist()] == found["r"].to_pylist()


@settings(deadline=None, max_examples=60)
@given(two_tables(), st.sampled_from(HOWS), st.integers(1, 5))
def test_partitions_together_give_what_one_does(tables: tuple[pa.Table, pa.Table], how: str, number: int) -> None:
    left, right = tables
    keys = [name for name in left.column_names if name.startswith("k")]
    join = Join(tuple((key, key) for key in keys), how)
    parts = [split(one, route, number) for one, route in zip(tables, join.routes, strict=True)]
    pieces = [join.finish(a, b) for a, b in zip(*parts, strict=True)]
    names = [*keys, "l"] if how in ("semi", "anti") else [*keys, "l", "r"]
    whole = join.finish(left, right)
    assert Counter(rows_of(pa.concat_tables(pieces), names)) == Counter(rows_of(whole, names))


def simple() -> tuple[pa.Table, pa.Table]:
    return pa.table({"k": [3, 1, None, 1], "x": list("abcd")}), pa.table({"k": [1, None, 1, 4], "x": list("efgh")})


def test_rows_come_in_left_order_then_right_order_and_right_rows_alone_last() -> None:
    found = Join((("k", "k"),), "outer").finish(*simple())
    assert found.to_pydict() == {
        "k": [3, 1, 1, None, 1, 1, None, 4],
        "x": ["a", "b", "b", "c", "d", "d", None, None],
        "x_right": [None, "e", "g", None, "e", "g", "f", "h"],
    }


def test_keys_with_other_names_take_those_of_the_left() -> None:
    left, right = simple()
    found = Join((("k", "id"),), "right").finish(left, right.rename_columns(["id", "y"]))
    assert found.to_pydict() == {"k": [1, 1, 1, 1, None, 4], "x": ["b", "b", "d", "d", None, None], "y": list("egegfh")}


def test_nan_meets_nan_of_any_bits_and_zeros_meet() -> None:
    other = np.array([0xFFF8000000000001], np.uint64).view(np.float64)[0]
    left = pa.table({"k": pa.array([float("nan"), 0.0, None], from_pandas=False), "l": [0, 1, 2]})
    right = pa.table({"k": pa.array(np.array([other, -0.0])), "r": [0, 1]})
    found = Join((("k", "k"),)).finish(left, right)
    assert rows_of(found, ["l", "r"]) == [(0, 0), (1, 1)]


DIFFERENT = [
    (pa.array([2**63], pa.uint64()), pa.array([2**63 - 1], pa.int64()), False),
    (pa.array([5], pa.uint64()), pa.array([5], pa.int64()), True),
    (pa.array([2**53 + 1], pa.int64()), pa.array([2**53], pa.int64()), False),
    (pa.array([2**63 - 1], pa.int64()), pa.array([Decimal("1.00")], pa.decimal128(5, 2)), False),
    (pa.array([Decimal("1.0")], pa.decimal128(3, 1)), pa.array([Decimal("1.00")], pa.decimal128(38, 2)), True),
    (pa.array([1.5], pa.float32()), pa.array([Decimal("1.50")], pa.decimal128(5, 2)), True),
    (pa.array([1], pa.timestamp("s")), pa.array([10**6], pa.timestamp("us")), True),
    (pa.array(["a"]).dictionary_encode(), pa.array(["a"], pa.large_string()), True),
    (pa.array(["a"]).dictionary_encode(), pa.array(["a"]).dictionary_encode(), True),
    (pa.array([b"a"], pa.binary(1)), pa.array([b"a"]), True),
    (pa.array([[1, None]]), pa.array([[1, None]]), True),
    (pa.array([{"x": 1}]), pa.array([{"x": 2}]), False),
    (pa.nulls(1), pa.array([1]), False),
    (pa.nulls(1), pa.nulls(1), False),
]


@pytest.mark.parametrize(("left", "right", "meet"), DIFFERENT, ids=[f"{a.type}-{b.type}" for a, b, _ in DIFFERENT])
def test_keys_of_kindred_types_meet_if_they_are_equal(left: pa.Array, right: pa.Array, meet: bool) -> None:
    tables = pa.table({"k": left}), pa.table({"k": right})
    for how, rows in [("inner", 1 if meet else 0), ("outer", 1 if meet else 2), ("anti", 0 if meet else 1)]:
        join = Join((("k", "k"),), how)
        found = join.finish(*tables)
        assert (found.num_rows, found.schema) == (rows, join.schema(*(one.schema for one in tables)))


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (pa.int64(), pa.string()),
        (pa.bool_(), pa.int8()),
        (pa.string(), pa.binary()),
        (pa.date32(), pa.timestamp("us")),
        (pa.timestamp("us"), pa.timestamp("us", "UTC")),
        (pa.list_(pa.int64()), pa.list_(pa.float64())),
        (pa.decimal256(76, 76), pa.int64()),
    ],
    ids=str,
)
def test_keys_of_other_types_are_an_error_that_names_both(left: pa.DataType, right: pa.DataType) -> None:
    schemas = pa.schema([("a", left)]), pa.schema([("b", right)])
    with pytest.raises(SchemaError) as error:
        Join((("a", "b"),)).schema(*schemas)
    assert f"join on a = b: key 'a' is {left} on the left but 'b' is {right} on the right" in str(error.value)


PAYLOADS = [
    pa.array([[1], None]),
    pa.array([{"x": 1}, None]),
    pa.array(["a", None]).dictionary_encode(),
    pa.nulls(2),
    pa.array([[("x", 1)], None], pa.map_(pa.string(), pa.int64())),
]


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda array: str(array.type).partition("<")[0])
@pytest.mark.parametrize("how", HOWS)
def test_columns_of_any_type_are_carried(payload: pa.Array, how: str) -> None:
    left, right = pa.table({"k": [1, 2], "p": payload}), pa.table({"k": [2, 1, 3], "q": [20, 10, 30]})
    join = Join((("k", "k"),), how)
    found = join.finish(left, right)
    assert found.schema == join.schema(left.schema, right.schema)
    rows = 0 if how == "anti" else 3 if how in ("right", "outer") else 2
    assert found["p"].to_pylist() == [*payload.to_pylist(), None][:rows]
    swapped = Join((("k", "k"),), "outer").finish(right, left)
    assert swapped["p"].to_pylist() == [*payload.to_pylist()[::-1], None]


@pytest.mark.parametrize("how", HOWS)
@pytest.mark.parametrize("known", [True, False], ids=["with columns", "without columns"])
def test_a_side_may_be_empty(how: str, known: bool) -> None:
    left, right = pa.table({"k": [1, None], "l": [1, 2]}), pa.table({"k": [1, None], "r": [1, 2]})
    none = Counter[tuple[Any, ...]]()
    alone = Counter(rows_of(left, ["k", "l"]))
    found = Join((("k", "k"),), how).finish(left, right.slice(0, 0) if known else pa.table({}))
    assert found.column_names == ["k", "l", "r"][: 3 if known and how not in ("semi", "anti") else 2]
    assert Counter(rows_of(found, ["k", "l"])) == (alone if how in ("left", "outer", "anti") else none)
    found = Join((("k", "k"),), how).finish(left.slice(0, 0) if known else pa.table({}), right)
    assert found.num_rows == (2 if how in ("right", "outer") else 0)
    if found.num_rows:
        assert rows_of(found, ["k", "r"]) == [(1, 1), (None, 2)]
    assert Join((("k", "k"),), how).finish(pa.table({}), pa.table({})).num_rows == 0


def test_unknown_keys_are_named_with_their_side() -> None:
    left, right = simple()
    with pytest.raises(SchemaError, match=r"no column 'kk' for join on kk = k \(left input\).*there are: k, x"):
        Join((("kk", "k"),)).schema(left.schema, right.schema)
    with pytest.raises(SchemaError, match=r"no column 'z' for join on k = z \(right input\)"):
        Join((("k", "z"),)).schema(left.schema, right.schema)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_suffixed_name_that_exists_is_an_error(side: str) -> None:
    plain, more = pa.table({"k": [1], "x": [1]}), pa.table({"k": [1], "x": [1], "x_right": [1]})
    left, right = (more, plain) if side == "left" else (plain, more)
    with pytest.raises(SchemaError, match="both inputs have a column 'x', and 'x_right' exists as well"):
        Join((("k", "k"),)).schema(left.schema, right.schema)
    assert Join((("k", "k"),), suffix="_2").schema(left.schema, right.schema).names[-1] in ("x_2", "x_right")
    with pytest.raises(SchemaError, match="both inputs have a column 'x', and 'x' exists"):
        Join((("k", "k"),), suffix="").schema(left.schema, right.schema)


def test_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(InvalidOption, match="how is 'cross'; it must be one of inner, left"):
        Join((("k", "k"),), "cross")
    with pytest.raises(InvalidOption, match="no keys"):
        Join(())


def test_a_join_travels_and_says_what_it_does() -> None:
    join = Join((("a", "a"), ("b", "c")), "left")
    assert pickle.loads(pickle.dumps(join)) == join
    assert (join.label, Join((("a", "a"),)).label) == ("left join on a, b = c", "join on a")
