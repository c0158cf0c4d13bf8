"""Pieces of data in threads."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from raflow.arrow_threads import in_threads


@pytest.fixture(params=[1, 2])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    known = pa.cpu_count()
    pa.set_cpu_count(request.param)
    yield request.param
    pa.set_cpu_count(known)


def test_results_come_in_the_order_of_the_pieces(threads: int) -> None:
    assert list(in_threads(str, range(9))) == list("012345678")
    assert list(in_threads(str, [])) == []


def test_as_many_pieces_as_arrow_may_use_threads_are_worked_on_at_a_time(threads: int) -> None:
    together = threading.Barrier(threads)
    assert all(in_threads(lambda piece: together.wait(30) >= 0, range(2 * threads)))


def test_what_fails_for_a_piece_fails_for_all(threads: int) -> None:
    with pytest.raises(ZeroDivisionError):
        list(in_threads(lambda piece: 1 // piece, [1, 0, 1]))


def test_no_more_pieces_are_ahead_than_there_are_threads(threads: int) -> None:
    begun: list[int] = []
    made = in_threads(lambda piece: begun.append(piece), range(100))
    for _ in range(10):
        next(made)
    assert len(begun) <= 10 + threads
    made.close()  # type: ignore[attr-defined]
    assert len(begun) <= 11 + threads
