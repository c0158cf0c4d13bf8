"""One stage of a run as the driver sees it: its pool, and the blocks that wait for it."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raflow.metrics import Counts, StageStats, Status
from raflow.plan import Stage
from raflow.runtime.entry import EntryRun
from raflow.runtime.passage import Passage
from raflow.runtime.pool import Member, Pool
from raflow.runtime.scheduler import IN_FLIGHT
from raflow.runtime.work import Block, Job

_TARGET_S = 0.05
"""Work of one call: long enough to pay for the hop, short enough to share it out."""
_MAX_ROWS = 1 << 20


@dataclass(eq=False)
class Piece:
    """A part of a block in line before a stage."""

    passage: Passage
    block: Block
    reference: Any
    node: str
    """Of the replica that has given it."""
    start: int
    rows: int

    @property
    def size(self) -> float:
        """Its share of the block's bytes."""
        return self.block.size * self.rows / max(self.block.rows, 1)


@dataclass(eq=False)
class Feed:
    """Pieces of one unit and channel that go to a replica in one call."""

    passage: Passage
    pieces: list[Piece] = field(default_factory=list)

    @property
    def size(self) -> float:
        """Bytes."""
        return sum(piece.size for piece in self.pieces)


class StageRun:
    """The work of one stage; used by the driver's thread only.

    Args:
        stage: What the plan says.
        job: What its replicas need.
        pool: Of its replicas.
        entries: Those whose units begin here or pass through.
    """

    def __init__(self, stage: Stage, job: Job, pool: Pool, entries: Iterable[EntryRun]) -> None:
        self.stage = stage
        self.job = job
        self.through = list(entries)
        """Entries whose units pass through; also those that begin here."""
        self.entries = [entry for entry in self.through if entry.name in stage.by_name]
        """Entries whose units begin here."""
        self.pool = pool
        self.line: deque[Piece] = deque()
        self.bytes = 0.0
        """Of blocks in line and of those that are being processed."""
        self.total = Counts()
        self.failed: Counter[str] = Counter()
        for entry in self.through:
            for unit in entry.done:
                self.add(entry.units[unit].counts.get(stage.name), entry.units[unit].failed)
        self._whole = max((op.options.batch_rows or 1 for op in stage.ops if op.shape), default=1)
        self.target = 0
        """Records of one call."""
        self.aim()
        self.losses: Counter[Any] = Counter()
        self.status = Status.PENDING
        self.began = self.ended = 0.0
        self.most_replicas = self.replicas_lost = 0

    @property
    def is_done(self) -> bool:
        """Whether nothing will come to it any more."""
        return all(entry.is_done for entry in self.through)

    @property
    def work(self) -> int:
        """Units and blocks that wait for a replica."""
        return sum(entry.work for entry in self.entries) + len(self.line)

    def add(self, counts: Counts | None, failed: Mapping[str, int], sign: int = 1) -> None:
        """Add what a unit that is done has counted here; with -1 as the sign, take it back."""
        counts = counts or Counts()
        self.total = self.total + counts if sign > 0 else self.total - counts
        self.failed.update({op: sign * count for op, count in failed.items() if op in self.stage.by_name})

    def ready(self) -> None:
        """Take note that a replica can work."""
        self.status = Status.RUNNING
        self.began = self.began or time.monotonic()

    def put(self, piece: Piece) -> None:
        """Take a block into the line."""
        piece.passage.at[self.stage.name].came[piece.block.channel] += 1
        if piece.rows:
            piece.passage.at[self.stage.name].waiting += 1
            self.line.insert(self._place(piece), piece)
            self.bytes += piece.size

    def _place(self, piece: Piece) -> int:
        """Return where in the line a block belongs: before later ones that have overtaken it, where order is kept."""
        if self.stage.options.preserve_order:
            for place, one in enumerate(self.line):
                is_alike = one.passage is piece.passage and one.block.channel == piece.block.channel
                if is_alike and one.block.number > piece.block.number:
                    return place
        return len(self.line)

    def forget(self, passage: Passage) -> None:
        """Drop what waits of an attempt that was given up."""
        self.bytes -= sum(piece.size for piece in self.line if piece.passage is passage)
        self.line = deque(piece for piece in self.line if piece.passage is not passage)

    def next_feed(self) -> tuple[Member, Feed] | None:
        """Take pieces from the line and say which replica gets them; None if nothing can be given out now."""
        for index, piece in enumerate(self.line):
            member = self._member_for(piece) if self._is_next(piece) else None
            if member is not None:
                return member, self._taken(index)
            if index > len(self.pool.members):
                break
        return None

    def _is_next(self, piece: Piece) -> bool:
        at = piece.passage.at[self.stage.name]
        return not self.stage.options.preserve_order or piece.block.number == at.sent[piece.block.channel] + 1

    def _member_for(self, piece: Piece) -> Member | None:
        """Return the replica for a unit's next piece: of those with the least work one on the node of the piece.

        A unit stays with as few replicas as keep all busy, because each writes a file of its own for it.
        """
        at = piece.passage.at[self.stage.name]
        there = self.pool.ready
        if self.stage.options.preserve_order and at.replicas:
            # Also one that leaves: it has to end the unit before it can.
            members = [self.pool.members.get(index) for index in at.replicas]
            there = [] if at.flying else [member for member in members if member and member.ready]
        free = [member for member in there if len(member.units) < IN_FLIGHT]
        known = [member for member in free if member.index in at.replicas]
        idle = [member for member in free if not member.units]
        for group in (idle and [one for one in known if not one.units], idle, known, free):
            if group:
                return min(group, key=lambda member: (len(member.units), member.node != piece.node, member.index))
        return None

    def _taken(self, index: int) -> Feed:
        """Take the piece at an index, and what is behind it while it is little work; large ones are cut."""
        first = self.line[index]
        feed, rows, target = Feed(first.passage), 0, self.target
        while index < len(self.line) and rows < target:
            piece = self.line[index]
            if piece.passage is not first.passage or piece.block.channel != first.block.channel:
                break
            if feed.pieces and (rows + piece.rows > target or not self._is_next(piece)):
                break
            del self.line[index]
            if piece.rows > 2 * target:
                rest = replace(piece, start=piece.start + target, rows=piece.rows - target)
                self.line.insert(index, rest)
                piece = replace(piece, rows=target)
                first.passage.at[self.stage.name].waiting += 1
            else:
                first.passage.at[self.stage.name].sent[piece.block.channel] = piece.block.number
            feed.pieces.append(piece)
            rows += piece.rows
        at = first.passage.at[self.stage.name]
        at.waiting -= len(feed.pieces)
        return feed

    def aim(self) -> None:
        """Set the records of one call: about 50 ms of work, as far as it is known; whole batches if asked."""
        counts = self.counts()
        per_row = counts.busy_s / counts.rows_in if counts.rows_in and counts.busy_s else None
        rows = _MAX_ROWS if per_row is None else int(min(_TARGET_S / per_row, _MAX_ROWS))
        known = per_row is not None or self._whole == 1
        self.target = max(rows // self._whole, 1) * self._whole if known else self._whole

    def counts(self) -> Counts:
        """Return the sums over units that are done and those in flight."""
        working = sum((member.counts for member in self.pool.members.values()), self.total)
        return sum((one for entry in self.through for one in entry.uncounted(self.stage.name)), working)

    def stats(self) -> StageStats:
        """Return what has been done so far."""
        replicas = len(self.pool.ready)
        self.most_replicas = max(self.most_replicas, replicas)
        return StageStats(
            name=self.stage.name,
            status=self.status,
            counts=self.counts(),
            replicas=replicas if not self.ended else self.most_replicas,
            units_done=sum(len(entry.done) for entry in self.through),
            units_total=sum(entry.total for entry in self.through),
            replicas_lost=self.replicas_lost,
            elapsed_s=(self.ended or time.monotonic()) - self.began if self.began else 0.0,
        )


def parts(pieces: Sequence[Piece]) -> list[tuple[int, int]]:
    """Return per piece the first row and the number of rows of its block."""
    return [(piece.start, piece.rows) for piece in pieces]
