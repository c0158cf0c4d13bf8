from __future__ import annotations

import pyarrow as pa

from raflow.batch import from_ipc, slices, to_ipc


def test_slices_cover_a_batch() -> None:
    batch = pa.record_batch({"n": list(range(10))})
    assert [piece.num_rows for piece in slices(batch, 4)] == [4, 4, 2]


def test_ten_rows_of_a_large_batch_travel_as_ten_rows() -> None:
    batch = pa.record_batch({"n": list(range(100_000))}).slice(500, 10)
    buffer = to_ipc([batch], batch.schema)
    assert buffer.size < 1000
    assert from_ipc(buffer).column("n").to_pylist() == list(range(500, 510))
