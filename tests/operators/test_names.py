import pyarrow as pa
import pytest

from raflow.errors import SchemaError
from raflow.operators.names import check_columns

SCHEMA = pa.schema([("zone", pa.int64()), ("fare", pa.float64())])


def test_columns_that_are_there_pass() -> None:
    check_columns(["fare", "zone", "fare"], SCHEMA, "select")


def test_an_unknown_column_is_named_with_those_there_are_and_the_nearest() -> None:
    with pytest.raises(SchemaError) as caught:
        check_columns(["zone", "fair"], SCHEMA, "sort by fair")
    expected = "there is no column 'fair' for sort by fair; there are: zone, fare; did you mean 'fare'?"
    assert str(caught.value) == expected


def test_no_guess_is_made_where_nothing_is_near() -> None:
    with pytest.raises(SchemaError, match="there are: zone, fare$"):
        check_columns(["xyz"], SCHEMA, "select")


def test_an_input_without_columns_is_said_to_have_none() -> None:
    with pytest.raises(SchemaError, match="the input has no columns$"):
        check_columns(["a"], pa.schema([]), "select")


def test_a_column_that_is_there_twice_is_an_error() -> None:
    with pytest.raises(SchemaError, match="there are 2 columns 'a'"):
        check_columns(["a"], pa.schema([("a", pa.int8()), ("a", pa.int8())]), "select")
