"""What the autoscaler is told and what it says: frozen values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raflow.runtime.scaling.allocation import Amounts


@dataclass(frozen=True)
class PoolState:
    """One pool at one moment.

    `rate`, `selectivity` and `unit` are in any measure of data (rows, batches) that all pools of a flow share.
    """

    name: str
    needs: Amounts
    """Of one replica."""
    ready: int = 0
    starting: int = 0
    draining: int = 0
    """Replicas that get no more work but are still there."""
    min_replicas: int = 1
    max_replicas: int | None = None
    """None: as many as the engine can hold."""
    fixed: int | None = None
    """Replicas that it always has (`num_replicas`, `autoscale=False`)."""
    queued: int = 0
    """Units of work (splits, batches) that wait for a replica."""
    in_flight: int = 0
    """Units in its replicas."""
    held_s: float = 0.0
    """Seconds that its replicas hold parts of units, which have to end before they leave."""
    busy_s: float = 0.0
    """Seconds that its replicas worked so far, told as work ends: summed over units, of reading, user code and
    writing, which overlap, the longest."""
    unit: float = 1.0
    """Data in one unit."""
    rate: float | None = None
    """Data per busy second of one replica; None while cold."""
    selectivity: float | None = None
    """Data out for one of data in; None while cold."""
    setup_s: float | None = None
    """Seconds that user code took to set up in its last replica; None while none has come."""
    runs_users: bool = True
    """Whether it runs user code: its replicas take over processes of their kind only."""
    consumers: tuple[str, ...] = ()
    """The pools that take its output."""
    blocked: bool = False
    """Its output waits: a consumer is full."""
    waits: bool = False
    """It can begin nothing yet: its producers have to be through first (an exchange)."""
    exhausted: bool = False
    """No more input will come than what is queued."""

    @property
    def size(self) -> int:
        """Replicas that stay."""
        return self.ready + self.starting

    @property
    def is_cold(self) -> bool:
        """Whether it has replicas that have not shown their speed yet."""
        return self.rate is None and self.size > 0

    @property
    def units(self) -> int:
        """Units of work that it still has."""
        return self.queued + self.in_flight

    @property
    def waiting(self) -> int:
        """Units that no replica works on yet, in line or in a replica."""
        return max(self.units - self.ready, 0)

    @property
    def ended(self) -> bool:
        """Whether it will never work again."""
        return self.exhausted and not self.units


@dataclass(frozen=True)
class Snapshot:
    """All pools of a run, and what there is for them."""

    now_s: float
    """On a clock that never goes back."""
    capacity: Amounts
    """What this run may use in all, its own replicas included."""
    pools: tuple[PoolState, ...]
    can_grow: bool = False
    """Whether the cluster adds nodes when asked."""


@dataclass(frozen=True)
class Decision:
    """One pool changes its size."""

    pool: str
    size: int
    """Before, without draining replicas."""
    target: int
    reason: str

    def __str__(self) -> str:
        return f"{self.pool} {self.size} → {self.target}: {self.reason}"


@dataclass(frozen=True)
class Shortage:
    """A pool that cannot have the replicas it must have."""

    pool: str
    fits: int
    """0: it cannot run at all."""
    message: str


@dataclass(frozen=True)
class Demand:
    """What the cluster is asked for: everything that all pools need together."""

    bundles: tuple[tuple[Amounts, int], ...]
    """Needs of one replica, and how many such replicas."""


@dataclass(frozen=True)
class Decisions:
    """What is to be done now."""

    changes: tuple[Decision, ...] = ()
    """At most one for each pool."""
    shortages: tuple[Shortage, ...] = ()
    demand: Demand | None = None
    """None: what was asked for last still holds."""


@dataclass(frozen=True)
class PoolMemory:
    """What is remembered of one pool."""

    load: float | None = None
    """Replicas that were busy, smoothed; None while there were none."""
    busy_s: float = 0.0
    first_since_s: float | None = None
    """Since when it is at its first calls, of which no speed is known yet."""
    wishes_since_s: float | None = None
    """Since when it has waiting work that more replicas would do sooner."""
    calm_since_s: float | None = None
    """Since when at least half of it is idle."""
    moved: int = 0
    """Direction of its last change by decision, -1 or 1."""
    moved_s: float = 0.0
    """When that was."""
    lent_s: float | None = None
    """When it lent a replica; None: it has not, or has it back."""


@dataclass(frozen=True)
class Memory:
    """What goes out of one round of decisions and into the next."""

    pools: Mapping[str, PoolMemory] = field(default_factory=dict)
    now_s: float | None = None
    demand: Demand | None = None
    demand_s: float = 0.0
