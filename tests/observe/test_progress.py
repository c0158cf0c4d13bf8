from __future__ import annotations

import io
from dataclasses import replace
from datetime import datetime

import nbformat
import pytest
from nbclient import NotebookClient
from rich.console import Console

from raflow.metrics import Counts, Resized, RunStats, StageStats, Status
from raflow.observe.progress import (
    Quiet,
    Rates,
    footer,
    live_table,
    plain_lines,
    progress_for,
    screen_columns,
)

NOON = datetime(2025, 1, 1, 12, 0, 5)


class Clock:
    """A clock that stands still until it is set."""

    def __init__(self) -> None:
        self.at = 0.0

    def __call__(self) -> float:
        return self.at


def stage(name: str = "tip_rate", rows: int = 0, done: int = 0, total: int = 40, **more: int) -> StageStats:
    counts = Counts(rows, rows * 9 // 10, skipped=more.get("skipped", 0), dead_letters=more.get("dead_letters", 0))
    return StageStats(name, Status.RUNNING, counts, 2, done, total, more.get("lost", 0))


def run(*stages: StageStats, status: Status = Status.RUNNING, elapsed_s: float = 5.0) -> RunStats:
    return RunStats("r1", "app", "local", status, elapsed_s, 0.5, stages)


def rates(*samples: tuple[float, RunStats]) -> Rates:
    known = Rates()
    for at, stats in samples:
        known.add(at, stats)
    return known


def screen(width: int, *, terminal: bool = True) -> Console:
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, _environ={})


def test_rows_per_second_are_those_of_the_last_five_seconds() -> None:
    known = rates(*((float(at), run(stage(rows=at * 100 if at < 10 else 1000 + (at - 10) * 500))) for at in range(20)))
    assert known.rows_per_s(0) == 500


def test_one_sample_tells_no_rate_and_no_end() -> None:
    known = rates((3.0, run(stage(rows=10, done=1))))
    assert (known.rows_per_s(0), known.left_s()) == (None, None)


def test_rows_that_a_lost_replica_takes_with_it_are_no_negative_rate() -> None:
    assert rates((0.0, run(stage(rows=100))), (1.0, run(stage(rows=50)))).rows_per_s(0) == 0


@pytest.mark.parametrize(
    ("first", "now", "left_s"),
    [
        ([stage(done=0)], [stage(done=10)], 30),
        ([stage(done=20)], [stage(done=30)], 10),  # resumed: what was done before tells nothing
        ([stage(done=0)], [stage(done=0)], None),
        ([stage(total=0)], [stage(total=0)], None),
        ([stage(done=0), stage(done=0)], [stage(done=10), stage(done=5)], 70),
        ([stage(done=0), stage(done=0)], [stage(done=10), stage(done=0)], None),
    ],
)
def test_the_time_left_is_that_of_the_slowest_stage(
    first: list[StageStats], now: list[StageStats], left_s: float | None
) -> None:
    assert rates((0.0, run(*first)), (10.0, run(*now))).left_s() == left_s


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (
            stage(rows=120_000, done=12, skipped=20),
            "tip_rate: 120,000 rows in, 108,000 out, 24,000 rows/s, 2 replicas, 12 of 40 splits, 20 skipped",
        ),
        (stage(total=0), "tip_rate: 0 rows in, 0 out, 0 rows/s, 2 replicas, listing splits"),
        (
            stage(rows=61_728, done=1, total=1, dead_letters=1, lost=1),
            "tip_rate: 61,728 rows in, 55,555 out, 12,300 rows/s, 2 replicas, 1 of 1 split, 1 dead letter, "
            "1 lost and replaced",
        ),
    ],
)
def test_a_plain_line_tells_it_all(now: StageStats, line: str) -> None:
    assert plain_lines(run(now), rates((0.0, run(stage())), (5.0, run(now)))) == [line]


def test_stages_that_do_not_work_have_no_plain_line() -> None:
    idle = StageStats("later", Status.PENDING, Counts(), 0, 0, 0)
    done = StageStats("earlier", Status.SUCCEEDED, Counts(), 0, 4, 4)
    stats = run(done, stage(), idle)
    assert [line.partition(":")[0] for line in plain_lines(stats, rates((0.0, stats)))] == ["tip_rate"]


@pytest.mark.parametrize("width", [60, 80, 100, 120, 200])
@pytest.mark.parametrize("rows", [0, 12_345, 2_000_000_000])
def test_a_live_table_fits_its_screen_and_cuts_no_number(width: int, rows: int) -> None:
    stages = (
        stage(rows=rows, done=12),
        stage("a_stage_with_quite_a_long_name", rows, skipped=3, dead_letters=4),
    )
    stats = run(*stages)
    known = rates((0.0, run(stage(), stage())), (5.0, stats))
    console = screen(width)
    console.print(live_table(stats, known, width))
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    assert len(lines) == 4
    for row, line in enumerate(lines[1:3]):
        for cells in screen_columns(stats, known, width).values():
            assert cells[row] in line


def test_the_footer_tells_why_a_pool_was_resized_a_moment_ago() -> None:
    resized = (Resized(0.1, "slow", 0, 6, "an even share"), Resized(1.0, "slow", 6, 10, "240 batches wait"))
    stats = replace(run(stage()), elapsed_s=5.0, resized=resized)
    assert footer(stats, rates((0.0, stats))).endswith("\nslow 6 → 10 replicas: 240 batches wait")
    assert "slow" not in footer(replace(stats, elapsed_s=60.0), rates((0.0, stats)))


def test_the_footer_tells_how_long_it_takes() -> None:
    first, now = run(stage()), run(stage(done=10), elapsed_s=65.4)
    assert footer(run(stage(), status=Status.PENDING), rates((0.0, first))) == "app is starting"
    assert footer(first, rates((0.0, first))) == "app running for 5.0 s"
    assert footer(now, rates((0.0, first), (65.0, now))) == "app running for 1 min 05 s, about 3 min 15 s left"


def test_without_a_terminal_each_stage_prints_a_line_every_five_seconds() -> None:
    clock, console = Clock(), screen(40, terminal=False)
    with progress_for(console, clock=clock, now=lambda: NOON) as progress:
        for quarters in range(45):
            clock.at = quarters / 4
            progress.view(run(stage(rows=quarters * 1000, done=quarters // 4)))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == (
        "12:00:05 tip_rate: 20,000 rows in, 18,000 out, 4,000 rows/s, 2 replicas, 5 of 40 splits\n"
        "12:00:05 tip_rate: 40,000 rows in, 36,000 out, 4,000 rows/s, 2 replicas, 10 of 40 splits\n"
    )


def test_in_a_terminal_the_table_is_drawn_over_and_vanishes_with_the_cursor_shown_again() -> None:
    console = screen(100)
    with progress_for(console, clock=Clock()) as progress:
        progress.view(run(stage(done=1)))
        progress.view(run(stage(done=2)))
    assert isinstance(console.file, io.StringIO)
    shown = console.file.getvalue()
    assert shown.index(" 1/40") < shown.index("\x1b[1A") < shown.index(" 2/40")
    assert shown.rindex("\x1b[?25l") < shown.rindex("\x1b[?25h")
    assert shown.endswith("\x1b[2K")


def test_quiet_shows_nothing() -> None:
    console = screen(80)
    assert isinstance(progress_for(Console(quiet=True, force_jupyter=True)), Quiet)
    with progress_for(console, quiet=True) as progress:
        progress.view(run(stage()))
    assert isinstance(console.file, io.StringIO)
    assert console.file.getvalue() == ""


NOTEBOOK = """
from raflow.metrics import Counts, Resized, RunStats, StageStats, Status
from raflow.observe.progress import progress_for
from raflow.observe.summary import show, summary
from rich.console import Console

progress = progress_for()
for done in range(5):
    stage = StageStats("tip_rate", Status.RUNNING, Counts(done, done), 2, done, 4)
    stats = RunStats("r1", "app", "local", Status.RUNNING, 1.0, 0.1, (stage,))
    progress.view(stats)
"""


def test_a_notebook_has_one_output_that_is_drawn_over_and_vanishes() -> None:
    cells = [NOTEBOOK, NOTEBOOK + "progress.close()\nshow(Console(), summary(stats))"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    during, after = (cell.outputs for cell in notebook.cells)
    assert len(during) == 1
    assert "4/4" in during[0].data["text/html"]
    assert "0/4" not in during[0].data["text/html"]
    assert len(after) == 2
    assert after[0].data == {"text/plain": ""}
    assert "tip_rate" in after[1].data["text/html"]
