"""Runs a wide operator as a run does: units in pieces, partial, merge, split, finish."""

from __future__ import annotations

import random
from itertools import pairwise

import pyarrow as pa

from raflow.batch import from_ipc, to_ipc
from raflow.operators import routing
from raflow.operators.contract import Range, Single, Wide
from raflow.schema import together


def run(wide: Wide, *inputs: pa.Table, seed: int = 0, partitions: int = 3) -> pa.Table:
    """Return the result for tables that are cut at random; partitions follow each other."""
    dice = random.Random(seed)
    count = 1 if Single() in wide.routes else wide.partitions or partitions
    sides = [_cells(wide, side, table, count, dice) for side, table in enumerate(inputs)]
    finished = [wide.finish(*(cells[number] for cells in sides)) for number in range(count)]
    if not any(table.num_rows for table in finished):
        return finished[0]
    return together([table for table in finished if table.num_rows])


def cut(table: pa.Table, dice: random.Random, most: int = 4) -> list[pa.Table]:
    """Return the rows in up to so many parts; some may have none."""
    ends = sorted(dice.randint(0, table.num_rows) for _ in range(dice.randint(0, most - 1)))
    bounds = [0, *ends, table.num_rows]
    return [table.slice(start, end - start) for start, end in pairwise(bounds)]


def _cells(wide: Wide, side: int, table: pa.Table, partitions: int, dice: random.Random) -> list[pa.Table]:
    units = [_unit(wide, side, unit, dice) for unit in cut(table, dice)]
    route = wide.routes[side]
    bounds = None
    if isinstance(route, Range):
        samples = together([routing.sample(unit, route, 3) for unit in units])
        bounds = routing.bounds(samples, route, partitions)
    cells = [_travelled(routing.split(unit, route, partitions, bounds)) for unit in units]
    schema = together(units).schema
    return [together([unit[number] for unit in cells], schema) for number in range(partitions)]


def _unit(wide: Wide, side: int, table: pa.Table, dice: random.Random) -> pa.Table:
    pieces = [wide.partial(side, together(piece.to_batches(), piece.schema)) for piece in cut(table, dice, most=3)]
    return pieces[0] if len(pieces) == 1 else wide.merge(side, together(pieces))


def _travelled(tables: list[pa.Table]) -> list[pa.Table]:
    return [from_ipc(to_ipc(table.to_batches(), table.schema)) for table in tables]
