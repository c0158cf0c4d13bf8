"""Show the first rows of a folder of Parquet files: python examples/show.py FOLDER."""

from __future__ import annotations

import sys

import pyarrow.dataset as ds


def main(folder: str) -> None:
    data = ds.dataset(folder, partitioning="hive")
    print(data.head(5).to_pandas().to_string(index=False))
    print(f"{data.count_rows():,} rows in {len(data.files)} files in {folder}")


if __name__ == "__main__":
    main(*sys.argv[1:])
