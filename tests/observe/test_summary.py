from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from raflow.errors import RunFailed, TargetError
from raflow.metrics import Counts, RunStats, StageStats, Status
from raflow.observe.summary import failure, measures, show, summary

PATH = "/data/" + "a-folder-with-a-long-name/" * 8 + "trips/ (20 files)"


def stage(name: str, done: int = 40, **more: int) -> StageStats:
    counts = Counts(2_000_000_000, 1_999_999_980, 8_000_000, 3_210, more.get("skipped", 0), 0, 12.34)
    return StageStats(name, Status.SUCCEEDED, counts, 2, done, 40, more.get("lost", 0))


def run(*stages: StageStats, status: Status = Status.SUCCEEDED) -> RunStats:
    return RunStats("20250101-3fa2", "app", "ray", status, 10.0, 2.1, stages, (PATH,), notes=("one [bold]note[/bold]",))


def printed(renderable: object, width: int, *, terminal: bool) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, _environ={})
    show(console, renderable)  # type: ignore[arg-type]
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_measures_leave_out_what_no_stage_has() -> None:
    assert measures(run(stage("a"))) == [
        {
            "stage": "a",
            "rows in": "2,000,000,000",
            "rows out": "1,999,999,980",
            "rows/s": "200,000,000",
            "splits": "40",
            "busy": "12.3 s",
            "read": "8.00 MB",
            "written": "3.21 kB",
            "replicas": "2",
        }
    ]
    assert "replicas" not in measures(run(replace(stage("a"), replicas=0)))[0]
    skipping, losing = measures(run(stage("a", skipped=7), stage("b", done=39, lost=1), status=Status.FAILED))
    assert (skipping["skipped"], losing["skipped"]) == ("7", "")
    assert (losing["splits"], losing["replicas"]) == ("39 of 40", "2 + 1 lost")
    assert losing["status"] == "succeeded"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("stages", [1, 2, 7])
def test_on_a_screen_every_number_is_whole_and_no_line_is_too_long(width: int, stages: int) -> None:
    stats = run(*(stage(f"stage_{number}", lost=number, skipped=number) for number in range(stages)))
    text = printed(summary(stats), width, terminal=True)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "…" not in text
    for values in measures(stats):
        assert all(value in text for value in values.values())
    assert PATH.replace(" ", "") in "".join(text.split())


def test_in_a_pipe_there_are_no_box_characters_and_paths_stay_on_one_line() -> None:
    text = printed(summary(run(stage("a → b"), stage("b"))), 80, terminal=False)
    assert text == (
        "stage        rows in       rows out       rows/s  splits    busy     read  written  replicas\n"
        "a → b  2,000,000,000  1,999,999,980  200,000,000      40  12.3 s  8.00 MB  3.21 kB         2\n"
        "b      2,000,000,000  1,999,999,980  200,000,000      40  12.3 s  8.00 MB  3.21 kB         2\n"
        "\n"
        "succeeded in 10.0 s on the ray engine, after 2.1 s of start-up\n"
        "run     20250101-3fa2\n"
        f"output  {PATH}\n"
        "note    one [bold]note[/bold]\n"
    )


@pytest.mark.parametrize(
    ("status", "done", "resumable"),
    [
        (Status.SUCCEEDED, 40, False),
        (Status.FAILED, 39, True),
        (Status.CANCELLED, 0, True),
        (Status.FAILED, 40, False),
    ],
)
def test_a_run_with_unfinished_splits_says_how_to_resume(status: Status, done: int, resumable: bool) -> None:
    text = printed(summary(run(stage("a", done), status=status), "flows/app.py:app"), 80, terminal=False)
    assert ("resume  raflow run flows/app.py:app --resume 20250101-3fa2\n" in text) == resumable


def test_nobody_is_told_to_resume_a_dry_run() -> None:
    left = replace(run(stage("a", 39), status=Status.FAILED), resumable=False)
    assert "--resume" not in printed(summary(left), 80, terminal=False)


def test_a_run_without_stages_has_a_summary() -> None:
    assert "succeeded in 10.0 s" in printed(summary(run()), 80, terminal=True)


@pytest.mark.parametrize("terminal", [True, False])
def test_a_failure_shows_the_users_traceback_then_the_place_then_the_message(terminal: bool) -> None:
    trace = 'Traceback (most recent call last):\n  File "f.py", line 3, in f\n    1 / 0\nZeroDivisionError: [0]\n'
    error = RunFailed("f failed: [red]why[/red]", processor="f", replica="f-1", split="a.csv", traceback=trace)
    lines = [line.rstrip() for line in printed(failure(error), 80, terminal=terminal).splitlines()]
    assert lines == [
        *trace.splitlines(),
        "",
        "processor f, replica f-1, split a.csv",
        "f failed: [red]why[/red]",
    ]


def test_a_failure_outside_of_user_code_is_just_its_message() -> None:
    assert printed(failure(RunFailed("no room " + PATH)), 80, terminal=False) == f"no room {PATH}\n"


def test_a_target_that_cannot_be_imported_shows_the_users_traceback() -> None:
    error = TargetError("flow.py, line 2: ValueError: no")
    error.__cause__ = ValueError("no")
    lines = printed(failure(error), 80, terminal=False).splitlines()
    assert lines == ["ValueError: no", "", "flow.py, line 2: ValueError: no"]
