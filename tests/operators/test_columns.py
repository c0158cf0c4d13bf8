from __future__ import annotations

import pickle

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from raflow.errors import SchemaError
from raflow.operators.columns import Drop, Rename, Select, WithColumns
from raflow.operators.contract import Narrow, Place
from raflow.schema import fix

HERE = Place("unit", 0)
BATCH = pa.record_batch({"a": [1, 2, None], "b": ["x", "y", "z"], "c": [0.5, 1.5, 2.5]})


def after(operator: Narrow, batch: pa.RecordBatch = BATCH) -> pa.RecordBatch:
    """What an operator makes of a batch; it must have the schema that was foretold."""
    result = operator.apply(batch, HERE)
    assert result.schema == operator.schema(batch.schema)
    assert operator.apply(batch.slice(0, 0), HERE).schema == result.schema
    return result


def test_chosen_columns_come_in_the_order_that_was_asked_for() -> None:
    assert after(Select(("c", "a"))).to_pydict() == {"c": [0.5, 1.5, 2.5], "a": [1, 2, None]}


def test_dropped_columns_are_gone_and_rows_stay_when_no_column_does() -> None:
    assert after(Drop(("b",))).schema.names == ["a", "c"]
    assert after(Drop(("a", "b", "c"))).num_rows == 3


def test_columns_are_renamed_in_their_place_and_can_swap_names() -> None:
    assert after(Rename((("a", "b"), ("b", "a")))).to_pydict() == {
        "b": [1, 2, None],
        "a": ["x", "y", "z"],
        "c": [0.5, 1.5, 2.5],
    }


def test_computed_columns_replace_others_or_come_behind_them() -> None:
    result = after(WithColumns((("a", pc.field("a") + 1), ("d", pc.field("a") * pc.field("c")))))
    assert result.schema.names == ["a", "b", "c", "d"]
    assert (result["a"].to_pylist(), result["d"].to_pylist()) == ([2, 3, None], [0.5, 3.0, None])


@pytest.mark.parametrize(
    "value", [1, 2.5, "here", None, True, b"x", [1, 2], {"x": 1}], ids=lambda value: type(value).__name__
)
def test_a_constant_is_in_every_row(value: object) -> None:
    result = after(WithColumns((("new", value),)))
    assert result["new"].to_pylist() == [value] * 3
    assert result.schema.field("new").type == pa.scalar(value).type


def test_a_replaced_column_is_no_longer_decided_by_its_record_type() -> None:
    batch = pa.record_batch([pa.array([1])], schema=pa.schema([fix(pa.field("a", pa.int64()))]))
    assert after(WithColumns((("a", 0.5),)), batch).schema.field("a").metadata is None
    assert after(Select(("a",)), batch).schema.field("a").metadata is not None


@pytest.mark.parametrize(
    "operator",
    [Select(("a", "bb")), Drop(("bb",)), Rename((("bb", "x"),)), WithColumns((("x", pc.field("bb")),))],
    ids=["select", "drop", "rename", "with"],
)
def test_an_unknown_column_is_named_with_those_there_are(operator: Narrow) -> None:
    message = "no column 'bb' for .*there are: a, b, c; did you mean 'b'"
    with pytest.raises(SchemaError, match=message):
        operator.schema(BATCH.schema)
    with pytest.raises(SchemaError, match=message):
        operator.apply(BATCH, HERE)


@pytest.mark.parametrize(
    ("operator", "message"),
    [
        (Select(("a", "a")), "select a, a makes several columns 'a'"),
        (Rename((("a", "b"),)), "rename a to b makes several columns 'b'"),
        (WithColumns((("d", 1), ("d", 2))), "with d, d makes several columns 'd'"),
        (WithColumns((("d", object()),)), "column 'd' cannot be <object.*that Arrow has a type for"),
    ],
    ids=["select", "rename", "with", "constant"],
)
def test_columns_that_cannot_be_are_said_before_data_moves(operator: Narrow, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        operator.schema(BATCH.schema)


def test_labels_stay_short() -> None:
    assert Select(("a", "b")).label == "select a, b"
    assert Select(tuple("abcdefgh")).label == "select a, b, c, d and 4 more"
    assert Rename((("a", "b"),)).label == "rename a to b"
    assert WithColumns((("a", 1),)).label == "with a"


def test_operators_travel_and_those_without_expressions_are_values() -> None:
    again = pickle.loads(pickle.dumps(WithColumns((("d", pc.field("a") + 1),))))
    assert after(again)["d"].to_pylist() == [2, 3, None]
    assert pickle.loads(pickle.dumps(Select(("a",)))) == Select(("a",))
    assert WithColumns((("d", pc.field("a")),)) != WithColumns((("d", pc.field("b")),))
