import pickle

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raflow.errors import InvalidOption
from raflow.operators.contract import Single
from raflow.operators.limit import Limit
from tests.operators.harness import run
from tests.operators.tables import TABLES


@settings(max_examples=100, deadline=None)
@given(TABLES, st.integers(0, 15), st.integers(0, 99))
def test_the_first_rows_are_kept_in_their_order(table: pa.Table, rows: int, seed: int) -> None:
    found = run(Limit(rows), table, seed=seed)
    assert repr(found.to_pylist()) == repr(table.to_pylist()[:rows])
    assert found.schema == Limit(rows).schema(table.schema)


def test_units_are_not_needed_after_those_that_have_enough() -> None:
    limit = pickle.loads(pickle.dumps(Limit(5)))
    assert limit.enough == 5
    assert limit.routes == (Single(),)
    assert limit.partial(0, pa.table({"a": range(10)})).num_rows == 5


def test_a_negative_number_is_an_error() -> None:
    with pytest.raises(InvalidOption, match="limit takes 0 rows or more, not -1"):
        Limit(-1)


def test_rows_without_columns_are_as_many_as_there_are() -> None:
    few = pa.table({"a": [1, 2]}).select([])
    assert Limit(5).partial(0, few).num_rows == 2
    assert Limit(1).finish(few).num_rows == 1
    assert Limit(5).finish(pa.table({})).num_rows == 0
