"""The driver's side of an exchange: who gave what to which partition. Only references, never records.

Theory. A unit of work gives one piece per partition to each wide op that it feeds. When all units that feed
a wide op have given, its partitions become units of work themselves, neighbours that are small together.
The pieces of a range exchange are cut only then, because the bounds need a sample of all keys. The
references are kept until the wide op is done: what is lost with a node is given again by its unit.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from raflow.batch import from_ipc, to_ipc
from raflow.operators import routing
from raflow.operators.contract import Everywhere, Range, Single, Wide
from raflow.plan import Op
from raflow.runtime.work import Pieces, pack_schema, unpack_schema
from raflow.schema import merge, together
from raflow.sources import Split

_PARTITION_BYTES = 64 << 20
_LEAST, _MOST = 8, 256
_UNIT_BYTES = 16 << 20
"""Neighbouring partitions are one unit of work up to this size."""

Unit = tuple[str, int]
"""An entry and the number of a unit."""


@dataclass(eq=False)
class Given:
    """What one unit has given to one input of a wide op."""

    pieces: Pieces
    references: list[Any]
    """Per partition; one alone if it is not cut yet."""
    stage: str
    """Whose replicas can cut it."""
    whole: bool = False
    """Whether it must still be cut by the bounds of a range exchange."""
    cutting: bool = False


@dataclass(eq=False)
class Shuffle:
    """The exchange before one wide op."""

    op: Op
    partitions: int
    feeders: tuple[str, ...] = ()
    """The entries that feed it."""
    columns: tuple[pa.Schema | None, ...] = ()
    """Of each input, if they are known before the run."""
    bounds: pa.Table | None = None
    given: dict[tuple[Unit, str, int], list[Given]] = field(default_factory=dict)
    """By unit, the op that gave, and the input of the wide op."""
    complete: set[Unit] = field(default_factory=set)

    @property
    def wide(self) -> Wide:
        """The operator."""
        assert isinstance(self.op.work, Wide)
        return self.op.work

    def take(self, unit: Unit, stage: Mapping[str, str], pieces: list[tuple[Pieces, list[Any]]]) -> None:
        """Keep what a unit has given to this exchange; earlier attempts at it are forgotten.

        Args:
            unit: Which.
            stage: By op: its stage.
            pieces: What it has given to all exchanges.
        """
        self.forget(unit)
        for one, references in pieces:
            if one.exchange.taker == self.op.name:
                ranged = isinstance(self.wide.routes[one.exchange.side], Range)
                given = Given(one, references, stage[one.exchange.giver], ranged and bool(references))
                self.given.setdefault((unit, one.exchange.giver, one.exchange.side), []).append(given)
        self.complete.add(unit)

    def forget(self, unit: Unit) -> None:
        """Drop what a unit has given: it is lost, or given again."""
        self.complete.discard(unit)
        for key in [key for key in self.given if key[0] == unit]:
            del self.given[key]

    def clear(self) -> None:
        """Drop all references: the wide op is done."""
        self.given.clear()
        self.complete.clear()

    def all(self) -> list[Given]:
        """Return what was given, in order of inputs and units."""
        keys = sorted(self.given, key=lambda key: (key[2], key[1], key[0]))
        return [one for key in keys for one in self.given[key]]

    def set_bounds(self) -> str | None:
        """Find the bounds of a range exchange from the samples; returns them as text for the ledger."""
        route = self.wide.routes[0]
        if self.bounds is not None or not isinstance(route, Range):
            return None
        samples = [from_ipc(one.pieces.sample) for one in self.all() if one.pieces.sample]
        if not samples:
            return None
        self.bounds = routing.bounds(together(samples), route, self.partitions)
        return base64.b64encode(self.packed_bounds()).decode()

    def packed_bounds(self) -> bytes:
        """Return the bounds as IPC."""
        assert self.bounds is not None
        return bytes(to_ipc(self.bounds.to_batches(), self.bounds.schema).to_pybytes())

    def uncut(self) -> list[Given]:
        """Return what must still be cut and is not under way."""
        return [one for many in self.given.values() for one in many if one.whole and not one.cutting]

    @property
    def is_cut(self) -> bool:
        """Whether every piece has its partition."""
        return not any(one.whole for many in self.given.values() for one in many)

    def units(self) -> list[Split]:
        """Return the partitions as units of work: small neighbours are one, unless much may be done to them."""
        sizes = [0] * self.partitions
        rows = [0] * self.partitions
        for one in self.all():
            for partition, (size, count) in enumerate(zip(one.pieces.sizes, one.pieces.rows, strict=True)):
                sizes[partition] += size
                rows[partition] += count
        splits: list[Split] = []
        start = 0
        for end in range(1, self.partitions + 1):
            apart = self.wide.partitions is not None or (self.wide.runs_python and any(rows[start:end]))
            full = apart or sum(sizes[start : end + 1]) > _UNIT_BYTES
            if end == self.partitions or full:
                splits.append(self._split(start, end, sum(rows[start:end]), sum(sizes[start:end])))
                start = end
        kept = [split for split in splits if split.rows]
        return kept or splits[:1]

    def inputs(self, split: Split) -> tuple[tuple[int, ...], tuple[bytes | None, ...], list[Any]]:
        """Return per input the number of pieces and the schema, and the references of all pieces."""
        start, end = split.payload
        references: list[Any] = []
        numbers, schemas = [], []
        for side, route in enumerate(self.wide.routes):
            mine = [one for one in self.all() if one.pieces.exchange.side == side]
            found = [
                one.references[partition]
                for partition in ((0,) if isinstance(route, Everywhere) else range(start, end))
                for one in mine
                if one.references and one.pieces.rows[partition]
            ]
            known = [schema for one in mine if (schema := unpack_schema(one.pieces.schema)) is not None]
            references += found
            numbers.append(len(found))
            schemas.append(pack_schema(merge(known) if known else self._of_nothing(side)))
        return tuple(numbers), tuple(schemas), references

    def _of_nothing(self, side: int) -> pa.Schema | None:
        """Return the schema of what no unit has given anything of."""
        columns = self.columns[side] if self.columns else None
        return None if columns is None else self.wide.partial(side, columns.empty_table()).schema

    def lost(self, gone: list[bool], references: list[Any]) -> set[Unit]:
        """Return the units whose pieces are gone.

        Args:
            gone: Per reference whether it is.
            references: Those that were asked for.
        """
        missing = {id(one) for one, is_gone in zip(references, gone, strict=True) if is_gone}
        return {key[0] for key, many in self.given.items() for one in many if missing & {id(r) for r in one.references}}

    def givers(self, split: Split) -> set[Unit]:
        """Return the units that gave something to these partitions."""
        start, end = split.payload
        everywhere = {side for side, route in enumerate(self.wide.routes) if isinstance(route, Everywhere)}
        return {
            key[0]
            for key, many in self.given.items()
            for one in many
            if any(one.pieces.rows[start:end]) or one.pieces.exchange.side in everywhere
        }

    def _split(self, start: int, end: int, rows: int, size: int) -> Split:
        which = f"partition {start}" if end == start + 1 else f"partitions {start}-{end - 1}"
        return Split(f"{self.op.name} {which}", [start, end], rows=rows, bytes=size)


def partitions(wide: Wide, size: int | None) -> int:
    """Return the partitions of an exchange, by the bytes that are read before it; never by the number of CPUs."""
    if all(isinstance(route, Single) for route in wide.routes):
        return 1
    if wide.partitions is not None:
        return wide.partitions
    return min(max(_LEAST, -(-(size or 0) // _PARTITION_BYTES)), _MOST)
