"""What a simulated flow is made of."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from raflow.runtime.scaling.values import Decision

CPU: Mapping[str, float] = {"CPU": 1.0}

Service = Callable[[float, random.Random], float]
"""Seconds that a unit takes which is begun at that time."""


@dataclass(frozen=True)
class Stage:
    """What a stage is like; `to` are its consumers."""

    name: str
    service: float | Service
    to: tuple[str, ...] = ()
    needs: Mapping[str, float] = field(default_factory=lambda: CPU)
    start_s: float = 1.0
    selectivity: float = 1.0
    min_replicas: int = 1
    max_replicas: int | None = None
    fixed: int | None = None
    source: int = 0
    """Units that wait from the beginning; no more come unless `arrivals` bring them."""
    edge: int = 24
    """Units that its input edge holds."""
    barrier: bool = False
    """It begins when its producers are through."""

    def service_s(self, now_s: float, dice: random.Random) -> float:
        return self.service if isinstance(self.service, float) else self.service(now_s, dice)


@dataclass
class Replica:
    stage: str
    ready: bool = False
    draining: bool = False
    works: bool = False
    """Whether a call is under way."""
    line: int = 0
    """Units that wait in it."""
    dead: bool = False

    @property
    def units(self) -> int:
        return self.works + self.line


@dataclass(frozen=True)
class Change:
    now_s: float
    decision: Decision


@dataclass(frozen=True)
class Moment:
    """What was at one tick."""

    now_s: float
    ready: dict[str, int]
    held: dict[str, float]
    """Resources that replicas hold, those that start and drain included."""
    capacity: dict[str, float]
    done: dict[str, int]
    queued: dict[str, int]
