"""Spreads the rows of a table over partitions, as a route says."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from raflow.operators.contract import Even, Hash, Range, Route
from raflow.operators.hashing import hashes, row_hashes
from raflow.operators.rows import take
from raflow.schema import together

_SEED = 20261121


def split(
    table: pa.Table, route: Route, partitions: int, bounds: pa.Table | None = None, *, start: int = 0
) -> list[pa.Table]:
    """Return a table per partition; rows keep their order, tables without rows have the columns.

    Args:
        table: The rows.
        route: How they are spread.
        partitions: How many there are.
        bounds: Of a `Range`: what `bounds` returned.
        start: Of `Even`: the partition of the first rows, so that small tables do not all go to one.
    """
    if partitions == 1 or not table.num_rows:
        return [table, *[table.slice(0, 0)] * (partitions - 1)]
    if isinstance(route, Hash):
        found = row_hashes(table) if route.keys is None else hashes(table, route.keys)
        return _dealt(table, (found % np.uint64(partitions)).astype(np.int64), partitions)
    if isinstance(route, Even):
        ends = [table.num_rows * n // partitions for n in range(partitions + 1)]
        slices = [table.slice(first, end - first) for first, end in pairwise(ends)]
        return [slices[(partition - start) % partitions] for partition in range(partitions)]
    if isinstance(route, Range):
        assert bounds is not None
        return _dealt(table, _places(table, route, bounds), partitions)
    return [table, *[table.slice(0, 0)] * (partitions - 1)]  # where all look for what goes everywhere


def sample(table: pa.Table, route: Range, rows: int) -> pa.Table:
    """Return the sort columns of at most so many rows, the same ones each time."""
    keys = table.select([name for name, _ in route.by])
    if keys.num_rows <= rows:
        return keys
    chosen = np.random.default_rng(_SEED).choice(keys.num_rows, rows, replace=False)
    return take(keys, np.sort(chosen))


def bounds(samples: pa.Table, route: Range, partitions: int) -> pa.Table:
    """Return the last row of each partition but the last one, so that they are about equally large."""
    ordered = ordered_by(samples, route.by)
    if not ordered.num_rows:
        return ordered
    places = [ordered.num_rows * n // partitions for n in range(1, partitions)]
    return take(ordered, pa.array(places, pa.int64()))


def ordered_by(table: pa.Table, by: tuple[tuple[str, str], ...]) -> pa.Table:
    """Return the rows in order; equal ones keep theirs, NaN comes after all numbers and null last."""
    order = pc.sort_indices(table, sort_keys=list(by))
    return take(table, order)


def _places(table: pa.Table, route: Range, bounds: pa.Table) -> npt.NDArray[np.int64]:
    """Return the partition of each row: the number of bounds that come before it.

    Rows and bounds are sorted together; equal rows come before their bound, so they stay together.
    """
    names = [name for name, _ in route.by]
    rows = table.num_rows
    mark = pa.array(np.concatenate([np.zeros(rows, np.int8), np.ones(bounds.num_rows, np.int8)]))
    keys = together([table.select(names), bounds.select(names)])
    keyed = [f"key {number}" for number in range(len(names))]
    both = pa.table([*keys.select(names).columns, mark], names=[*keyed, "is a bound"])
    by = [(key, order) for key, (_, order) in zip(keyed, route.by, strict=True)]
    order = pc.sort_indices(both, sort_keys=[*by, ("is a bound", "ascending")]).to_numpy()
    is_bound = order >= rows
    found = np.empty(rows, np.int64)
    found[order[~is_bound]] = np.cumsum(is_bound)[~is_bound]
    return found


def _dealt(table: pa.Table, places: npt.NDArray[np.int64], partitions: int) -> list[pa.Table]:
    """Return a table per partition, with one pass over the data."""
    small = places.astype(np.uint16 if partitions > 256 else np.uint8)
    order = np.argsort(small, kind="stable")
    sorted_rows = take(table, order)
    ends = np.cumsum(np.bincount(small, minlength=partitions))
    starts = [0, *ends[:-1].tolist()]
    return [sorted_rows.slice(start, int(end) - start) for start, end in zip(starts, ends, strict=True)]
