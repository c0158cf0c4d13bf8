"""Graphs of steps, the same on threads, child processes and Ray."""

from __future__ import annotations

import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from raflow import engines
from raflow.errors import NoCapacity, NotSerializable, StepCancelled, StepExited, StepLost, StepTimedOut
from raflow.metrics import Status
from raflow.options import StepOptions
from raflow.runtime.steps.attempt import Attempt
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.events import StepEvent
from raflow.runtime.steps.heartbeat import heartbeat
from raflow.runtime.steps.messages import Left, Over, Task
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import pack
from raflow.runtime.steps.worker import now
from raflow.runtime.steps.workers import Workers


@pytest.fixture(scope="module")
def made(request: pytest.FixtureRequest) -> Iterator[Callable[[str], Workers]]:
    """Returns the workers of a kind, the same ones for all tests: their processes take a second to start."""
    kept: dict[str, Workers] = {}

    def made(name: str) -> Workers:
        if name not in kept:
            if name == "ray":
                request.getfixturevalue("ray_session")
            engine = "ray" if name == "ray" else "local"
            kept[name] = engines.workers(engine, processes=name == "processes", threads=4)
            kept[name].start()
        return kept[name]

    yield made
    for workers in kept.values():
        workers.close()


RAY = pytest.param("ray", marks=pytest.mark.ray)


@pytest.fixture(params=["threads", "processes", RAY])
def workers(request: pytest.FixtureRequest, made: Callable[[str], Workers]) -> Workers:
    return made(request.param)


@pytest.fixture(params=["processes", RAY])
def apart(request: pytest.FixtureRequest, made: Callable[[str], Workers]) -> Workers:
    """Workers whose steps have processes of their own: a killed thread would be the whole run's end."""
    return made(request.param)


def one_more(value: int) -> int:
    return value + 1


def same(value: Any) -> Any:
    return value


def fail(text: str) -> None:
    raise ValueError(text)


def chain(driver: StepDriver, length: int) -> Step:
    step = driver.add(Step("one_more", one_more, (0,), id="one_more_0"))
    for number in range(1, length):
        step = driver.add(Step("one_more", one_more, (step,), id=f"one_more_{number}"))
    return step


def test_a_chain_hands_values_on(workers: Workers) -> None:
    driver = StepDriver(workers)
    last = chain(driver, 50)
    driver.run()
    assert driver.result(last) == 50
    assert last.status is Status.SUCCEEDED
    assert last.attempts == 1


def test_steps_within_lists_dicts_and_keys_become_their_values(workers: Workers) -> None:
    driver = StepDriver(workers)
    one, two = (driver.add(Step("same", same, (value,), id=f"same_{value}")) for value in (1, 2))
    both = driver.add(Step("same", same, ({"list": [one, (two, 3)], one: two},)))
    driver.run()
    assert driver.result(both) == {"list": [1, (2, 3)], 1: 2}


def test_a_fan_out_of_thousands_loses_nothing(workers: Workers) -> None:
    driver = StepDriver(workers)
    items = [driver.add(Step("one_more", one_more, (number,), id=f"one_more_{number}")) for number in range(3000)]
    total = driver.add(Step("sum", sum, (items,)))
    driver.run()
    assert driver.result(total) == sum(range(1, 3001))
    assert {item.status for item in items} == {Status.SUCCEEDED}


def test_an_expanded_result_gives_a_part_per_item(workers: Workers) -> None:
    driver: StepDriver

    def fan_out(step: Step) -> None:
        if step.expands:
            parts = [driver.add(Step("one_more", one_more, (part,), id=f"part_{part.index}")) for part in step.parts]
            total.append(driver.add(Step("sum", sum, (parts,))))

    total: list[Step] = []
    driver = StepDriver(workers, on_end=fan_out)
    driver.add(Step("numbers", lambda: (number for number in range(5)), expands=True))
    driver.run()
    assert driver.result(total[0]) == 15


def test_a_step_cannot_change_what_others_get(workers: Workers) -> None:
    def spoil(values: list[int]) -> int:
        values.append(99)
        return len(values)

    driver = StepDriver(workers)
    made = driver.add(Step("same", same, ([1, 2],)))
    spoilt = [driver.add(Step("spoil", spoil, (made,), id=f"spoil_{number}")) for number in range(2)]
    driver.run()
    assert [driver.result(step) for step in spoilt] == [3, 3]
    assert driver.result(made) == [1, 2]


def test_arrays_are_shared_without_a_copy_and_read_only(workers: Workers) -> None:
    def looked_at(array: Any, table: Any) -> tuple[float, bool, int]:
        return float(array.sum()), bool(array.flags.writeable), table.num_rows

    driver = StepDriver(workers)
    array = driver.add(Step("ones", np.ones, (200_000,)))
    table = driver.add(Step("table", lambda: pa.table({"n": list(range(1000))})))
    seen = driver.add(Step("looked_at", looked_at, (array, table)))
    driver.run()
    assert driver.result(seen) == (200_000.0, False, 1000)


def test_async_functions_are_awaited(workers: Workers) -> None:
    async def later(value: int) -> int:
        return value * 2

    driver = StepDriver(workers)
    step = driver.add(Step("later", later, (4,)))
    driver.run()
    assert driver.result(step) == 8


def test_a_failure_keeps_type_text_and_the_users_traceback(workers: Workers) -> None:
    driver = StepDriver(workers)
    step = driver.add(Step("fail", fail, ("no luck",)))
    driver.run()
    assert step.status is Status.FAILED
    assert isinstance(step.error, ValueError)
    assert str(step.error) == "no luck"
    assert "in fail" in str(step.error.__cause__)
    assert "raflow/" not in str(step.error.__cause__).replace("tests/", "")


def test_what_depends_on_a_failed_step_never_runs_and_carries_its_error(workers: Workers) -> None:
    driver = StepDriver(workers)
    bad = driver.add(Step("fail", fail, ("first",)))
    after = driver.add(Step("same", same, ([bad],)))
    last = driver.add(Step("one_more", one_more, (after,)))
    beside = driver.add(Step("same", same, (1,), id="beside"))
    driver.run()
    assert (after.status, last.status) == (Status.CANCELLED, Status.CANCELLED)
    assert str(last.error) == "first"
    assert last.attempts == 0
    assert driver.result(beside) == 1


def test_a_failing_step_is_tried_again_as_often_as_asked(workers: Workers, tmp_path: Path) -> None:
    def flaky(path: str) -> int:
        with open(path, "a+") as file:
            file.write("x")
            file.seek(0)
            tries = len(file.read())
        if tries < 3:
            raise RuntimeError(tries)
        return tries

    driver = StepDriver(workers)
    options = StepOptions(retry=3, retry_delay=0.01, backoff=True, jitter=0.01, max_delay=0.05)
    step = driver.add(Step("flaky", flaky, (str(tmp_path / "tries"),), options=options))
    driver.run()
    assert driver.result(step) == 3
    assert step.attempts == 3
    assert [str(failure.error) for failure in step.failures] == ["1", "2"]


def test_only_errors_of_the_given_types_are_tried_again(workers: Workers) -> None:
    driver = StepDriver(workers)
    options = StepOptions(retry=5, retry_delay=0, retry_on=KeyError)
    step = driver.add(Step("fail", fail, ("x",), options=options))
    driver.run()
    assert step.attempts == 1


def test_an_error_of_a_class_that_cannot_be_imported_is_itself_and_can_be_waited_out(workers: Workers) -> None:
    class Flaky(Exception):
        """Like a class of a script or notebook."""

    def flaky() -> None:
        raise Flaky("not now")

    driver = StepDriver(workers)
    options = StepOptions(retry=2, retry_delay=0, retry_on=(Flaky,))
    step = driver.add(Step("flaky", flaky, options=options))
    driver.run()
    assert step.attempts == 2
    assert isinstance(step.error, Flaky)


def test_a_timeout_ends_each_attempt_and_is_tried_again(workers: Workers) -> None:
    def slow(seconds: float) -> None:
        threading.Event().wait(seconds)

    driver = StepDriver(workers)
    step = driver.add(Step("slow", slow, (60,), options=StepOptions(timeout=0.2, retry=2, retry_delay=0)))
    began = time.monotonic()
    driver.run()
    assert time.monotonic() - began < 30
    assert step.status is Status.TIMED_OUT
    assert step.attempts == 2
    assert isinstance(step.error, StepTimedOut)
    assert "slow" in str(step.error)


def test_code_that_lets_no_other_thread_run_is_timed_out(apart: Workers) -> None:
    def hold() -> None:
        re.match("(a+)+$", "a" * 64 + "b")

    driver = StepDriver(apart)
    step = driver.add(Step("hold", hold, options=StepOptions(timeout=0.2)))
    driver.run()
    assert step.status is Status.TIMED_OUT
    assert isinstance(step.error, StepTimedOut)


def test_a_step_that_gives_no_sign_of_life_for_too_long_is_timed_out_and_tried_again(
    workers: Workers, tmp_path: Path
) -> None:
    def work() -> int:
        tries = len(list(tmp_path.iterdir()))
        (tmp_path / str(tries)).touch()
        for number in range(5):
            heartbeat(number)
            time.sleep(0.11)  # so that each is told of
        if not tries:
            threading.Event().wait(60)
        return tries

    driver = StepDriver(workers)
    step = driver.add(Step("work", work, options=StepOptions(retry=2, retry_delay=0), heartbeat=1))
    driver.run()
    assert driver.result(step) == 1
    assert [type(failure.error) for failure in step.failures] == [StepTimedOut]
    assert "step work gave no heartbeat for 1 s; it said last: 4" in str(step.failures[0].error)


def test_code_that_lets_no_other_thread_run_gives_no_sign_of_life(apart: Workers) -> None:
    def hold() -> None:
        heartbeat()
        re.match("(a+)+$", "a" * 64 + "b")

    driver = StepDriver(apart)
    steps = [driver.add(Step("hold", hold, id=f"hold_{number}", heartbeat=0.2)) for number in range(2)]
    driver.run()
    assert [step.status for step in steps] == [Status.TIMED_OUT] * 2


def test_a_step_that_falls_silent_costs_no_attempt_of_those_that_share_its_call(workers: Workers) -> None:
    def work(number: int) -> int:
        heartbeat()
        if number == 3:
            threading.Event().wait(60)
        return number

    driver = StepDriver(workers, max_concurrency=1)
    steps = [driver.add(Step("work", work, (number,), id=f"work_{number}", heartbeat=1)) for number in range(6)]
    driver.run()
    assert [step.status for step in steps].count(Status.SUCCEEDED) == 5
    assert steps[3].status is Status.TIMED_OUT
    assert {step.attempts for step in steps} == {1}


@pytest.mark.parametrize("limit", [{"heartbeat": 0.5}, {"options": StepOptions(timeout=0.5)}], ids=["silence", "time"])
def test_what_happens_while_the_driver_is_busy_counts(tmp_path: Path, limit: dict[str, Any]) -> None:
    def work(mark: str) -> None:
        while not (tmp_path / mark).exists():
            heartbeat()
            time.sleep(0.01)

    def keep_busy(step: Step) -> None:
        (tmp_path / "busy").touch()
        time.sleep(1)  # longer than the limit
        (tmp_path / "free").touch()
        driver.finish(step, Attempt(now(), now(), (pack(None, "nothing"),)))

    def begin(event: StepEvent) -> None:
        if event.step == "work" and event.status is Status.RUNNING:
            driver.add(Step("busy", same, host=keep_busy))

    workers = engines.workers("local")
    driver = StepDriver(workers, observers=[begin])
    step = driver.add(Step("work", work, ("free" if "heartbeat" in limit else "busy",), **limit))
    driver.run()
    workers.close()
    assert step.status is Status.SUCCEEDED


def test_a_worker_lost_in_a_later_attempt_is_no_timeout(apart: Workers, tmp_path: Path) -> None:
    def end() -> None:
        if (tmp_path / "failed").exists():
            os._exit(3)
        (tmp_path / "failed").touch()
        raise ValueError

    driver = StepDriver(apart)
    step = driver.add(Step("end", end, options=StepOptions(timeout=3, retry=2, retry_delay=3)))
    driver.run()
    assert step.status is Status.FAILED
    assert isinstance(step.error, StepLost)


def test_a_step_is_told_to_be_running_while_it_runs(workers: Workers, tmp_path: Path) -> None:
    def wait() -> None:
        deadline = time.monotonic() + 30
        while not (tmp_path / "seen").exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)

    def see(event: StepEvent) -> None:
        if event.status is Status.RUNNING:
            (tmp_path / "seen").touch()

    driver = StepDriver(workers, observers=[see])
    step = driver.add(Step("wait", wait))
    driver.run()
    assert step.status is Status.SUCCEEDED


def test_the_clock_of_a_timeout_starts_when_the_step_does(workers: Workers) -> None:
    def nap(number: int) -> int:
        time.sleep(0.05)
        return number

    driver = StepDriver(workers, max_concurrency=1)
    options = StepOptions(timeout=1)
    steps = [driver.add(Step("nap", nap, (number,), options=options, id=f"nap_{number}")) for number in range(25)]
    driver.run()
    assert [driver.result(step) for step in steps] == list(range(25))


def test_a_slow_item_holds_up_no_other(workers: Workers, tmp_path: Path) -> None:
    mark = tmp_path / "others are done"

    def item(number: int) -> int:
        deadline = time.monotonic() + 60
        while number == 0 and not mark.exists():
            assert time.monotonic() < deadline, "the others waited for this one"
            time.sleep(0.01)
        return number

    def note(step: Step) -> None:
        if sum(other.status is Status.SUCCEEDED for other in steps) == 199:
            mark.touch()

    driver = StepDriver(workers, on_end=note)
    steps = [Step("item", item, (number,), id=f"item_{number}") for number in range(200)]
    for step in steps:
        driver.add(step)
    driver.run()
    assert [driver.result(step) for step in steps] == list(range(200))


def test_sys_exit_is_a_failure(workers: Workers) -> None:
    driver = StepDriver(workers)
    step = driver.add(Step("leave", lambda: sys.exit(3)))
    driver.run()
    assert isinstance(step.error, StepExited)
    assert "sys.exit(3)" in str(step.error)


@pytest.mark.parametrize("end", [lambda: os._exit(3), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_a_lost_worker_is_the_failure_of_its_step_alone(apart: Workers, end: Callable[[], None]) -> None:
    driver = StepDriver(apart)
    steps = [driver.add(Step("one_more", one_more, (number,), id=f"one_more_{number}")) for number in range(40)]
    killer = driver.add(Step("end", end))
    more = [driver.add(Step("one_more", one_more, (number,), id=f"more_{number}")) for number in range(40)]
    driver.run()
    assert isinstance(killer.error, StepLost)
    assert {step.status for step in steps + more} == {Status.SUCCEEDED}


def test_items_that_shared_a_call_with_a_killer_succeed(apart: Workers) -> None:
    def item(number: int) -> int:
        if number == 700:
            os._exit(1)
        return number

    driver = StepDriver(apart)
    steps = [driver.add(Step("item", item, (number,), id=f"item_{number}")) for number in range(1000)]
    driver.run()
    assert [step.id for step in steps if step.status is not Status.SUCCEEDED] == ["item_700"]


def test_a_lost_worker_is_tried_again(apart: Workers, tmp_path: Path) -> None:
    def die_once(path: str) -> int:
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(1)
        return 7

    driver = StepDriver(apart)
    options = StepOptions(retry=2, retry_delay=0)
    step = driver.add(Step("die_once", die_once, (str(tmp_path / "mark"),), options=options))
    driver.run()
    assert driver.result(step) == 7


@pytest.mark.parametrize("value", [threading.Lock(), (n for n in range(3))], ids=["lock", "generator"])
def test_an_argument_that_cannot_travel_is_an_error_that_names_the_step(workers: Workers, value: Any) -> None:
    driver = StepDriver(workers)
    step = driver.add(Step("same", same, ([value],)))
    driver.run()
    assert isinstance(step.error, NotSerializable)
    assert "step same" in str(step.error)


def test_a_result_that_cannot_travel_is_an_error_that_names_the_step(workers: Workers) -> None:
    driver = StepDriver(workers)
    step = driver.add(Step("locked", threading.Lock))
    driver.run()
    assert isinstance(step.error, NotSerializable)
    assert "the result of step locked" in str(step.error)


def test_no_more_steps_run_at_once_than_the_cap(workers: Workers, tmp_path: Path) -> None:
    def counted(folder: str, number: int) -> int:
        mine = os.path.join(folder, str(number))
        open(mine, "w").close()
        here = len(os.listdir(folder))
        time.sleep(0.02)
        os.remove(mine)
        return here

    driver = StepDriver(workers, max_concurrency=2)
    steps = [driver.add(Step("counted", counted, (str(tmp_path), n), id=f"counted_{n}")) for n in range(12)]
    driver.run()
    assert max(driver.result(step) for step in steps) <= 2


def test_cancelling_ends_what_runs_and_what_waits(workers: Workers) -> None:
    driver: StepDriver

    def stop(step: Step) -> None:
        driver.cancel("enough")

    driver = StepDriver(workers, on_end=stop)
    slow = driver.add(Step("slow", time.sleep, (60,)))
    after = driver.add(Step("same", same, (slow,)))
    driver.add(Step("quick", same, (1,), id="quick"))
    began = time.monotonic()
    driver.run()
    assert time.monotonic() - began < 30
    assert (slow.status, after.status) == (Status.CANCELLED, Status.CANCELLED)
    assert isinstance(slow.error, StepCancelled)
    assert "enough" in str(slow.error)


def test_steps_may_be_added_while_others_run_and_from_other_threads(workers: Workers) -> None:
    driver = StepDriver(workers)
    first = driver.add(Step("same", same, (1,)))
    driver.hold()

    def add() -> None:
        added.append(driver.add(Step("one_more", one_more, (first,))))
        driver.release()

    added: list[Step] = []
    thread = threading.Thread(target=add)
    thread.start()
    driver.run()
    thread.join()
    assert driver.result(added[0]) == 2


def test_observers_see_each_change_with_its_time(workers: Workers) -> None:
    seen: list[StepEvent] = []
    driver = StepDriver(workers, run_id="r", observers=[seen.append])
    driver.add(Step("fail", fail, ("x",), options=StepOptions(retry=2, retry_delay=0)))
    driver.run()
    states = [event.status for event in seen]
    assert states == [Status.PENDING, *[Status.RUNNING, Status.RETRYING], Status.RUNNING, Status.FAILED]
    assert seen[-1].error == "ValueError: x"
    assert seen[-1].attempt == 2
    assert [event.at for event in seen] == sorted(event.at for event in seen)
    assert all(event.at.utcoffset() is not None for event in seen)


def test_a_dead_observer_neither_slows_nor_fails_a_run(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    def dies(event: StepEvent) -> None:
        raise OSError("the other end is gone")

    driver = StepDriver(workers, observers=[dies])
    step = chain(driver, 5)
    driver.run()
    assert driver.result(step) == 5
    assert "the other end is gone" in caplog.text


def test_a_step_that_fits_nowhere_says_what_it_needs_and_what_there_is(
    ray_session: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raflow.engines.ray.steps.START_TIMEOUT_S", 0.5)
    found = engines.workers("ray")
    found.start()
    driver = StepDriver(found)
    options = StepOptions(resources={"tpu": 2}, retry=3, retry_delay=0)
    steps = [driver.add(Step("same", same, (1,), options=options, id=f"same_{number}")) for number in range(9)]
    driver.run()
    found.close()
    assert all(isinstance(step.error, NoCapacity) for step in steps)
    assert {len(step.failures) for step in steps} == {1}, "waiting once is enough"
    assert "'tpu': 2.0" in str(steps[0].error)


def test_large_results_stay_in_the_object_store(ray_session: None) -> None:
    found = engines.workers("ray")
    found.start()
    driver = StepDriver(found)
    steps = [driver.add(Step("zeros", np.zeros, (1_000_000,), id=f"zeros_{n}")) for n in range(3)]
    total = driver.add(Step("total", lambda arrays: sum(array.nbytes for array in arrays), (steps,)))
    driver.run()
    found.close()
    assert driver.result(total) == 3 * 8_000_000
    assert all(type(value).__name__ == "Stored" for step in steps for value in step.values or ())


def test_children_end_with_their_workers() -> None:
    found = engines.workers("local", processes=True)
    driver = StepDriver(found)
    step = driver.add(Step("getpid", os.getpid))
    driver.run()
    pid = driver.result(step)
    assert pid != os.getpid()
    found.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_an_interrupt_from_the_terminal_is_the_parents_business() -> None:
    def interrupted() -> str:
        os.kill(os.getpid(), signal.SIGINT)
        return "done"

    found = engines.workers("local", processes=True)
    driver = StepDriver(found)
    step = driver.add(Step("interrupted", interrupted))
    driver.run()
    assert driver.result(step) == "done"
    found.close()


def test_a_call_that_is_over_does_not_kill_the_child_that_others_use() -> None:
    found = engines.workers("local", processes=True)
    messages: queue.SimpleQueue[Any] = queue.SimpleQueue()
    task = Task("getpid", found.ship(os.getpid, "getpid"), pack(((), {}), ""), (), 0, Exception, expands=False)

    def over() -> Any:
        while not isinstance(message := messages.get(timeout=30), Over):
            pass
        return message

    needs = StepOptions()
    first = found.call(1, [task], needs, messages.put)
    assert over().error is None
    found.call(2, [task], needs, messages.put)
    first.kill()
    assert over().error is None
    found.close()


def test_an_abandoned_thread_ends_with_its_step() -> None:
    gate, threads = threading.Event(), list[threading.Thread]()

    def stay() -> None:
        threads.append(threading.current_thread())
        gate.wait(30)

    found = engines.workers("local")
    driver = StepDriver(found)
    step = driver.add(Step("stay", stay, options=StepOptions(timeout=0.1)))
    driver.run()
    found.close()
    assert step.status is Status.TIMED_OUT
    gate.set()
    threads[0].join(30)
    assert not threads[0].is_alive()


def test_functions_of_which_nothing_waits_cost_nothing() -> None:
    found = engines.workers("local")
    driver = StepDriver(found)
    steps = [driver.add(Step("made", lambda number=number: number, id=f"made_{number}")) for number in range(100)]
    driver.run()
    found.close()
    assert [driver.result(step) for step in steps] == list(range(100))
    assert not driver._calls._lines, "each turn of the loop goes through them"


class Hesitant:
    """Workers whose first call tells what it left only when the second one begins."""

    def __init__(self) -> None:
        self.inner = engines.workers("local")
        self.held: list[Any] = []
        self.posts: list[Any] = []
        self.lock = threading.Lock()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def call(self, number: int, tasks: list[Task], needs: Any, post: Any) -> Any:
        with self.lock:
            self.posts.append(post)
            for message in self.held:
                post(message)
        return self.inner.call(number, tasks, needs, post if len(self.posts) > 1 else self.hold)

    def hold(self, message: Any) -> None:
        with self.lock:
            if isinstance(message, Left | Over) and len(self.posts) == 1:
                self.held.append(message)
            else:
                self.posts[0](message)


def test_what_follows_a_step_that_is_tried_again_runs_once() -> None:
    tries, runs, twice = list[int](), list[int](), threading.Event()

    def note(value: int) -> None:
        runs.append(value)
        if len(runs) > 1:
            twice.set()
        twice.wait(0.3)

    def fail_once() -> int:
        tries.append(1)
        if len(tries) == 1:
            raise ValueError
        return 1

    workers: Any = Hesitant()
    driver = StepDriver(workers)
    first = driver.add(Step("fail_once", fail_once, options=StepOptions(retry=2, retry_delay=0)))
    after = driver.add(Step("note", note, (first,)))
    driver.run()
    workers.close()
    assert after.status is Status.SUCCEEDED
    assert len(tries) == 2
    assert runs == [1]
