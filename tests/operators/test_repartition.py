import pickle

import pyarrow as pa
import pytest

from raflow.errors import InvalidOption
from raflow.operators import routing
from raflow.operators.repartition import Repartition
from tests.operators.harness import run


def test_all_rows_are_there_once() -> None:
    table = pa.table({"a": range(100)})
    for seed in range(5):
        found = run(Repartition(7), table, seed=seed)
        assert sorted(found.column("a").to_pylist()) == list(range(100))


def test_rows_are_dealt_out_evenly_to_as_many_partitions_as_asked_for() -> None:
    wide = pickle.loads(pickle.dumps(Repartition(4)))
    assert wide.partitions == 4
    parts = routing.split(pa.table({"a": range(10)}), wide.routes[0], wide.partitions)
    assert sorted(part.num_rows for part in parts) == [2, 2, 3, 3]


def test_no_partitions_are_an_error() -> None:
    with pytest.raises(InvalidOption, match="repartition takes 1 partition or more, not 0"):
        Repartition(0)
