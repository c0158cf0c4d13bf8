import math
import random
from decimal import Decimal
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import InvalidOption, SchemaError
from raflow.operators.aggregate import Aggregate
from raflow.operators.contract import Hash, Single
from raflow.operators.functions import FUNCTIONS
from raflow.schema import together
from tests.operators.harness import run
from tests.operators.tables import TABLES, sql

NAN = float("nan")
TRIPS = pa.table({"zone": ["a", "b", "a", None, "b"], "fare": [1.0, 2.0, None, 4.0, 6.0], "paid": [1, 2, 3, 4, 5]})

SQL = {
    "sum": "sum({0})",
    "mean": "avg({0})",
    "min": "min({0})",
    "max": "max({0})",
    "count": "count({0})",
    "std": "stddev_samp({0})",
    "var": "var_samp({0})",
    "first": "first({0} order by n)",
    "last": "last({0} order by n)",
    "any": "bool_or({0})",
    "all": "bool_and({0})",
    "count_distinct": "count(distinct {0})",
    "approx_distinct": "count(distinct {0})",
    "list": "list({0} order by n)",
}
KEYS = [(), ("i",), ("f",), ("s", "b"), ("t",), ("d", "i"), ("f", "s")]


WANTED = [
    (f"{name} {column}", column, name)
    for name in SQL
    for column in {"any": "b", "all": "b"}.get(name, "ifd" if name in ("sum", "mean", "std", "var") else "fisbtd")
]


@settings(max_examples=150, deadline=None)
@given(TABLES, st.sampled_from(KEYS), st.lists(st.sampled_from(WANTED), max_size=3, unique=True), st.integers(0, 99))
def test_groups_and_values_are_those_of_sql(
    database: duckdb.DuckDBPyConnection, table: pa.Table, keys: tuple[str, ...], wanted: Any, seed: int
) -> None:
    aggregate = Aggregate(keys, (("rows", None, "count"), *wanted))
    found = run(aggregate, table, seed=seed)
    assert found.schema == aggregate.schema(table.schema)
    values = "".join(f', {_sql(name, column)} as "{label}"' for label, column, name in wanted)
    by = f"group by {', '.join(keys)}" if keys else ""
    expected = sql(
        database, f"select {''.join(key + ', ' for key in keys)}count(*) as rows{values} from numbered {by}", table
    )
    assert _rows(found, len(keys)) == _rows(expected, len(keys))


def _sql(name: str, column: str) -> str:
    """NaN counts for the least and the greatest value in DuckDB; a variance with it is an error there."""
    text = SQL[name].format(column)
    if column == "f" and name in ("min", "max"):
        return f"coalesce({text} filter (not isnan(f)), min(f))"
    if column == "f" and name in ("std", "var"):
        return (
            f"case when not bool_or(isnan(f)) then {SQL[name].format('case when isnan(f) then null else f end')} "
            f"when count(f) > 1 then 'nan'::double end"
        )
    return text


def _rows(table: pa.Table, keys: int) -> dict[Any, list[Any]]:
    rows = [[_plain(value) for value in row.values()] for row in table.to_pylist()]
    found = {tuple(row[:keys]): row[keys:] for row in rows}
    assert len(found) == len(rows)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return "nan" if math.isnan(value) else About(value)
    return value


class About(float):
    """A float that is equal to others up to rounding."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and math.isclose(self, other, rel_tol=1e-9, abs_tol=1e-9)

    def __hash__(self) -> int:
        return hash(float(self))


def test_every_function_is_compared_to_sql() -> None:
    assert set(SQL) == set(FUNCTIONS)


def test_a_unit_sends_one_row_per_group_and_a_state_is_kept_once() -> None:
    aggregate = Aggregate(("zone",), (("a", "fare", "sum"), ("b", "fare", "mean"), ("c", "fare", "count")))
    partial = aggregate.partial(0, TRIPS)
    assert partial.num_rows == 3
    assert partial.num_columns == 3


def test_rows_with_a_key_go_to_one_partition_and_without_keys_to_a_single_one() -> None:
    assert Aggregate(("zone",), ()).routes == (Hash(("zone",)),)
    assert Aggregate((), (("n", None, "count"),)).routes == (Single(),)


def test_columns_of_several_types_can_be_counted_without_any_column() -> None:
    rows = pa.table({"a": [1, 2, 3]}).select([])
    assert run(Aggregate((), (("n", "*", "count"),)), rows).to_pylist() == [{"n": 3}]


def test_an_input_of_which_nothing_is_known_has_one_row_without_keys() -> None:
    wanted = tuple((name, "x", name) for name in FUNCTIONS)
    [row] = Aggregate((), (*wanted, ("rows", None, "count"))).finish(pa.table({})).to_pylist()
    zero = {"count", "count_distinct", "approx_distinct", "rows"}
    assert row == {name: 0 if name in zero else None for name in [*FUNCTIONS, "rows"]}


def test_an_input_of_which_nothing_is_known_has_no_groups() -> None:
    found = Aggregate(("k",), (("n", "x", "mean"),)).finish(pa.table({}))
    assert found.num_rows == 0
    assert found.column_names == ["k", "n"]


def test_types_of_units_may_widen() -> None:
    aggregate = Aggregate(("k",), tuple((name, "v", name) for name in SQL if name not in ("any", "all")))
    units = [
        pa.table({"k": [1, 2], "v": pa.nulls(2)}),
        pa.table({"k": pa.array([1, 2], pa.int8()), "v": pa.array([3, 1 << 40])}),
        pa.table({"k": [1.0, 2.0], "v": [0.5, 1.5]}),
    ]
    found = aggregate.finish(together([aggregate.partial(0, unit) for unit in units])).to_pylist()
    assert found[0] == {
        "k": 1.0, "sum": 3.5, "mean": 1.75, "min": 0.5, "max": 3.0, "count": 2, "std": pytest.approx(3.125**0.5),
        "var": 3.125, "first": None, "last": 0.5, "count_distinct": 2, "approx_distinct": 2,
        "list": [None, 3.0, 0.5],
    }  # fmt: skip
    assert found[1]["sum"] == 2.0**40 + 1.5


def test_a_sum_that_fits_is_exact_though_parts_of_it_do_not_fit() -> None:
    big = [1 << 62, 1 << 62, 1 << 62, -(1 << 62), -(1 << 62), -5]
    found = run(Aggregate((), (("x", "v", "sum"),)), pa.table({"v": big}), seed=5)
    assert found.to_pylist() == [{"x": sum(big)}]
    assert found.schema.field("x").type == pa.int64()


@pytest.mark.parametrize("kind", [pa.int64(), pa.uint64()])
def test_a_sum_of_integers_that_does_not_fit_is_an_error(kind: pa.DataType) -> None:
    table = pa.table({"v": pa.array([(1 << 63) - 1, 1], kind)})
    with pytest.raises(SchemaError, match="a sum of column 'v' does not fit into int64; cast the column to float64"):
        run(Aggregate((), (("x", "v", "sum"),)), table)


def test_the_mean_of_large_integers_is_right_where_their_sum_does_not_fit() -> None:
    table = pa.table({"v": [1 << 62] * 4})
    assert run(Aggregate((), (("x", "v", "mean"),)), table).to_pylist() == [{"x": 2.0**62}]


def test_sums_of_decimals_are_decimals_and_one_that_does_not_fit_is_an_error() -> None:
    table = pa.table({"v": [Decimal("0.10"), Decimal("0.20"), None]})
    found = run(Aggregate((), (("x", "v", "sum"),)), table)
    assert found.to_pylist() == [{"x": Decimal("0.30")}]
    assert found.schema.field("x").type == pa.decimal128(38, 2)
    huge = pa.table({"v": pa.array([Decimal("9" * 38)] * 2, pa.decimal128(38, 0))})
    with pytest.raises(SchemaError, match=r"does not fit into decimal128\(38, 0\)"):
        run(Aggregate((), (("x", "v", "sum"),)), huge)


def test_variances_of_values_far_from_zero_are_right() -> None:
    values = 1e9 + np.random.default_rng(7).random(1000)
    found = run(Aggregate((), (("x", "v", "var"),)), pa.table({"v": values}), seed=7)
    assert found.to_pylist()[0]["x"] == pytest.approx(np.var(values, ddof=1), rel=1e-6)


def test_infinite_values_have_no_variance() -> None:
    found = run(Aggregate((), (("x", "v", "var"),)), pa.table({"v": [math.inf, 1.0, 2.0]}), seed=1)
    assert math.isnan(found.to_pylist()[0]["x"])


ANY_TYPE: dict[str, pa.Array] = {
    "structs": pa.array([{"a": 1}, None, {"a": 1}, {"a": 2}]),
    "lists": pa.array([[1], None, [1], []]),
    "categories": pa.array(["x", None, "x", "y"]).dictionary_encode(),
    "halves": pa.array([np.float16(1), None, np.float16(1), np.float16(2)], pa.float16()),
    "durations": pa.array([1, None, 1, 2], pa.duration("s")),
    "small decimals": pa.array([Decimal("1"), None, Decimal("1"), Decimal("2")], pa.decimal32(5, 2)),
    "times": pa.array([1, None, 1, 2], pa.time32("s")),
    "bytes": pa.array([b"x", None, b"x", b"y"]),
    "fixed bytes": pa.array([b"x", None, b"x", b"y"], pa.binary(1)),
    "maps": pa.array([[("a", 1)], None, [("a", 1)], []], pa.map_(pa.string(), pa.int8())),
    "uuids": pa.array([b"x" * 16, None, b"x" * 16, b"y" * 16], pa.uuid()),
}


@pytest.mark.parametrize("name", ANY_TYPE)
def test_values_and_keys_of_any_type_can_be_picked_listed_and_counted(name: str) -> None:
    values = ANY_TYPE[name]
    functions = ("first", "last", "list", "count", "count_distinct")
    table = pa.table({"v": values, "k": values, "one": [1] * 4})
    wanted = tuple((function, "v", function) for function in functions)
    [row] = run(Aggregate(("one",), wanted), table, seed=3).to_pylist()
    plain = values.to_pylist()
    assert row == {"one": 1, "first": plain[0], "last": plain[3], "list": plain, "count": 3, "count_distinct": 2}
    keyed = run(Aggregate(("k",), wanted), table, seed=3)
    assert keyed.schema == Aggregate(("k",), wanted).schema(table.schema)
    assert sorted(keyed.column("count_distinct").to_pylist()) == [0, 1, 1]


@pytest.mark.parametrize("name", ["categories", "halves", "durations", "small decimals", "times", "bytes"])
def test_ordered_types_have_a_least_and_a_greatest_value(name: str) -> None:
    values = ANY_TYPE[name]
    found = run(Aggregate((), (("low", "v", "min"), ("high", "v", "max"))), pa.table({"v": values}), seed=2)
    assert found.to_pylist() == [{"low": values[0].as_py(), "high": values[3].as_py()}]


@pytest.mark.parametrize(
    ("function", "column", "kind", "works"),
    [
        ("mean", "zone", "string", "integers, floats, decimals and booleans"),
        ("any", "paid", "int64", "booleans"),
        ("min", "many", "list<item: int64>", "numbers, texts, bytes, booleans and times"),
    ],
)
def test_a_type_that_does_not_work_is_an_error_before_data_moves(
    function: str, column: str, kind: str, works: str
) -> None:
    schema = TRIPS.schema.append(pa.field("many", pa.list_(pa.int64())))
    with pytest.raises(SchemaError) as caught:
        Aggregate(("zone",), (("x", column, function),)).schema(schema)
    assert str(caught.value) == f"'x': {function} of column {column!r} does not work: it is {kind}, not {works}"


def test_an_unknown_column_is_an_error() -> None:
    with pytest.raises(SchemaError, match="there is no column 'fair' for group by zone; .* did you mean 'fare'"):
        Aggregate(("zone",), (("x", "fair", "mean"),)).schema(TRIPS.schema)


@pytest.mark.parametrize(
    ("keys", "wanted", "message"),
    [
        (("k",), (("x", "v", "meen"),), "no aggregation 'meen'; there are: sum, mean, min, .*; did you mean 'mean'?"),
        (("k",), (("x", None, "sum"),), "'x': sum needs a column; only count does without"),
        (("k",), (("k", "v", "sum"),), "group by k would make two columns 'k'"),
        ((), (), r"an aggregation needs keys or a function, e.g. count\(\)"),
    ],
)
def test_what_cannot_be_meant_is_an_error_at_once(keys: Any, wanted: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        Aggregate(keys, wanted)


def test_many_groups_in_many_pieces_are_those_of_numpy() -> None:
    dice = np.random.default_rng(11)
    zones, fares = dice.integers(0, 50, 5000), dice.normal(100, 1, 5000)
    aggregate = Aggregate(("zone",), (("m", "fare", "mean"), ("s", "fare", "std")))
    found = run(aggregate, pa.table({"zone": zones, "fare": fares}), seed=random.Random(11).randint(0, 99))
    for row in found.to_pylist():
        mine = fares[zones == row["zone"]]
        assert (row["m"], row["s"]) == pytest.approx((mine.mean(), mine.std(ddof=1)))
