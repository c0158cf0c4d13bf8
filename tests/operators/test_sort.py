from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import InvalidOption, SchemaError
from raflow.operators.contract import Range
from raflow.operators.sort import Sort, by_of
from tests.operators.harness import run
from tests.operators.tables import SCHEMA, TABLES, sql

BY = st.lists(
    st.tuples(st.sampled_from(SCHEMA.names), st.sampled_from(["ascending", "descending"])),
    min_size=1,
    max_size=3,
    unique_by=lambda one: one[0],
).map(tuple)


@settings(max_examples=100, deadline=None)
@given(TABLES, BY, st.integers(0, 99), st.integers(1, 4))
def test_rows_are_in_the_order_of_sql(
    database: duckdb.DuckDBPyConnection, table: pa.Table, by: Any, seed: int, partitions: int
) -> None:
    numbered = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    found = run(Sort(by), numbered, seed=seed, partitions=partitions)
    order = "".join(f"{_is_nan(name)}{name} {order[:-6]} nulls last, " for name, order in by)
    expected = sql(database, f"select row from numbered order by {order}n", numbered)
    assert found.column("row").to_pylist() == expected.column("row").to_pylist()
    assert found.schema == Sort(by).schema(numbered.schema)


def _is_nan(name: str) -> str:
    """NaN is the greatest value of DuckDB; here it is the last one in both directions."""
    return "f is null, isnan(f), " if name == "f" else ""


def test_rows_are_spread_by_their_order() -> None:
    assert Sort(by_of("a", ("b", "descending"))).routes == (Range((("a", "ascending"), ("b", "descending"))),)


@pytest.mark.parametrize(
    ("by", "message"),
    [
        ((), "sort needs at least one column"),
        ((("a", "down"),), "column 'a' cannot be sorted 'down'; give 'ascending' or 'descending'"),
        (("a", ("a", "descending")), "sort has column 'a' twice"),
    ],
)
def test_what_cannot_be_an_order_is_an_error(by: Any, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        by_of(*by)


def test_an_unknown_column_and_one_without_an_order_are_errors_before_data_moves() -> None:
    schema = pa.schema([("fare", pa.float64()), ("many", pa.list_(pa.int8()))])
    with pytest.raises(SchemaError, match="there is no column 'fair' for sort by fair; .* did you mean 'fare'"):
        Sort(by_of("fair")).schema(schema)
    with pytest.raises(SchemaError, match="sort by many: column 'many' is list<item: int8>, which has no order"):
        Sort(by_of("many")).schema(schema)


@pytest.mark.parametrize("kind", [pa.string(), pa.bool_(), pa.date32(), pa.binary(), pa.decimal128(5, 2), pa.null()])
def test_plain_types_have_an_order(kind: pa.DataType) -> None:
    schema = pa.schema([("a", kind)])
    assert Sort(by_of("a")).schema(schema) == schema
