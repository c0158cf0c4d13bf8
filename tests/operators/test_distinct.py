from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import SchemaError
from raflow.operators.distinct import Distinct
from tests.operators.harness import run
from tests.operators.tables import SCHEMA, TABLES, sql

ON = st.none() | st.lists(st.sampled_from(SCHEMA.names), min_size=1, max_size=3, unique=True).map(tuple)


@settings(max_examples=100, deadline=None)
@given(TABLES, ON, st.integers(0, 99))
def test_the_first_row_of_each_key_of_sql_is_kept(
    database: duckdb.DuckDBPyConnection, table: pa.Table, on: Any, seed: int
) -> None:
    numbered = table.append_column("row", pa.array(range(table.num_rows), pa.int64()))
    keys = on or ("i", "f")
    given = numbered if on else numbered.select(["i", "f"])
    found = run(Distinct(on), given, seed=seed)
    assert found.schema == given.schema
    expected = sql(database, f"select min(n) as row from numbered group by {', '.join(keys)}", numbered)
    rows = numbered.take(expected.column("row").cast(pa.int64()).combine_chunks()).select(given.column_names)
    assert _sorted(found) == _sorted(rows)


def _sorted(table: pa.Table) -> list[str]:
    return sorted(map(repr, table.to_pylist()))


@pytest.mark.parametrize(
    "values",
    [
        [[1], [2], None, [1], None],
        [{"a": [0.0]}, {"a": None}, None, {"a": [-0.0]}, None],
        [[float("nan")], [], None, [float("nan")], None],
    ],
    ids=["lists", "structs", "NaNs"],
)
@pytest.mark.parametrize("on", [None, ("v",)], ids=["of all columns", "of one"])
def test_nested_values_are_kept_once(values: Any, on: Any) -> None:
    table = pa.table({"v": pa.array(values)})
    for seed in range(5):
        assert run(Distinct(on), table, seed=seed, partitions=4).num_rows == 3


def test_rows_without_columns_are_all_equal() -> None:
    table = pa.table({"a": [1, 2]}).select([])
    assert Distinct().finish(table).num_rows == 1


def test_an_unknown_column_is_an_error() -> None:
    with pytest.raises(SchemaError, match="there is no column 'x' for distinct x; there are: i, "):
        Distinct(("x",)).schema(SCHEMA)


def test_an_input_of_which_nothing_is_known_stays_empty() -> None:
    assert Distinct(("a",)).finish(pa.table({})).num_rows == 0
