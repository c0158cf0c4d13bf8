"""What a run has done so far, as frozen values: read by progress views, summaries and `Run.stats()`."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from enum import Enum


class Status(str, Enum):
    """Where a run, stage or unit of work stands."""

    PENDING = "pending"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    TIMED_OUT = "timed_out"

    @property
    def is_final(self) -> bool:
        """Whether it will not change any more."""
        return self not in (Status.PENDING, Status.RUNNING, Status.RETRYING)


@dataclass(frozen=True)
class Counts:
    """Sums over batches; `a + b` and `a - b` work field by field."""

    rows_in: int = 0
    """Records read or taken from other stages, once user code is through with them."""
    rows_out: int = 0
    """Records written, or given to other stages."""
    bytes_in: int = 0
    """Arrow bytes of these, in memory."""
    bytes_out: int = 0
    """Bytes written, as stored."""
    skipped: int = 0
    """Failing records that were dropped."""
    dead_letters: int = 0
    """Failing records that went to the error sink."""
    busy_s: float = 0.0
    """Seconds that replicas worked: of reading, user code and writing, which overlap, the longest for each unit."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*map(operator.add, vars(self).values(), vars(other).values()))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*map(operator.sub, vars(self).values(), vars(other).values()))


@dataclass(frozen=True)
class StageStats:
    """One stage of a run."""

    name: str
    """The processor's name, or the names of fused ones joined by ` → `."""
    status: Status
    counts: Counts
    """Of committed units plus what is in flight; what a lost replica did is not in it."""
    replicas: int
    """Replicas that take work; of a stage that has ended, the most that it had."""
    units_done: int
    """Units of work that pass through it and are committed: splits, or partitions after an exchange."""
    units_total: int
    """Units of work in all; 0 while they are being listed."""
    replicas_lost: int = 0
    """Replicas that died and were replaced."""
    elapsed_s: float = 0.0
    """From its first replica that was ready to its end, or until now."""

    @property
    def backlog(self) -> int:
        """Units of work that are not committed yet."""
        return self.units_total - self.units_done


@dataclass(frozen=True)
class Resized:
    """A decision of the autoscaler."""

    at_s: float
    """Since the first replica was ready."""
    stage: str
    before: int
    """Replicas."""
    after: int
    """Replicas that there shall be."""
    reason: str


@dataclass(frozen=True)
class HttpStats:
    """What the HTTP side of a run is doing."""

    url: str
    """Where it answers."""
    status: Status
    replicas: int
    """Those that take connections."""
    starting: int
    leaving: int
    ongoing: int
    """Requests."""
    total: int
    """Requests that have ended; those of lost replicas up to their last look."""
    cut: int
    """Requests that replicas that left had to cut at their deadline."""
    connections: int
    websockets: int
    abandoned: int
    """Synchronous calls that were given up (504) and still hold their threads."""
    replicas_lost: int
    min_replicas: int
    """The bounds of `Run.scale` and of the autoscaler."""
    max_replicas: int
    resized: tuple[Resized, ...]
    """What the autoscaler has decided; the last thousand."""
    written: tuple[int, ...] = ()
    """Rows by sink, in the order of `RunStats.outputs`; those of lost replicas up to their last look."""


@dataclass(frozen=True)
class RunStats:
    """A run, or what was known of it at one moment."""

    run_id: str
    flow_id: str
    engine: str
    """`ray` or `local`."""
    status: Status
    elapsed_s: float
    """Since the first replica was ready; start-up is not in it."""
    start_up_s: float
    """What it took until then: listing the input, starting the engine and the first replica."""
    stages: tuple[StageStats, ...]
    outputs: tuple[str, ...] = ()
    """Where the rows are, one line per sink: those of runs, then those of collectors and `SinkDependency` in HTTP,
    with the rows that these have got."""
    resized: tuple[Resized, ...] = ()
    """What the autoscaler has decided; the last thousand."""
    resumable: bool = True
    """Whether `resume` can go on with what it left; nobody can with a dry run."""
    notes: tuple[str, ...] = ()
    """What the user should know, e.g. that thousands of small files were written."""
    http: HttpStats | None = None
    """Of its collectors and services; None if it has none."""
