from __future__ import annotations

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from raflow.batch import from_ipc, regroup, slices, to_ipc


@given(st.lists(st.integers(0, 40), max_size=10), st.integers(1, 25))
def test_regrouping_keeps_all_records_in_order_in_batches_of_one_size(sizes: list[int], rows: int) -> None:
    numbers = iter(range(1000))
    batches = [pa.record_batch({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    grouped = list(regroup(batches, rows))
    assert [n for batch in grouped for n in batch.column("n").to_pylist()] == list(range(sum(sizes)))
    assert all(batch.num_rows == rows for batch in grouped[:-1])
    assert all(0 < batch.num_rows <= rows for batch in grouped)


def test_slices_cover_a_batch() -> None:
    batch = pa.record_batch({"n": list(range(10))})
    assert [piece.num_rows for piece in slices(batch, 4)] == [4, 4, 2]


def test_ten_rows_of_a_large_batch_travel_as_ten_rows() -> None:
    batch = pa.record_batch({"n": list(range(100_000))}).slice(500, 10)
    buffer = to_ipc([batch], batch.schema)
    assert buffer.size < 1000
    assert from_ipc(buffer).column("n").to_pylist() == list(range(500, 510))
