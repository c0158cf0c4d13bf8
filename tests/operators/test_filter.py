from __future__ import annotations

import pickle

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import SchemaError
from raflow.operators.contract import Place
from raflow.operators.filter import Filter

HERE = Place("unit", 0)
NUMBERS = st.none() | st.integers(-3, 3)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=20), st.integers(-3, 3))
def test_rows_are_kept_as_by_duckdb(rows: list[tuple[int | None, int | None]], limit: int) -> None:
    numbered = {"n": range(len(rows)), "a": [a for a, _ in rows], "b": [b for _, b in rows]}
    batch = pa.record_batch(numbered, schema=pa.schema([(name, pa.int64()) for name in "nab"]))
    a, b = pc.field("a"), pc.field("b")
    found = Filter((a > limit) | ~(b == a) & b.is_valid()).apply(batch, HERE)
    with duckdb.connect() as database:
        database.register("t", pa.Table.from_batches([batch]))
        kept = database.sql(f"select n from t where a > {limit} or not (b = a) and b is not null order by n").fetchall()
    assert found["n"].to_pylist() == [n for (n,) in kept]
    assert found.schema == batch.schema


def test_the_expression_must_be_boolean() -> None:
    schema = pa.schema([("a", pa.int64())])
    with pytest.raises(SchemaError, match=r"boolean expression, but add_checked\(a, 1\) is int64"):
        Filter(pc.field("a") + 1).schema(schema)
    with pytest.raises(SchemaError, match="boolean expression, but a is int64"):
        Filter(pc.field("a")).apply(pa.record_batch({"a": [1]}), HERE)


def test_an_expression_that_is_null_keeps_nothing() -> None:
    batch = pa.record_batch([pa.array([1, 2]), pa.nulls(2)], ["n", "flag"])
    assert Filter(pc.field("flag")).schema(batch.schema) == batch.schema
    assert Filter(pc.field("flag")).apply(batch, HERE).to_pylist() == []


def test_an_unknown_column_is_named() -> None:
    with pytest.raises(SchemaError, match="no column 'fair'.*there are: fare"):
        Filter(pc.field("fair") > 0).schema(pa.schema([("fare", pa.float64())]))


def test_a_filter_travels_and_says_what_it_does() -> None:
    again = pickle.loads(pickle.dumps(Filter(pc.field("fare") > 0)))
    assert again.label == "filter (fare > 0)"
    assert again.apply(pa.record_batch({"fare": [-1.0, 2.0]}), HERE).to_pydict() == {"fare": [2.0]}
    assert len(Filter(pc.field("zone").isin([str(n) for n in range(100)])).label) < 70


def test_filters_are_compared_by_identity() -> None:
    one, other = Filter(pc.field("a") > 0), Filter(pc.field("b") > 0)
    assert one != other
    assert len({one, other}) == 2
