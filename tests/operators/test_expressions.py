from __future__ import annotations

import datetime
import re
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import RecordError, SchemaError
from raflow.operators.expressions import columns_of, evaluate, type_of

SCHEMA = pa.schema(
    [("id", pa.int64()), ("zone", pa.string()), ("fare", pa.float64()), ("at", pa.struct([("x", pa.int64())]))]
)


def test_expressions_have_a_value_per_row() -> None:
    batch = pa.record_batch({"fare": [1.0, None, 3.0]})
    fares, ones = evaluate([pc.field("fare") * 2, pc.scalar(1)], batch)
    assert (fares.to_pylist(), ones.to_pylist()) == ([2.0, None, 6.0], [1, 1, 1])


def test_rows_keep_their_order_in_batches_that_acero_cuts() -> None:
    batch = pa.record_batch({"id": range(100_000)})
    (found,) = evaluate([pc.field("id") + 1], batch)
    assert found.equals(pa.array(range(1, 100_001)))


def test_a_batch_without_rows_has_no_values_but_their_types() -> None:
    (found,) = evaluate([pc.field("fare") > 0], pa.record_batch({"fare": pa.array([], pa.float64())}))
    assert (len(found), found.type) == (0, pa.bool_())


@pytest.mark.parametrize(
    ("expression", "kind"),
    [
        (pc.field("fare") > 0, pa.bool_()),
        (pc.field("id") + pc.field("fare"), pa.float64()),
        (pc.field("at", "x"), pa.int64()),
        (pc.scalar("here"), pa.string()),
    ],
    ids=["comparison", "sum", "nested", "constant"],
)
def test_the_type_of_an_expression_is_known_without_data(expression: pc.Expression, kind: pa.DataType) -> None:
    assert type_of(expression, SCHEMA) == kind


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        (pc.scalar(1), []),
        (pc.field("fare") > 0, ["fare"]),
        ((pc.field("zone") == "FieldRef.Name(id)") & (pc.field("at", "x") > 0), ["zone", "at"]),
        (pc.field("fare").isin([1.0, 2.0]) | pc.field("id").is_null() | (pc.field("id") > 2), ["id", "fare"]),
        (pc.if_else(pc.field("fare") > 0, pc.field("zone"), "none"), ["zone", "fare"]),
    ],
    ids=["constant", "one", "nested", "twice", "call"],
)
def test_the_columns_that_an_expression_needs_are_known(expression: pc.Expression, columns: list[str]) -> None:
    assert columns_of(expression, SCHEMA) == columns


@pytest.mark.parametrize(
    ("expression", "values"),
    [
        (pc.match_substring(pc.field("c"), "x"), [None, None]),
        (pc.utf8_upper(pc.field("c")), [None, None]),
        (pc.field("c").isin(["x"]), [False, False]),
        (pc.coalesce(pc.field("c"), 0.1), [0.1, 0.1]),
        (pc.coalesce(pc.field("c"), pc.field("day")), [datetime.date(2026, 1, 2)] * 2),
        (~pc.field("c"), [None, None]),
        (pc.hour(pc.field("c")), [None, None]),
        (pc.match_substring(pc.field("c"), "x") & ~pc.field("d") & (pc.field("c") == "x"), [None, None]),
        (pc.utf8_length(pc.field("c")).is_null(), [True, True]),
    ],
    ids=["find", "upper", "isin", "coalesce", "coalesce columns", "not", "hour", "several", "is null"],
)
def test_a_column_of_nulls_is_null_whatever_is_computed(expression: pc.Expression, values: list[Any]) -> None:
    days = pa.array([datetime.date(2026, 1, 2)] * 2)
    batch = pa.record_batch([days, pa.nulls(2), pa.nulls(2)], ["day", "c", "d"])
    (found,) = evaluate([expression], batch)
    assert (found.to_pylist(), found.type) == (values, type_of(expression, batch.schema))
    assert "c" in columns_of(expression, batch.schema) or "d" in columns_of(expression, batch.schema)


def test_among_nulls_too_an_expression_that_fits_no_type_is_named() -> None:
    schema = pa.schema([("n", pa.int64()), ("c", pa.null())])
    message = r"utf8_upper\(n\).* does not fit the columns \(n: int64, c: null\): .*utf8_upper.*\(int64\)"
    with pytest.raises(SchemaError, match=message):
        type_of(pc.if_else(pc.field("c"), pc.utf8_upper(pc.field("n")), "x"), schema)
    with pytest.raises(SchemaError, match="no column 'd' for the expression"):
        type_of(pc.utf8_upper(pc.field("c")) == pc.field("d"), schema)


@settings(deadline=None, max_examples=50)
@given(st.integers(1, 40).flatmap(lambda width: st.tuples(st.just(width), st.sets(st.integers(0, width - 1)))))
def test_exactly_the_used_columns_are_needed_among_many(case: tuple[int, set[int]]) -> None:
    width, used = case
    schema = pa.schema([(f"c{number}", pa.int64()) for number in range(width)])
    expression: Any = pc.scalar(0)
    for number in used:
        expression = expression + pc.field(f"c{number}")
    assert columns_of(expression, schema) == [f"c{number}" for number in sorted(used)]


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (pc.field("fair") > 0, r"no column 'fair' for the expression \(fair > 0\).*id, zone, fare, at.*'fare'"),
        (pc.field("at", "y") > 0, r"does not fit the columns .*at: struct<x: int64>.*Name\(y\)"),
        (pc.field("id") + pc.field("zone"), r"add_checked\(id, zone\) does not fit .*\(int64, string\)"),
        (pc.field(0) > 0, "by its position; use its name"),
    ],
    ids=["unknown", "unknown within", "types", "position"],
)
def test_an_expression_that_does_not_fit_is_named(expression: pc.Expression, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        type_of(expression, SCHEMA)
    with pytest.raises(SchemaError, match=message):
        columns_of(expression, SCHEMA)


def test_a_batch_without_the_columns_is_an_error_that_names_them() -> None:
    with pytest.raises(SchemaError, match="no column 'fare' for the expression .*there are: id"):
        evaluate([pc.field("id"), pc.field("fare") > 0], pa.record_batch({"id": [1]}))


def test_a_value_that_cannot_be_computed_is_an_error_that_names_the_expression() -> None:
    message = re.escape("divide_checked(a, b) cannot be computed: divide by zero")
    with pytest.raises(RecordError, match=message):
        evaluate([pc.field("a") / pc.field("b")], pa.record_batch({"a": [1], "b": [0]}))
