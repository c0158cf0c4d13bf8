"""Two processes resume one workflow: the older one is told at its next write."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from raflow.checkpoints.epochs import Epoch
from raflow.checkpoints.store import MISSING, Checkpoints
from raflow.errors import ResumeError, Superseded

ROOT = Path(__file__).parents[2]
HOLDER = """
import sys
from raflow.checkpoints.epochs import Epoch
from raflow.checkpoints.store import Checkpoints
from raflow.errors import Superseded
epoch = Epoch.take(Checkpoints(sys.argv[1]), "flow")
print(epoch.number, flush=True)
for line in sys.stdin:
    try:
        epoch.write(epoch.key(line.strip()), epoch.number)
        print("written", flush=True)
    except Superseded as error:
        print(error, flush=True)
"""


@contextmanager
def holder(url: Path) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(url)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def tell(process: subprocess.Popen[str], line: str) -> str:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return answer(process)


def answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


@pytest.fixture(params=["folder", "dictionary", "memory", "s3", "gcs"])
def checkpoints(request: pytest.FixtureRequest, place: Callable[[str], Checkpoints]) -> Checkpoints:
    return place(request.param)


def test_the_newer_epoch_writes_and_the_older_is_told(checkpoints: Checkpoints) -> None:
    first = Epoch.take(checkpoints, "a/../b")
    first.write(first.key("extract#0"), 1)
    second = Epoch.take(checkpoints, "a/../b")
    third = Epoch.take(checkpoints, "a/../b")
    assert (first.number, second.number, third.number) == (1, 2, 3)
    for older in (first, second):
        with pytest.raises(
            Superseded,
            match=rf"workflow 'a/\.\./b' was resumed by another process \(.*process {os.getpid()}, .* UTC\)",
        ):
            older.write(older.key("extract#0"), 2)
    third.write(third.key("load#0", 3, 1), 4)
    assert first.read(first.key("extract#0")) == 1
    assert third.read(third.key("load#0", 3, 1)) == 4
    assert third.read(third.key("load#0", 3)) is MISSING
    assert issubclass(Superseded, ResumeError)


def test_workflows_do_not_hinder_each_other(checkpoints: Checkpoints) -> None:
    one = Epoch.take(checkpoints, "one")
    Epoch.take(checkpoints, "one/epochs")
    Epoch.take(checkpoints, "other")
    one.write(one.key("s#0"), 1)
    assert Epoch.take(checkpoints, "other").number == 2


def test_the_tenth_epoch_follows_the_ninth(checkpoints: Checkpoints) -> None:
    assert [Epoch.take(checkpoints, "flow").number for _ in range(12)] == list(range(1, 13))


@pytest.mark.parametrize("kind", ["folder", "dictionary", "memory", "s3"])  # Google's emulator ignores conditions
def test_epochs_taken_at_once_are_all_different(kind: str, place: Callable[[str], Checkpoints]) -> None:
    checkpoints = place(kind)
    with ThreadPoolExecutor(6) as threads:
        taken = list(threads.map(lambda _: Epoch.take(checkpoints, "flow"), range(6)))
    assert sorted(epoch.number for epoch in taken) == [1, 2, 3, 4, 5, 6]
    newest = max(taken, key=lambda epoch: epoch.number)
    newest.write(newest.key("s#0"), 1)


def test_keys_are_as_they_are_described(checkpoints: Checkpoints) -> None:
    epoch = Epoch.take(checkpoints, "daily")
    epoch.write(epoch.key("extract#0", 2, 5), "x")
    assert checkpoints.keys() == ["daily/epochs/1", "daily/steps/extract#0/2/5"]


def test_a_process_that_was_overtaken_stops(tmp_path: Path) -> None:
    with holder(tmp_path) as older:
        assert answer(older) == "1"
        assert tell(older, "a#0") == "written"
        with holder(tmp_path) as newer:
            assert answer(newer) == "2"
            assert "resumed by another process" in tell(older, "b#0")
            assert f"process {newer.pid}" in tell(older, "b#0")
            assert tell(newer, "b#0") == "written"
    assert Checkpoints(tmp_path).read("flow/steps/b#0") == 2


def test_right_after_a_kill_the_next_epoch_simply_works(tmp_path: Path) -> None:
    for number in (1, 2, 3):
        with holder(tmp_path) as process:
            assert answer(process) == str(number)
            assert tell(process, "a#0") == "written"
            process.kill()
            process.wait()
    epoch = Epoch.take(Checkpoints(tmp_path), "flow")
    assert epoch.number == 4
    assert epoch.read(epoch.key("a#0")) == 3
    epoch.write(epoch.key("a#0"), 4)
    assert epoch.read(epoch.key("a#0")) == 4
