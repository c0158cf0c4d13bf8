"""Whatever is done to records one after the other, the result is DuckDB's."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from raflow import FlowOptions
from raflow.runtime import intake
from tests.chains import Chain, chains

SMALL = st.sampled_from([intake._SMALL_BYTES, -1])
"""Inputs of joins go to every partition, or none does."""
SETTINGS = settings(
    deadline=None, derandomize=False, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)  # fmt: skip


@pytest.fixture(scope="module")
def database() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        yield connection


@settings(SETTINGS, max_examples=200)
@given(chains(5), SMALL)
def test_any_chain_of_operations_gives_what_duckdb_gives(
    database: duckdb.DuckDBPyConnection, chain: Chain, small: int
) -> None:
    check(chain, database, "local", small)


@pytest.mark.ray
@settings(SETTINGS, max_examples=25)
@given(chains(3, FlowOptions(num_replicas=1)), SMALL)
def test_any_chain_of_operations_gives_what_duckdb_gives_on_ray(
    ray_session: None, database: duckdb.DuckDBPyConnection, chain: Chain, small: int
) -> None:
    check(chain, database, "ray", small)


def check(chain: Chain, database: duckdb.DuckDBPyConnection, engine: str, small: int) -> None:
    """Compare as multisets of rows, and what is sorted also by the order of its keys."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(intake, "_SMALL_BYTES", small)
        found = chain.stream.to_arrow(engine=engine)
    expected = chain.expected(database)
    known = chain.stream.schema()
    assert (known is None) == chain.mapped
    if known is not None:
        assert columns(found.schema) == columns(known) == columns(expected.schema)
    elif found.num_rows:
        assert found.column_names == expected.column_names
    keys = [name for name, _ in chain.order]
    if expected.num_rows or not chain.mapped:
        assert rows(found.select(keys)) == rows(expected.select(keys))
    left = sorted(rows(found), key=repr)
    for row in sorted(rows(expected), key=repr):
        assert row in left
        left.remove(row)
    assert left == []


def columns(schema: pa.Schema) -> list[tuple[str, pa.DataType]]:
    return list(zip(schema.names, schema.types, strict=True))


def rows(table: pa.Table) -> list[list[Any]]:
    return [[plain(value) for value in row.values()] for row in table.to_pylist()]


def plain(value: Any) -> Any:
    if isinstance(value, float):
        return "nan" if math.isnan(value) else About(value)
    return value


class About(float):
    """A float that is equal to others up to rounding."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, float) and math.isclose(self, other, rel_tol=1e-9, abs_tol=1e-9)

    def __hash__(self) -> int:
        return hash(float(self))
