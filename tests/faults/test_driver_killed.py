"""kill -9 of the driver, and resuming: rows exactly once, nothing half-written is ever visible."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import fsspec
import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from tests.faults.conftest import FILES, ROWS, Job

Until = Callable[..., None]


def rows(job: Job) -> list[int]:
    """What a reader of the output folder sees."""
    fs, path = fsspec.core.url_to_fs(job.output, **(job.settings.get("storage") or {}))
    fs.invalidate_cache()
    if not fs.glob(f"{path}/**/*.parquet"):
        return []
    numbers: list[int] = ds.dataset(path, filesystem=fs, partitioning="hive").to_table(columns=["n"])["n"].to_pylist()
    return sorted(numbers)


def kill_three_times_and_resume(job: Job, until: Until) -> None:
    process = job.start()
    for kills in range(1, 4):
        before = job.committed()
        until(lambda b=before: job.committed() >= b + 3, "three more units are committed")
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        visible = rows(job)
        assert len(visible) == len(set(visible)), f"doubled rows after kill {kills}"
        assert len(visible) % ROWS == 0, f"half a unit is visible after kill {kills}"
        process = job.start("--resume", "last")
    job.finish(process)
    assert rows(job) == list(range(FILES * ROWS))


def test_three_kills_in_a_row_lose_and_double_nothing(job: Job, wait_until: Until) -> None:
    kill_three_times_and_resume(job, wait_until)
    leftovers = [path.name for path in Path(job.output).rglob("*") if path.name.startswith(".")]
    assert leftovers == []


def test_a_random_partition_column_doubles_nothing(job: Job, wait_until: Until) -> None:
    job.settings["partition_by"] = "chance"
    kill_three_times_and_resume(job, wait_until)


@pytest.mark.parametrize("cloud", ["s3", "gcs"])
def test_object_stores_are_as_exact_as_disks(
    job: Job, wait_until: Until, cloud: str, request: pytest.FixtureRequest
) -> None:
    store = request.getfixturevalue(cloud)
    job.output = f"{store.url}/out"
    job.settings["storage"] = store.storage_options
    kill_three_times_and_resume(job, wait_until)


def test_resume_does_only_what_is_unfinished(job: Job, wait_until: Until) -> None:
    process = job.start()
    wait_until(lambda: job.committed() >= 10, "ten units are committed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done, before = job.committed(), job.seen()
    job.finish(job.start("--resume", "last"))
    assert job.seen() - before == FILES - done
    assert rows(job) == list(range(FILES * ROWS))


def test_a_changed_input_is_refused_by_name(job: Job, wait_until: Until) -> None:
    process = job.start()
    wait_until(lambda: job.committed() >= 3, "three units are committed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    changed = job.folder / "in" / "23.parquet"
    changed.write_bytes((job.folder / "in" / "22.parquet").read_bytes() + b"x")
    text = job.finish(job.start("--resume", "last"), code=1)
    assert "23.parquet" in text
    assert "has changed" in text


def test_a_run_that_is_alive_or_done_or_unknown_cannot_be_resumed(job: Job, wait_until: Until) -> None:
    job.settings["gate"] = str(job.folder / "gate")
    process = job.start()
    wait_until(lambda: job.seen() >= 1, "a batch has begun")
    assert "still alive" in job.finish(job.start("--resume", "last"), code=1)
    (job.folder / "gate").touch()
    job.finish(process)
    assert "nothing to resume" in job.finish(job.start("--resume", "last"), code=1)
    assert "no run 'nonesuch'" in job.finish(job.start("--resume", "nonesuch"), code=1)


@pytest.mark.parametrize("side", ["given", "group"])
def test_a_run_with_an_exchange_goes_on_from_either_side_of_it(job: Job, wait_until: Until, side: str) -> None:
    job.program = job.program.with_name("exchange.py")
    process = job.start()
    wait_until(lambda: (job.marks(side) if side == "given" else len(written(job, "groups"))) >= 5, "five are done")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    groups, before = written(job, "groups"), job.marks("group")
    job.finish(job.start("--resume", "last"))
    numbers = range(FILES * ROWS)
    assert [row["n"] for row in written(job, "aside")] == list(numbers)
    totals = [{"n": key, "total": sum(n for n in numbers if n % 20 == key)} for key in range(20)]
    assert written(job, "groups") == totals
    assert job.marks("group") - before <= 20 - len(groups)


def written(job: Job, what: str) -> list[dict[str, int]]:
    """The records of one output."""
    found = list(Path(job.output, what).glob("*.parquet"))
    records = pa.concat_tables(pq.read_table(path) for path in found).to_pylist() if found else []
    return sorted(records, key=lambda row: row["n"])


def test_a_new_run_sweeps_what_a_killed_one_has_staged(job: Job, wait_until: Until) -> None:
    job.settings["work_s"] = 0.5
    process = job.start()
    wait_until(lambda: job.committed() >= 2, "two units are committed")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for path in Path(job.output).glob("part-*"):
        path.unlink()
    job.settings["work_s"] = 0
    job.finish(job.start())
    assert [path.name for path in Path(job.output).iterdir() if path.name.startswith(".")] == []
    assert rows(job) == list(range(FILES * ROWS))


@pytest.mark.ray
def test_no_process_of_ours_is_alive_after_the_driver_was_killed(job: Job, wait_until: Until) -> None:
    job.engine = "ray"
    process = job.start()
    wait_until(lambda: job.committed() >= 2, "two units are committed", 120)
    family = [
        process.pid,
        *(child.pid for child in psutil.Process(process.pid).children(recursive=True) if _is_ours(child)),
    ]
    assert set(job.pids) < set(family)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    wait_until(lambda: not [pid for pid in family if _alive(pid)], "all processes of the run have ended", 15)
    job.engine = "local"  # what one engine has begun another can end
    job.finish(job.start("--resume", "last"))
    assert rows(job) == list(range(FILES * ROWS))


def _is_ours(process: psutil.Process) -> bool:
    """All but Ray's two agents, which spend up to a minute telling a dead server that it is dead."""
    return not process.name().startswith(("ray::DashboardA", "ray::RuntimeEnvA"))


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_drains_and_says_how_to_go_on(job: Job, wait_until: Until, number: signal.Signals) -> None:
    process = job.start()
    wait_until(lambda: job.committed() >= 2, "two units are committed")
    os.killpg(process.pid, number)
    text = job.finish(process, code=130)
    done = job.committed()
    assert len(rows(job)) == done * ROWS
    assert "--resume" in text
    job.finish(job.start("--resume", "last"))
    assert rows(job) == list(range(FILES * ROWS))


def test_the_second_signal_stops_at_once(job: Job, wait_until: Until) -> None:
    job.settings["work_s"] = 30
    process = job.start()
    wait_until(lambda: job.seen() >= 1, "work is under way")
    os.killpg(process.pid, signal.SIGINT)
    os.killpg(process.pid, signal.SIGTERM)  # a second SIGINT could merge with the first
    process.wait(3)
    assert process.returncode == 130
    assert rows(job) == []
