from __future__ import annotations

import pyarrow as pa
import pytest

from raflow.errors import SchemaError
from raflow.schema import completed, conform, expanded, fix, holds, is_fixed, merge, without_records, without_values
from tests.arrow_months import STREAM


def one(kind: pa.DataType) -> pa.Schema:
    return pa.schema([pa.field("x", kind)])


@pytest.mark.parametrize(
    ("left", "right", "wide"),
    [
        (pa.null(), pa.string(), pa.string()),
        (pa.int64(), pa.float64(), pa.float64()),
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.int64(), pa.float32(), pa.float64()),
        (pa.list_(pa.null()), pa.list_(pa.int64()), pa.list_(pa.int64())),
    ],
)
def test_nulls_widen_to_any_type_and_integers_to_floats(
    left: pa.DataType, right: pa.DataType, wide: pa.DataType
) -> None:
    assert merge([one(left), one(right)]).field("x").type == wide
    assert merge([one(right), one(left)]).field("x").type == wide


@pytest.mark.parametrize(
    ("left", "right"),
    [(pa.string(), pa.int64()), (pa.bool_(), pa.int64()), (pa.date32(), pa.timestamp("us"))],
)
def test_anything_else_is_an_error_that_names_the_field_and_both_types(left: pa.DataType, right: pa.DataType) -> None:
    with pytest.raises(SchemaError, match=f"'x' is {right}.* {left}".replace("[", r"\[")):
        merge([one(left), one(right)])


def test_columns_keep_the_order_of_first_sight_and_absent_ones_are_added() -> None:
    merged = merge(
        [
            pa.schema([("b", pa.int64()), ("a", pa.int64())]),
            pa.schema([("a", pa.int64()), ("c", pa.string())]),
        ]
    )
    assert merged.names == ["b", "a", "c"]


def test_a_batch_is_brought_to_the_agreed_schema() -> None:
    batch = pa.record_batch({"b": [1, 2**60 + 1]})
    agreed = pa.schema([("a", pa.string()), ("b", pa.float64())])
    assert conform(batch, agreed).to_pylist() == [{"a": None, "b": 1.0}, {"a": None, "b": float(2**60)}]


def test_a_schema_holds_what_is_narrower() -> None:
    assert holds(one(pa.float64()), one(pa.int64()))
    assert not holds(one(pa.int64()), one(pa.float64()))


def test_a_fixed_field_keeps_its_mark_through_bytes() -> None:
    schema = pa.schema([fix(pa.field("x", pa.int64())), pa.field("y", pa.int64())])
    again = pa.ipc.read_schema(pa.py_buffer(schema.serialize()))
    assert [is_fixed(field) for field in again] == [True, False]


def test_types_without_values_are_found_at_any_depth() -> None:
    months = pa.ipc.open_stream(STREAM).schema.field("m")
    assert without_values(pa.schema([("a", pa.uuid()), ("b", pa.dictionary(pa.int8(), pa.string()))])) == ""
    deep = pa.schema(
        [("a", pa.int64()), ("b", pa.list_(pa.struct([months]))), ("c", pa.map_(pa.string(), months.type))]
    )
    assert without_values(deep) == ("'b' (list<item: struct<m: month_interval>>), 'c' (map<string, month_interval>)")


def test_a_batch_gets_the_declared_columns_that_it_lacks_and_keeps_its_own() -> None:
    declared = pa.schema([fix(pa.field("a", pa.string())), fix(pa.field("b", pa.decimal128(38, 9)))])
    batch = pa.record_batch({"more": [1], "b": pa.array([None], pa.decimal128(38, 12))})
    found = completed(batch, declared)
    assert found.schema == pa.schema([("a", pa.string()), ("b", pa.decimal128(38, 12)), ("more", pa.int64())])
    assert found.to_pylist() == [{"a": None, "b": None, "more": 1}]
    assert not any(map(is_fixed, found.schema))


def test_types_without_records_are_unions_and_runs_that_are_not_expanded() -> None:
    runs, union = pa.run_end_encoded(pa.int32(), pa.string()), pa.sparse_union([pa.field("n", pa.int64())])
    assert without_records(pa.schema([("a", runs), ("b", pa.list_(pa.int64()))])) == ""
    for kind in (union, pa.list_(union), pa.list_(runs), pa.run_end_encoded(pa.int32(), pa.string_view())):
        assert without_records(pa.schema([("a", pa.int64()), ("b", kind)])) == f"'b' ({kind})"


def test_runs_are_expanded_and_other_columns_stay() -> None:
    runs = pa.RunEndEncodedArray.from_arrays(pa.array([2, 3], pa.int32()), pa.array(["a", None]))
    found = expanded(pa.record_batch({"n": [1, 2, 3], "text": runs}).slice(1))
    assert found.equals(pa.record_batch({"n": [2, 3], "text": ["a", None]}))
