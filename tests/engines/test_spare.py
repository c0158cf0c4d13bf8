"""Processes between two runs: the next one gets them, unless it might find something old in them."""

from __future__ import annotations

import importlib
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest

from raflow import engines
from raflow.options import Resources
from raflow.runtime.engine import Engine
from tests.engines.test_contract import WAIT_S, Counter
from tests.runtime.serving.conftest import until

pytestmark = pytest.mark.ray
Run = Callable[..., int]


@pytest.fixture
def run(ray_session: None, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs one replica from start to end, as a run does; returns its process, which is kept for the whole test."""
    monkeypatch.setattr("raflow.engines.ray.actors._FREE_S", WAIT_S)

    def run(working_dir: str | None = None, needs: Resources | None = None) -> int:
        engine = engines.make("ray", working_dir=working_dir)
        engine.start()
        pid = process(engine, needs or Resources(num_cpus=0.1))
        engine.close()
        return pid

    return run


def process(engine: Engine, needs: Resources) -> int:
    replica = engine.spawn("c[0]", engine.pack(Counter, 0), needs)
    pid, _ = replica.call("where").result(WAIT_S)
    replica.release()
    return int(pid)


def test_the_next_run_takes_over_the_process_of_one_before(run: Run) -> None:
    first = run()
    assert [run(), run()] == [first, first]


def test_a_process_ends_if_no_run_takes_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raflow.engines.ray.actors._FREE_S", 0.01)
    pid = run()
    until(lambda: not psutil.pid_exists(pid))


def test_a_process_ends_when_the_next_run_or_steps_need_its_room(run: Run) -> None:
    pid = run()
    other = run(needs=Resources(num_cpus=0.2))
    until(lambda: not psutil.pid_exists(pid))
    engines.workers("ray").start()
    until(lambda: not psutil.pid_exists(other))


def test_nothing_is_kept_on_a_ray_that_is_not_of_our_own(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raflow.engines.ray.replicas.is_own", lambda: False)
    pid = run()
    until(lambda: not psutil.pid_exists(pid))


def test_a_process_that_imports_from_another_folder_is_not_taken(run: Run, tmp_path: Path) -> None:
    assert run(str(tmp_path)) != run(str(tmp_path.parent))


def test_a_process_is_not_taken_once_code_has_been_edited(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = tmp_path / "edited_between_runs.py"
    code.touch()
    os.utime(code, (0, 0))
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module(code.stem)
    first = run()
    assert run() == first
    os.utime(code, (time.time() + 1, time.time() + 1))
    assert run() != first
    del sys.modules[code.stem]
