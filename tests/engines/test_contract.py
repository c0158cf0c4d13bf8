"""What both engines promise the driver."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from raflow import engines
from raflow.errors import InvalidOption, NotPicklable, ReplicaLost
from raflow.options import Resources
from raflow.runtime.engine import Engine
from raflow.runtime.scaling.allocation import most
from tests.runtime.serving.conftest import until

WAIT_S = 60


class Counter:
    def __init__(self, start: int, name: str, own_process: bool = False) -> None:
        self.value = start
        self.name = name
        self.gate = threading.Event()

    def add(self, number: int) -> int:
        self.value += number
        return self.value

    def wait(self) -> str:
        self.gate.wait(WAIT_S)
        return "opened"

    def open(self) -> None:
        self.gate.set()

    def fail(self) -> None:
        msg = "the user's own"
        raise LookupError(msg)

    def exit(self) -> None:
        raise SystemExit(3)

    def where(self) -> tuple[int, str]:
        print("said by", self.name)
        return os.getpid(), self.name

    def die(self) -> None:
        os._exit(1)

    def cancel(self) -> None:
        self.gate.set()


@pytest.fixture
def started(engine: str) -> Iterator[Engine]:
    made = engines.make(engine)
    made.start()
    yield made
    made.close()


def test_calls_reach_the_replica_and_keep_its_state(started: Engine) -> None:
    replica = started.spawn("c[0]", started.pack(Counter, 40), Resources())
    assert replica.call("add", 1).result(WAIT_S) == 41
    assert replica.call("add", 1).result(WAIT_S) == 42
    replica.kill()


def test_a_call_that_waits_does_not_hold_up_others(started: Engine) -> None:
    replica = started.spawn("c[0]", started.pack(Counter, 0), Resources())
    waiting = replica.call("wait")
    replica.call("open").result(WAIT_S)
    assert waiting.result(WAIT_S) == "opened"
    replica.kill()


def test_an_error_of_the_code_arrives_as_it_was_raised(started: Engine) -> None:
    replica = started.spawn("c[0]", started.pack(Counter, 0), Resources())
    with pytest.raises(LookupError, match="the user's own"):
        replica.call("fail").result(WAIT_S)
    assert replica.call("add", 1).result(WAIT_S) == 1
    replica.kill()


def test_a_killed_replica_fails_its_calls_and_later_ones_as_lost(started: Engine) -> None:
    replica = started.spawn("c[0]", started.pack(Counter, 0), Resources())
    replica.call("add", 1).result(WAIT_S)
    waiting = replica.call("wait")
    replica.kill()
    replica.kill()
    with pytest.raises(ReplicaLost, match=r"c\[0\]"):
        waiting.result(WAIT_S)
    with pytest.raises(ReplicaLost):
        replica.call("add", 1).result(WAIT_S)


def test_capacity_tells_the_cpus_and_how_many_replicas_fit(started: Engine) -> None:
    capacity = started.capacity()
    cpus = capacity.resources["CPU"]
    assert cpus >= 1
    assert most({"CPU": 1.0}, capacity.resources) == int(cpus)
    assert most({"CPU": cpus + 1}, capacity.resources) == 0
    assert most({"GPU": 1.0, "CPU": 1.0}, capacity.resources) == 0 or "GPU" in capacity.resources


@pytest.mark.ray
def test_a_process_that_dies_is_a_lost_replica(ray_session: None) -> None:
    ray = engines.make("ray")
    replica = ray.spawn("c[0]", ray.pack(Counter, 0), Resources())
    with pytest.raises(ReplicaLost, match="died"):
        replica.call("die").result(WAIT_S)


@pytest.mark.ray
def test_a_process_serves_one_replica_after_the_other_and_prints_under_its_name(
    ray_session: None, capfd: pytest.CaptureFixture[str]
) -> None:
    engine = engines.make("ray")
    engine.start()
    first = engine.spawn("before[0]", engine.pack(Counter, 1), Resources())
    process = first.call("where").result(WAIT_S)[0]
    first.release()
    second = engine.spawn("after[0]", engine.pack(Counter, 5), Resources())
    assert second.call("where").result(WAIT_S) == (process, "after[0]")
    assert second.call("add", 1).result(WAIT_S) == 6, "nothing of the replica before is there"
    second.release()
    other = engine.spawn("larger[0]", engine.pack(Counter, 0), Resources(num_cpus=0.5))
    assert other.call("where").result(WAIT_S)[0] != process, "it has other resources"
    other.kill()
    engine.close()
    printed: list[str] = []

    def is_said() -> bool:
        printed.append(capfd.readouterr().out)
        return "said by after[0]" in "".join(printed)

    until(is_said)
    assert re.search(r"\(after\[0\] pid=\d+\)\S* said by after\[0\]", "".join(printed)), printed


def test_code_that_cannot_travel_is_named(ray_session: None) -> None:
    ray = engines.make("ray")
    lock = threading.Lock()

    def code(record: dict[str, Any]) -> None:
        with lock:
            pass

    job = SimpleNamespace(stage=SimpleNamespace(ops=[SimpleNamespace(name="locked", work=code)]))
    with pytest.raises(NotPicklable, match="'locked'.*lock"):
        ray.pack(Counter, job)


def test_the_engine_is_what_was_asked_for_else_the_environments_else_ray(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert engines.choose("auto")[0] == "ray"
    assert engines.choose("local") == ("local", "asked for")
    monkeypatch.setenv("RAFLOW_ENGINE", "local")
    assert engines.choose("auto") == ("local", "RAFLOW_ENGINE")
    assert engines.choose("ray")[0] == "ray"
    with pytest.raises(InvalidOption, match="'spark'.*auto, ray, local"):
        engines.choose("spark")


def test_a_process_that_nobody_takes_ends_and_one_that_was_lost_costs_no_second_loss(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = engines.make("ray")
    engine.start()
    first, second = (engine.spawn(f"c[{n}]", engine.pack(Counter, 0), Resources(num_cpus=0.1)) for n in range(2))
    processes = {replica.call("where").result(WAIT_S)[0] for replica in (first, second)}
    second.release()
    monkeypatch.setattr("raflow.engines.ray.actors.is_own", lambda: False)
    first.kill()
    third = engine.spawn("c[2]", engine.pack(Counter, 0), Resources(num_cpus=0.1))
    pid, _ = third.call("where").result(WAIT_S)
    assert pid not in processes, "a free one may be lost with its node"
    monkeypatch.setattr("raflow.engines.ray.actors._FREE_S", 0.1)
    third.release()
    while psutil.pid_exists(pid):
        engine.capacity()
    engine.close()
