from __future__ import annotations

import logging
import threading
import time
from datetime import datetime, timezone

import pytest

from raflow.engines.threads import ThreadWorkers
from raflow.metrics import Status
from raflow.options import StepOptions
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.events import Observer, Observers, StepEvent
from raflow.runtime.steps.step import Step

WAIT_S = 20
CLOSE_S = 2.0
"""What closing may wait for observers that are behind."""
SPARE_S = 1.5
"""What a busy machine may add to a deadline."""


class Mute(Exception):
    def __str__(self) -> str:
        raise TypeError


def event(step: str) -> StepEvent:
    return StepEvent("run", step, Status.RUNNING, datetime.now(timezone.utc), 1)


def run(*steps: Step, observer: Observer) -> None:
    workers = ThreadWorkers(4)
    driver = StepDriver(workers, run_id="r1", observers=[observer])
    for step in steps:
        driver.add(step)
    driver.run()
    workers.close()


def fail() -> None:
    msg = "no"
    raise ValueError(msg)


def mute() -> None:
    raise Mute


def test_each_observer_gets_every_event_in_order() -> None:
    first: list[str] = []
    second: list[str] = []
    observers = Observers([lambda one: first.append(one.step), lambda one: second.append(one.step)])
    for number in range(1000):
        observers.tell(event(str(number)))
    observers.close()
    assert first == second == [str(number) for number in range(1000)]


def test_without_observers_there_is_nothing_to_tell() -> None:
    observers = Observers()
    assert not observers
    observers.tell(event("a"))
    observers.close()


def test_an_observer_that_raises_gets_no_further_events_and_the_others_do(caplog: pytest.LogCaptureFixture) -> None:
    tried: list[str] = []
    seen: list[str] = []

    def broken(one: StepEvent) -> None:
        tried.append(one.step)
        raise ValueError

    observers = Observers([broken, lambda one: seen.append(one.step)])
    for step in "abc":
        observers.tell(event(step))
    observers.close()
    assert (tried, seen) == (["a"], ["a", "b", "c"])
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_telling_does_not_wait_and_closing_waits_for_its_deadline_alone() -> None:
    go = threading.Event()
    seen: list[str] = []

    def stuck(one: StepEvent) -> None:
        assert go.wait(WAIT_S)
        seen.append(one.step)

    observers = Observers([stuck, stuck, stuck])
    began = time.monotonic()
    for number in range(1000):
        observers.tell(event(str(number)))
    assert time.monotonic() - began < SPARE_S
    began = time.monotonic()
    observers.close()
    assert time.monotonic() - began < CLOSE_S + SPARE_S, "one deadline for all observers"
    assert seen == []
    go.set()


def test_an_observer_that_is_behind_still_gets_what_was_told() -> None:
    go = threading.Event()
    seen: list[str] = []

    def late(one: StepEvent) -> None:
        assert go.wait(WAIT_S)
        seen.append(one.step)

    observers = Observers([late])
    for step in "abc":
        observers.tell(event(step))
    go.set()
    observers.close()
    assert seen == ["a", "b", "c"]


def test_an_observer_may_close_what_it_observes() -> None:
    closed = threading.Event()
    found: list[Observers] = []
    ready = threading.Event()

    def close(_: StepEvent) -> None:
        assert ready.wait(WAIT_S)
        found[0].close()
        closed.set()

    found.append(Observers([close]))
    ready.set()
    found[0].tell(event("a"))
    assert closed.wait(WAIT_S)


def test_a_run_tells_status_attempt_error_and_utc_time() -> None:
    seen: list[StepEvent] = []
    bad = Step("bad", fail, id="bad_0", options=StepOptions(retry=2, retry_delay=0))
    run(bad, Step("next", fail, (bad,)), observer=seen.append)
    told = [(one.step, one.status, one.attempt, one.error) for one in seen if one.step == "bad_0"]
    assert told == [
        ("bad_0", Status.PENDING, 0, None),
        ("bad_0", Status.RUNNING, 1, None),
        ("bad_0", Status.RETRYING, 1, "ValueError: no"),
        ("bad_0", Status.RUNNING, 2, "ValueError: no"),
        ("bad_0", Status.FAILED, 2, "ValueError: no"),
    ]
    assert [one.status for one in seen if one.step == "next"] == [Status.PENDING, Status.CANCELLED]
    assert {(one.run_id, one.at.tzinfo) for one in seen} == {("r1", timezone.utc)}
    assert [one.at for one in seen] == sorted(one.at for one in seen)


def test_an_observer_may_cancel_the_run() -> None:
    go = threading.Event()
    driver = StepDriver(ThreadWorkers(2), observers=[lambda _: driver.cancel("seen enough")])
    steps = [driver.add(Step("wait", go.wait, (WAIT_S,), id=f"wait_{n}")) for n in range(10)]
    began = time.monotonic()
    driver.run()
    go.set()
    assert time.monotonic() - began < WAIT_S / 2
    assert {step.status for step in steps} == {Status.CANCELLED}


def test_an_error_without_a_text_does_not_end_the_run_that_is_observed() -> None:
    seen: list[StepEvent] = []
    step = Step("mute", mute)
    run(step, observer=seen.append)
    assert step.status is Status.FAILED
    assert seen[-1].error is not None
    assert "Mute" in seen[-1].error
