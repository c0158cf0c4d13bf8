"""Small random tables with everything that is hard about values: nulls, NaN, two zeros, equal ones."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
from hypothesis import strategies as st

SCHEMA = pa.schema(
    [
        ("i", pa.int64()),
        ("f", pa.float64()),
        ("s", pa.string()),
        ("b", pa.bool_()),
        ("t", pa.timestamp("us")),
        ("d", pa.decimal128(9, 2)),
    ]
)
_VALUES: dict[str, list[Any]] = {
    "i": [None, 0, 1, 2, -7, 2**53 + 1],
    "f": [None, 0.0, -0.0, 1.5, -2.25, 1e9, float("nan")],
    "s": [None, "", "a", "b", "ä", "a longer text than fits in twelve bytes"],
    "b": [None, True, False],
    "t": [None, datetime(1970, 1, 1), datetime(2024, 2, 29, 12, 30, 0, 1), datetime(1969, 12, 31)],
    "d": [None, Decimal("0.00"), Decimal("1.50"), Decimal("-3.25")],
}
_ROW = st.tuples(*(st.sampled_from(values) for values in _VALUES.values()))

TABLES = st.lists(_ROW, max_size=12).map(
    lambda rows: pa.Table.from_pylist([dict(zip(_VALUES, row, strict=True)) for row in rows], schema=SCHEMA)
)


def sql(database: duckdb.DuckDBPyConnection, query: str, table: pa.Table) -> pa.Table:
    """Return what DuckDB makes of a query of `numbered`: the table, with the row number `n`."""
    database.register("numbered", table.append_column("n", pa.array(range(table.num_rows), pa.int64())))
    try:
        return database.sql(query).to_arrow_table()
    finally:
        database.unregister("numbered")
