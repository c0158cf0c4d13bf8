"""Things in columns from left to right, and routes between them.

An edge over several columns keeps a place free in each column between (a bend), so no edge crosses a
thing. Inside a column a route is horizontal; it changes its height only in the gaps. The order within
columns follows the mean place of neighbours (barycenter, as Sugiyama), and so do the heights.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeAlias

Point: TypeAlias = tuple[float, float]
Size: TypeAlias = tuple[float, float]
Key: TypeAlias = Hashable
Neighbours: TypeAlias = dict[Key, list[tuple[Key, float]]]
"""For each thing its neighbours on one side, and how much higher than them it wants to be."""

PAD = 24.0
"""The gap beside a column of ports."""
ROW_GAP = 18.0
"""Between two things in one column."""
BEND = 10.0
"""Height of the place that is kept free for an edge."""
SWEEPS = 8
"""Passes over the columns; more change nothing in graphs of the size that people draw."""


@dataclass(frozen=True)
class Rect:
    """A rectangle; y grows downwards."""

    x: float
    y: float
    width: float
    height: float

    @property
    def right(self) -> float:
        """The x of its right side."""
        return self.x + self.width

    @property
    def bottom(self) -> float:
        """The y of its lower side."""
        return self.y + self.height

    @property
    def middle(self) -> float:
        """The y of its centre."""
        return self.y + self.height / 2

    def moved(self, x: float, y: float) -> Rect:
        """Return it at another place."""
        return replace(self, x=self.x + x, y=self.y + y)


@dataclass(frozen=True)
class Link:
    """An edge between two things, and how far below their centres it ends."""

    edge: int
    """Its number in the graph."""
    start: Key
    end: Key
    start_dy: float = 0.0
    end_dy: float = 0.0


@dataclass(frozen=True)
class Placed:
    """Where things and routes are."""

    rects: dict[Key, Rect]
    routes: dict[int, list[Point]]
    """By number of the edge, from the start's right side to the end's left side."""


def place(sizes: Mapping[Key, Size], column: Mapping[Key, int], links: Sequence[Link], gap: float) -> Placed:
    """Return where things stand that have a size and a column."""
    sizes, column = dict(sizes), dict(column)
    left: Neighbours = defaultdict(list)
    right: Neighbours = defaultdict(list)
    chains = {link.edge: _chain(link, column) for link in links}
    for link in links:
        chain = chains[link.edge]
        for number, key in enumerate(chain[1:-1], 1):
            sizes[key], column[key] = (0.0, BEND), column[chain[0]] + number
        for start, end in pairwise(chain):
            dy = (link.start_dy if start == link.start else 0) - (link.end_dy if end == link.end else 0)
            left[end].append((start, dy))
            right[start].append((end, -dy))
    columns = _ordered(column, left, right)
    middles = _middles(columns, sizes, left, right)
    top = min((middles[key] - sizes[key][1] / 2 for key in middles), default=0.0)
    spans = _spans(columns, sizes, gap)
    rects = {key: _rect(sizes[key], spans[column[key]], middles[key] - top) for key in column}
    routes = {link.edge: _route(link, chains[link.edge], column, spans, rects) for link in links}
    return Placed(rects, routes)


def _chain(link: Link, column: Mapping[Key, int]) -> list[Key]:
    """Return what a link passes: its start, a bend in each column between, its end."""
    bends = [("bend", link.edge, number) for number in range(column[link.start] + 1, column[link.end])]
    return [link.start, *bends, link.end]


def _ordered(column: Mapping[Key, int], left: Neighbours, right: Neighbours) -> dict[int, list[Key]]:
    """Return the things of each column from top to bottom, so that few edges cross."""
    columns: dict[int, list[Key]] = {number: [] for number in sorted(set(column.values()))}
    for key, number in column.items():
        columns[number].append(key)
    rank = {key: (row + 0.5) / len(keys) for keys in columns.values() for row, key in enumerate(keys)}
    for sweep in range(SWEEPS):
        side = right if sweep % 2 else left
        for number in sorted(columns, reverse=bool(sweep % 2)):
            keys = columns[number]
            keys.sort(key=lambda key: _mean([rank[other] for other, _ in side[key]], rank[key]))
            rank |= {key: (row + 0.5) / len(keys) for row, key in enumerate(keys)}
    return columns


def _middles(
    columns: Mapping[int, list[Key]], sizes: Mapping[Key, Size], left: Neighbours, right: Neighbours
) -> dict[Key, float]:
    """Return the y of each thing's centre: as near to its neighbours' as the order allows."""
    middle = {key: 0.0 for keys in columns.values() for key in keys}
    for sweep in range(SWEEPS):
        for number in sorted(columns, reverse=bool(sweep % 2)):
            keys = columns[number]
            side = {key: (right if sweep % 2 else left)[key] or (left if sweep % 2 else right)[key] for key in keys}
            wanted = [_mean([middle[other] + dy for other, dy in side[key]], middle[key]) for key in keys]
            middle |= zip(keys, _spread(wanted, [sizes[key][1] for key in keys]), strict=True)
    return middle


def _spread(wanted: Sequence[float], heights: Sequence[float]) -> list[float]:
    """Return the centres nearest to the wanted ones at which nothing overlaps, in the same order.

    With the least distances subtracted this is isotonic regression: neighbours in the wrong order are
    pooled at their mean.
    """
    offsets = [0.0]
    for above, below in pairwise(heights):
        offsets.append(offsets[-1] + (above + below) / 2 + ROW_GAP)
    pools: list[tuple[float, int]] = []
    for target, offset in zip(wanted, offsets, strict=True):
        mean, number = target - offset, 1
        while pools and pools[-1][0] > mean:
            other, others = pools.pop()
            mean, number = (mean * number + other * others) / (number + others), number + others
        pools.append((mean, number))
    means = [mean for mean, number in pools for _ in range(number)]
    return [mean + offset for mean, offset in zip(means, offsets, strict=True)]


def _spans(columns: Mapping[int, list[Key]], sizes: Mapping[Key, Size], gap: float) -> dict[int, tuple[float, float]]:
    """Return the left and right x of each column."""
    spans: dict[int, tuple[float, float]] = {}
    x, before = 0.0, None
    for number, keys in columns.items():
        width = max(sizes[key][0] for key in keys)
        if before is not None:
            x += gap if width and before else PAD
        spans[number] = (x, x + width)
        x, before = x + width, width
    return spans


def _rect(size: Size, span: tuple[float, float], middle: float) -> Rect:
    return Rect((span[0] + span[1] - size[0]) / 2, middle - size[1] / 2, *size)


def _route(
    link: Link,
    chain: Sequence[Key],
    column: Mapping[Key, int],
    spans: Mapping[int, tuple[float, float]],
    rects: Mapping[Key, Rect],
) -> list[Point]:
    start, end = rects[link.start], rects[link.end]
    start_y, end_y = start.middle + link.start_dy, end.middle + link.end_dy
    points = [(start.right, start_y), (spans[column[link.start]][1], start_y)]
    for key in chain[1:-1]:
        points += [(x, rects[key].middle) for x in spans[column[key]]]
    return [*points, (spans[column[link.end]][0], end_y), (end.x, end_y)]


def _mean(values: Sequence[float], otherwise: float) -> float:
    return sum(values) / len(values) if values else otherwise
