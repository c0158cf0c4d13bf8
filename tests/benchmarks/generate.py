"""Generated input, the same on every machine: python -m tests.benchmarks.generate FOLDER ROWS.

Trips: 8 columns, 20 files, row groups of 250,000 rows. Documents: one for 1,000 trips, 100 KB of bytes
that do not compress, 4 files of a single row group each.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

FILES, ROW_GROUP_ROWS = 20, 250_000
DOCUMENT_FILES, DOCUMENT_BYTES = 4, 100_000
_START_US, _MONTH_US = 1_700_000_000_000_000, 30 * 86_400 * 10**6


def trips(file: int, rows: int) -> pa.Table:
    rng = np.random.default_rng([0, file])
    payments = pa.array(["card", "cash", "no charge", "dispute"])
    return pa.table(
        {
            "vendor_id": rng.integers(1, 3, rows, dtype=np.int8),
            "pickup_us": pa.array(_START_US + rng.integers(0, _MONTH_US, rows), pa.timestamp("us")),
            "passengers": rng.integers(0, 7, rows, dtype=np.int8),
            "distance": rng.gamma(2, 1.7, rows),
            "fare": np.round(rng.gamma(3, 5, rows), 2),
            "tip": np.round(rng.gamma(1, 2, rows), 2),
            "zone": rng.integers(1, 266, rows, dtype=np.int16),
            "payment": payments.take(pa.array(rng.integers(0, 4, rows))),
        }
    )


def documents(file: int, rows: int) -> pa.Table:
    rng = np.random.default_rng([1, file])
    bodies = pa.FixedSizeBinaryArray.from_buffers(
        pa.binary(DOCUMENT_BYTES), rows, [None, pa.py_buffer(rng.bytes(rows * DOCUMENT_BYTES))]
    )
    # Offsets of 32 bits are enough: a file stays far below 2 GiB.
    return pa.table({"id": np.arange(file * rows, (file + 1) * rows), "body": bodies.cast(pa.binary())})


def _write(path: Path, make: Any, file: int, rows: int, row_group_rows: int) -> None:
    if path.exists():
        return
    unfinished = path.with_suffix(".unfinished")
    pq.write_table(make(file, rows), unfinished, row_group_size=row_group_rows, compression="snappy")
    unfinished.rename(path)


def generate(folder: Path, rows: int) -> None:
    """Write the files that are not there yet."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(FILES):
        _write(folder / f"trips-{file:02}.parquet", trips, file, rows // FILES, ROW_GROUP_ROWS)
    each = max(rows // 1000 // DOCUMENT_FILES, 1)
    for file in range(DOCUMENT_FILES):
        _write(folder / f"documents-{file}.parquet", documents, file, each, each)


if __name__ == "__main__":
    generate(Path(sys.argv[1]), int(sys.argv[2]))
