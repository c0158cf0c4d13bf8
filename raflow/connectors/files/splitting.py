"""How the input is cut into splits: by size alone, never by the number of CPUs.

The formats say where their files can be cut; here the pieces are grouped.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from raflow.connectors.files.listing import DataFile
from raflow.sources import Json, Split

_MIN_BYTES = 4 << 20
_MAX_BYTES = 96 << 20
_OPEN_BYTES = 256 << 10
_PIECES = 16


@dataclass(frozen=True)
class Piece:
    """A part of one file that can be read by itself."""

    file: DataFile
    start: int
    """First byte, row group or batch."""
    stop: int | None
    """The one after the last; None: all of a file that cannot be cut."""
    bytes: int
    """Stored size."""
    rows: int | None = None
    """Records, if known."""
    first_row: int | None = None
    """Absolute number of the first record in the file, if known."""

    @property
    def cost(self) -> int:
        """Stored size, plus what opening a file costs: many tiny files are not one cheap split."""
        return self.bytes + _OPEN_BYTES

    @property
    def payload(self) -> Json:
        """What `read` needs."""
        return [self.file.root, self.file.path, self.start, self.stop, self.first_row, self.rows]


def target_bytes(total: int) -> int:
    """Return the size of a split: a sixteenth of the input, within bounds."""
    return min(max(total // _PIECES, _MIN_BYTES), _MAX_BYTES)


def byte_ranges(files: Sequence[DataFile]) -> Iterator[Piece]:
    """Yield files cut into byte ranges of about the size of a split."""
    target = target_bytes(sum(file.size for file in files))
    for file in files:
        count = max(1, -(-file.size // target))
        bounds = [file.size * n // count for n in range(count + 1)]
        for start, stop in pairwise(bounds):
            yield Piece(file, start, stop, stop - start)


def pack(pieces: Sequence[Piece], unit: str) -> list[Split]:
    """Return splits of about a sixteenth of the input, at most 96 MiB, unless one piece is larger.

    Whole pieces may be small: a costly function over a few small files should still use every replica.

    Args:
        pieces: In the order of the input.
        unit: What `start` and `stop` count, for names: `bytes`, `row groups` or `batches`.
    """
    total = sum(piece.bytes for piece in pieces) + _OPEN_BYTES * len({piece.file for piece in pieces})
    target = min(total // _PIECES, _MAX_BYTES)
    return [_split(group, unit) for group in _grouped(pieces, target)]


def _grouped(pieces: Iterable[Piece], target: int) -> Iterator[list[Piece]]:
    group: list[Piece] = []
    held = 0
    for piece in pieces:
        follows = bool(group) and group[-1].file is piece.file and group[-1].stop == piece.start
        cost = piece.bytes if follows else piece.cost
        if group and held + cost > target:
            yield group
            group, held, follows, cost = [], 0, False, piece.cost
        group = [*group[:-1], _joined(group[-1], piece)] if follows else [*group, piece]
        held += cost
    if group:
        yield group


def _joined(left: Piece, right: Piece) -> Piece:
    rows = None if left.rows is None or right.rows is None else left.rows + right.rows
    return replace(left, stop=right.stop, bytes=left.bytes + right.bytes, rows=rows)


def _split(group: Sequence[Piece], unit: str) -> Split:
    rows = [piece.rows for piece in group if piece.rows is not None]
    return Split(
        name=_name(group, unit),
        payload=[piece.payload for piece in group],
        rows=sum(rows) if len(rows) == len(group) else None,
        bytes=sum(piece.bytes for piece in group),
        inputs=tuple(dict.fromkeys(piece.file.input for piece in group)),
    )


def _name(group: Sequence[Piece], unit: str) -> str:
    first = group[0]
    last = f" {unit} {first.start}-{first.stop - 1}" if first.stop else ""
    more = f" and {len(group) - 1} more files" if len(group) > 1 else ""
    return f"{first.file.shown}{last}{more}"
