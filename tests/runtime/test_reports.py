"""What follows from what replicas report."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import pyarrow as pa
import pytest

from raflow import Flow
from raflow.connectors.memory import MemorySource
from raflow.errors import InputLost, ReplicaLost
from raflow.runtime.replica import Replica

PIECES = 4


@pytest.mark.parametrize("lost", [InputLost, ReplicaLost])
def test_what_is_lost_when_a_sort_cuts_its_last_piece_is_made_again(
    lost: type[ReplicaLost], monkeypatch: pytest.MonkeyPatch
) -> None:
    # Stands for a node that goes in just this moment, which no test can choose on a real cluster.
    cuts, others, spread = itertools.count(1), threading.Semaphore(0), Replica.spread

    def losing(replica: Replica, *args: Any) -> Any:
        if next(cuts) == PIECES:
            assert all(others.acquire(timeout=30) for _ in range(PIECES - 1))
            msg = "its node has gone"
            raise lost(msg)
        answer = spread(replica, *args)
        others.release()
        return answer

    monkeypatch.setattr(Replica, "spread", losing)
    numbers = MemorySource(pa.table({"n": [n * 7 % 40 for n in range(40)]}), rows_per_split=10)
    found = Flow().read(numbers).sort("n").collect(engine="local")
    assert found == [{"n": n} for n in range(40)]
    assert next(cuts) > PIECES + 1
