"""What a run shows while it works: a live table in a terminal or notebook, plain lines in a log.

A view pulls: whoever waits for the run calls `view` with the newest stats a few times per second. The
table is a function of stats and rates; only the classes at the end draw.
"""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from typing_extensions import Self

from raflow.metrics import RunStats, StageStats, Status
from raflow.observe.summary import answered
from raflow.units import count, duration, plural, rate, shortened

WINDOW_S = 5.0
"""Rates are means over this time."""
LINES_EVERY_S = 5.0
"""Time between two plain lines of a stage."""
SCALED_S = 15.0
"""How long a decision of the autoscaler is shown."""
_BAR = (6, 30)  # columns of a screen: the shortest bar that says something, and the longest


class Rates:
    """Rows per second of each stage over the last seconds, and the time that is left."""

    def __init__(self, window_s: float = WINDOW_S) -> None:
        self._window_s = window_s
        self._samples: deque[tuple[float, tuple[StageStats, ...]]] = deque()
        self._first: tuple[float, tuple[StageStats, ...]] | None = None

    def add(self, at: float, stats: RunStats) -> None:
        """Take what is known at a moment, in seconds of any clock."""
        self._first = self._first or (at, stats.stages)
        self._samples.append((at, stats.stages))
        while len(self._samples) > 2 and self._samples[1][0] <= at - self._window_s:
            self._samples.popleft()

    def rows_per_s(self, stage: int) -> float | None:
        """Return how many rows a stage reads per second, None as long as that is unknown."""
        (start, before), (end, after) = self._samples[0], self._samples[-1]
        if end <= start:
            return None
        return max(0, after[stage].counts.rows_in - before[stage].counts.rows_in) / (end - start)

    def left_s(self) -> float | None:
        """Return how long the slowest stage still needs, None as long as that is unknown.

        It is told by whole splits since the first sample: a resumed run begins with some done.
        """
        if self._first is None:
            return None
        (start, before), (end, after) = self._first, self._samples[-1]
        left = [_left_s(old, new, end - start) for old, new in zip(before, after, strict=True)]
        known = [seconds for seconds in left if seconds is not None]
        return max(known, default=None) if len(known) == len(left) else None


def _left_s(before: StageStats, after: StageStats, elapsed_s: float) -> float | None:
    if after.status.is_final:
        return 0.0
    done = after.units_done - before.units_done
    return after.backlog * elapsed_s / done if after.units_total and done > 0 else None


def plain_lines(stats: RunStats, rates: Rates) -> list[str]:
    """Return one line per stage that works at the moment."""
    working = (Status.RUNNING, Status.RETRYING)
    lines = [_line(stage, rates.rows_per_s(n)) for n, stage in enumerate(stats.stages) if stage.status in working]
    return [*lines, *([answered(stats.http)] if stats.http else [])]


def _line(stage: StageStats, per_s: float | None) -> str:
    counts = stage.counts
    words = [f"{count(counts.rows_in)} rows in", f"{count(counts.rows_out)} out", f"{rate(per_s)} rows/s"]
    words += [plural(stage.replicas, "replica"), _splits(stage)]
    words += [f"{count(counts.skipped)} skipped"] if counts.skipped else []
    words += [plural(counts.dead_letters, "dead letter")] if counts.dead_letters else []
    words += [f"{stage.replicas_lost} lost and replaced"] if stage.replicas_lost else []
    return f"{stage.name}: {', '.join(words)}"


def _splits(stage: StageStats) -> str:
    if not stage.units_total:
        return "listing splits"
    return f"{stage.units_done:,} of {plural(stage.units_total, 'split')}"


def live_table(stats: RunStats, rates: Rates, width: int) -> Table:
    """Return one line per stage and one for the run, for a screen of so many columns."""
    columns = screen_columns(stats, rates, width)
    room = width - _width(columns) - 2
    table = Table(box=None, header_style="dim", pad_edge=False, padding=(0, 2, 0, 0), caption=footer(stats, rates))
    table.caption_justify = "left"
    for name in columns:
        style = "yellow" if name in ("skipped", "dead", "dead letters") else ""
        table.add_column(name, justify="left" if name == "stage" else "right", no_wrap=True, style=style)
        if name == "stage" and room >= _BAR[0]:
            table.add_column("", width=min(_BAR[1], room))
    for stage, (name, *cells) in zip(stats.stages, zip(*columns.values(), strict=True), strict=True):
        bar = [_bar(stage)] if room >= _BAR[0] else []
        table.add_row(Text(name, style="bold"), *bar, *cells)
    return table


def screen_columns(stats: RunStats, rates: Rates, width: int) -> dict[str, list[str]]:
    """Return headings and cells that fit: shorter numbers first, then fewer columns."""
    columns = _columns(stats, rates, width, compact=False)
    if _width(columns) + 2 + _BAR[0] > width:
        columns = _columns(stats, rates, width, compact=True)
    for name in ("backlog", "replicas", "rows out"):
        if _width(columns) > width:
            del columns[name]
    return columns


def _columns(stats: RunStats, rates: Rates, width: int, *, compact: bool) -> dict[str, list[str]]:
    def counts(name: str) -> list[str]:
        return [count(getattr(stage.counts, name), compact=compact) for stage in stats.stages]

    per_s = [rate(rates.rows_per_s(number), compact=compact) for number in range(len(stats.stages))]
    columns = {
        "stage": [shortened(stage.name, max(12, width // 4)) for stage in stats.stages],
        "splits": [_fraction(stage) for stage in stats.stages],
        "rows in": counts("rows_in"),
        "rows out": counts("rows_out"),
        "rows/s": per_s,
        "replicas": [_replicas(stage) for stage in stats.stages],
        "backlog": [count(stage.backlog) for stage in stats.stages],
    }
    if any(stage.counts.skipped for stage in stats.stages):
        columns["skipped"] = counts("skipped")
    if any(stage.counts.dead_letters for stage in stats.stages):
        columns["dead" if compact else "dead letters"] = counts("dead_letters")
    return columns


def _width(columns: dict[str, list[str]]) -> int:
    return sum(2 + max(map(cell_len, [name, *cells])) for name, cells in columns.items())


def _fraction(stage: StageStats) -> str:
    return f"{stage.units_done:,}/{stage.units_total:,}" if stage.units_total else "listing"


def _replicas(stage: StageStats) -> str:
    return f"{stage.replicas} (-{stage.replicas_lost})" if stage.replicas_lost else str(stage.replicas)


def footer(stats: RunStats, rates: Rates) -> str:
    """Return how long the run has been working and, if known, how long it still will."""
    if stats.status is Status.PENDING:
        return f"{stats.flow_id} is starting"
    left = rates.left_s()
    eta = f", about {duration(round(left))} left" if left else ""
    http = f"\n{answered(stats.http)}" if stats.http else ""
    return f"{stats.flow_id} {stats.status.value} for {duration(stats.elapsed_s)}{eta}{http}{_resized(stats)}"


def _resized(stats: RunStats) -> str:
    """Return the autoscaler's last decision on a pool at work, as long as it is new."""
    moved = [one for one in stats.resized if one.before and one.after]
    if not moved or stats.elapsed_s - moved[-1].at_s > SCALED_S:
        return ""
    last = moved[-1]
    return f"\n{last.stage} {last.before} → {last.after} replicas: {last.reason}"


def _bar(stage: StageStats) -> ProgressBar:
    # Without a total the bar would pulse: an animation that says nothing in a view that is pulled.
    return ProgressBar(
        total=max(1, stage.units_total),
        completed=stage.units_done,
        complete_style="cyan",
        finished_style="green",
    )


class Progress(ABC):
    """Shows a run while it works. Leaving its `with` block closes it, so that the cursor comes back."""

    @abstractmethod
    def view(self, stats: RunStats) -> None:
        """Show what is known now. Called several times per second by the thread that waits."""

    @abstractmethod
    def close(self, stats: RunStats | None = None) -> None:
        """Stop showing. Called once or more; the last stats are given if the run came to its end."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Quiet(Progress):
    """Shows nothing."""

    def view(self, stats: RunStats) -> None:
        """Do nothing."""

    def close(self, stats: RunStats | None = None) -> None:
        """Do nothing."""


class Lines(Progress):
    """Prints a line per stage every few seconds: for logs, where nothing can be drawn over."""

    def __init__(self, console: Console, clock: Callable[[], float], now: Callable[[], datetime]) -> None:
        self._console, self._clock, self._now = console, clock, now
        self._rates = Rates()
        self._next = clock() + LINES_EVERY_S

    def view(self, stats: RunStats) -> None:
        """Print if it is time."""
        at = self._clock()
        self._rates.add(at, stats)
        if at >= self._next:
            self._next = at + LINES_EVERY_S
            for line in plain_lines(stats, self._rates):
                self._console.print(f"{self._now():%H:%M:%S} {line}", soft_wrap=True, markup=False, highlight=False)

    def close(self, stats: RunStats | None = None) -> None:
        """Do nothing: the summary follows."""


class Screen(Progress):
    """Draws a table at the bottom of a terminal; it vanishes at the end, for the summary says it all."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._clock, self._rates = clock, Rates()
        # What is piped somewhere else must not be caught and printed to the terminal.
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout.isatty(),
            redirect_stderr=sys.stderr.isatty(),
        )

    def view(self, stats: RunStats) -> None:
        """Draw over what was drawn before."""
        self._rates.add(self._clock(), stats)
        self._live.start()
        self._live.update(live_table(stats, self._rates, self._live.console.width), refresh=True)

    def close(self, stats: RunStats | None = None) -> None:
        """Erase the table."""
        self._live.stop()


class Notebook(Progress):
    """Draws a table in the output of a notebook's cell, always at the same place; it vanishes at the end."""

    def __init__(self, console: Console, clock: Callable[[], float]) -> None:
        self._console, self._clock, self._rates = console, clock, Rates()
        self._handle: Any = None

    def view(self, stats: RunStats) -> None:
        """Draw over what was drawn before."""
        from IPython.display import display

        self._rates.add(self._clock(), stats)
        table = live_table(stats, self._rates, self._console.width)
        if self._handle is None:
            self._handle = display(table, display_id=True)  # type: ignore[no-untyped-call, unused-ignore]
        else:
            self._handle.update(table)

    def close(self, stats: RunStats | None = None) -> None:
        """Erase the table."""
        if self._handle is not None:
            self._handle.update({"text/plain": ""}, raw=True)


def progress_for(
    console: Console | None = None,
    *,
    quiet: bool = False,
    clock: Callable[[], float] = time.monotonic,
    now: Callable[[], datetime] = datetime.now,
) -> Progress:
    """Return the view that fits where the run is watched.

    Args:
        console: Where to draw; stderr if not given, so that the output of user code stays apart.
        quiet: Show nothing, as with a quiet console.
        clock: Seconds, for rates.
        now: Time of day, for log lines.
    """
    console = console or Console(stderr=True)
    if quiet or console.quiet:
        return Quiet()
    if console.is_jupyter:
        return Notebook(console, clock)
    if console.is_terminal and not console.is_dumb_terminal:
        return Screen(console, clock)
    return Lines(console, clock, now)
