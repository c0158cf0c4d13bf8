"""Streams of what users already have: tables and data frames in this process."""

from __future__ import annotations

from typing import Any

from raflow.connectors.memory import MemorySource
from raflow.flow import Flow
from raflow.stream import Stream

_SPLITS = 64
_LEAST_ROWS = 10_000


def from_arrow(data: Any) -> Stream:
    """Return a stream of the rows of a table, by reference where the run is in this process.

    Args:
        data: A `pa.Table`, a `pa.RecordBatch`, or anything else that `MemorySource` takes.

    Raises:
        SourceError: It is nothing that has records, or they do not fit one schema.

    Example:
        >>> import pyarrow as pa
        >>> import raflow
        >>> raflow.from_arrow(pa.table({"n": [3, 1, 2]})).sort("n").to_arrow(engine="local")["n"].to_pylist()
        [1, 2, 3]
    """
    rows = getattr(data, "num_rows", 0)
    return Flow().read(MemorySource(data, rows_per_split=max(_LEAST_ROWS, -(-rows // _SPLITS))))


def from_pandas(data: Any) -> Stream:
    """Return a stream of the rows of a `pandas.DataFrame`, without its index.

    Raises:
        pyarrow.ArrowException: Arrow has no type for the values of a column.

    Example:
        >>> import pandas as pd
        >>> import raflow
        >>> raflow.from_pandas(pd.DataFrame({"n": [1, 2]})).count(engine="local")
        2
    """
    return from_arrow(MemorySource(data).table())


def from_ray_dataset(dataset: Any) -> Stream:
    """Return a stream of the rows of a `ray.data.Dataset`; its blocks are read where they are.

    The dataset is computed now, if it is not yet. The stream runs on the Ray engine only. The blocks end with
    this process, so a run that reads them cannot be resumed.

    Raises:
        SourceError: It is no `ray.data.Dataset`.
    """
    from raflow.engines.ray.dataset import DatasetSource

    return Flow().read(DatasetSource(dataset))
