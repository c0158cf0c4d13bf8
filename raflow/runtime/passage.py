"""One attempt at a unit of work on its way through stages, as the driver sees it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from raflow.metrics import Counts
from raflow.plan import Stage
from raflow.runtime.work import Order, Outcome, Pieces
from raflow.sinks import Part


@dataclass
class At:
    """Where the attempt stands in one stage."""

    stage: Stage
    replicas: set[int] = field(default_factory=set)
    """That hold a part of it."""
    came: Counter[str] = field(default_factory=Counter)
    """By channel: blocks that came here."""
    gave: Counter[str] = field(default_factory=Counter)
    """By channel: blocks that it gave, or will have given when it is over here."""
    sent: Counter[str] = field(default_factory=Counter)
    """By channel: number of the last block that was given out whole."""
    waiting: int = 0
    """Blocks in line."""
    flying: int = 0
    """Calls under way."""
    closing: int = 0
    """Replicas that are ending their part of it."""
    over: bool = False


class Passage:
    """One attempt.

    Args:
        order: What was ordered.
        stages: Those through which it passes, its own first.
    """

    def __init__(self, order: Order, stages: tuple[Stage, ...]) -> None:
        self.order = order
        self.key = order.key
        self.at = {stage.name: At(stage) for stage in stages}
        self.first = stages[0].name
        self.stale = False
        """Whether another attempt takes its place."""
        self.parts: dict[str, list[list[Part]]] = {}
        """By op that writes, per sink."""
        self.schemas: dict[str, set[bytes]] = {}
        self.counts: dict[str, Counts] = {}
        """By stage."""
        self.failed: Counter[str] = Counter()
        """By op: failing records."""
        self.pieces: list[tuple[Pieces, list[Any]]] = []

    @property
    def is_over(self) -> bool:
        """Whether all stages are done with it."""
        return all(at.over for at in self.at.values())

    @property
    def only_waits(self) -> bool:
        """Whether all that there is of it waits in line, so that nothing is lost with it."""
        first, *later = self.at.values()
        return first.over and bool(later) and not any(at.replicas or at.over for at in later)

    def take(self, stage: str, outcome: Outcome, references: list[Any]) -> None:
        """Keep what a replica has done with the whole of its part.

        Args:
            stage: Whose replica it is.
            outcome: What it has told.
            references: Of the exchanges' pieces.
        """
        for op, groups in outcome.parts.items():
            mine = self.parts.setdefault(op, [[] for _ in groups])
            for kept, group in zip(mine, groups, strict=True):
                kept.extend(group)
        for op, schema in outcome.schemas.items():
            self.schemas.setdefault(op, set()).add(schema)
        self.counts[stage] = self.counts.get(stage, Counts()) + outcome.counts
        self.failed.update(outcome.failed)
        if stage == self.first:
            self.at[stage].gave.update(outcome.emitted)
        start = 0
        for pieces in outcome.pieces:
            end = start + len(pieces.rows)
            self.pieces.append((pieces, references[start:end] if any(pieces.rows) else []))
            start = end

    def came_through(self, name: str) -> bool:
        """Return whether everything that will come to a stage has come and was processed."""
        at = self.at[name]
        before = [other for other in self.at.values() if set(other.stage.emits) & set(at.stage.takes)]
        if at.waiting or at.flying or not all(other.over for other in before):
            return False
        gave: Counter[str] = sum((other.gave for other in before), Counter())
        return all(at.came[channel] == gave[channel] for channel in at.stage.takes)
