from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import timezone
from functools import partial
from typing import Any

import numpy as np
import pytest

from raflow.errors import NotSerializable, StepExited, StepTimedOut
from raflow.runtime.steps.messages import Begun, Ended, Left, Over, Task
from raflow.runtime.steps.values import Earlier, Packed, Slot, pack, unpack
from raflow.runtime.steps.worker import Inputs, Slice, attempt, filled, now, run_slice, settled, timed_out

WAIT_S = 20


def task(name: str = "s", *args: Any, inputs: tuple[Any, ...] = (), **options: Any) -> Task:
    fields: dict[str, Any] = {"timeout": 0.0, "retry_on": Exception, "expands": False, **options}
    return Task(name, None, pack((args, {}), name), inputs, **fields)


def value(packed: Any) -> Any:
    assert isinstance(packed, Packed)
    return unpack(packed)


def raises(error: BaseException) -> Callable[[], None]:
    def step() -> None:
        raise error

    return step


async def later(number: int) -> int:
    await asyncio.sleep(0)
    return number + 1


def two_then_fail() -> Iterator[int]:
    yield 1
    yield 2
    msg = "after two"
    raise ValueError(msg)


# -- one attempt ----------------------------------------------------------------------------------------------


def test_an_attempt_has_the_packed_result_and_its_utc_times() -> None:
    before = now()
    done = attempt(lambda one, two: [one, two], task("s", 1, "x"), ())
    assert [value(each) for each in done.values] == [[1, "x"]]
    assert done.failure is None
    assert before <= done.started_at <= done.finished_at <= now()
    assert done.started_at.tzinfo is timezone.utc


def test_what_a_step_does_to_its_arguments_its_next_attempt_does_not_see() -> None:
    one = task("s", [1, 2], Slot(0), inputs=(pack({"n": 1}, "it"),))

    def spoil(items: list[int], named: dict[str, int]) -> int:
        items.clear()
        named.clear()
        return 0

    attempt(spoil, one, one.inputs)
    again = attempt(lambda *given: given, one, one.inputs)
    assert value(again.values[0]) == ([1, 2], {"n": 1})


def test_what_a_step_does_to_its_result_later_nobody_sees() -> None:
    kept = [1]
    done = attempt(lambda: kept, task(), ())
    kept.append(2)
    assert value(done.values[0]) == [1]


def test_an_array_that_a_step_gets_is_read_only() -> None:
    one = task("s", Slot(0), inputs=(pack(np.zeros(3), "it"),))
    done = attempt(lambda array: array.fill(1), one, one.inputs)
    assert done.failure is not None
    assert isinstance(done.failure.error, ValueError)
    assert "read-only" in str(done.failure.error)


@pytest.mark.parametrize("function", [later, partial(later)], ids=["function", "partial"])
def test_what_can_be_awaited_is_awaited(function: Callable[[int], Any]) -> None:
    assert value(attempt(function, task("s", 1), ()).values[0]) == 2


def test_what_can_be_awaited_is_awaited_where_a_loop_is_running_already() -> None:
    async def notebook() -> Any:
        return settled(later(1))

    assert asyncio.run(notebook()) == asyncio.run(later(1))


@pytest.mark.parametrize(
    ("result", "items"),
    [([1, 2], [1, 2]), ({"a": 1}, ["a"]), ((n for n in range(3)), [0, 1, 2]), ("ab", ["a", "b"]), ([], [])],
)
def test_an_expanded_result_is_a_value_per_item(result: Any, items: list[Any]) -> None:
    done = attempt(lambda: result, task(expands=True), ())
    assert [value(each) for each in done.values] == items


@pytest.mark.parametrize(
    ("function", "said"),
    [(lambda: 5, "'int' object is not iterable"), (two_then_fail, "after two")],
    ids=["number", "generator"],
)
def test_a_result_that_cannot_be_expanded_is_a_failure(function: Callable[[], Any], said: str) -> None:
    done = attempt(function, task(expands=True), ())
    assert done.values == ()
    assert done.failure is not None
    assert said in str(done.failure.error)


@pytest.mark.parametrize(
    ("expands", "function", "name"),
    [(False, threading.Lock, "the result of step s_1"), (True, lambda: [1, threading.Lock()], "item 1 of step s_1")],
)
def test_a_result_that_cannot_travel_is_named_and_not_tried_again(
    expands: bool, function: Callable[[], Any], name: str
) -> None:
    done = attempt(function, task("s_1", expands=expands), ())
    assert done.failure is not None
    assert isinstance(done.failure.error, NotSerializable)
    assert str(done.failure.error).startswith(name)
    assert not done.retryable


@pytest.mark.parametrize(
    ("error", "retry_on", "retryable"),
    [
        (ValueError("no"), Exception, True),
        (ValueError("no"), (KeyError, ValueError), True),
        (ValueError("no"), KeyError, False),
        (KeyboardInterrupt(), Exception, False),
        (KeyboardInterrupt(), BaseException, True),
        (GeneratorExit(), Exception, False),
    ],
    ids=repr,
)
def test_every_error_is_a_failure_and_its_type_decides_whether_to_try_again(
    error: BaseException, retry_on: Any, retryable: bool
) -> None:
    done = attempt(raises(error), task(retry_on=retry_on), ())
    assert done.failure is not None
    assert done.failure.error is error
    assert done.retryable is retryable
    assert "raise error" in done.failure.traceback


@pytest.mark.parametrize(("retry_on", "retryable"), [(Exception, False), (SystemExit, True)])
def test_sys_exit_is_a_failure_that_names_the_step(retry_on: Any, retryable: bool) -> None:
    done = attempt(lambda: sys.exit(3), task("s_1", retry_on=retry_on), ())
    assert done.failure is not None
    assert isinstance(done.failure.error, StepExited)
    assert "step s_1 called sys.exit(3)" in str(done.failure.error)
    assert done.retryable is retryable


def test_a_step_that_took_too_long_says_how_long_it_may() -> None:
    done = timed_out(task("s_1", timeout=1.5), now())
    assert done.timed_out
    assert done.retryable
    assert done.failure is not None
    assert isinstance(done.failure.error, StepTimedOut)
    assert "step s_1 took longer than its timeout of 1.5 s" in str(done.failure.error)


# -- arguments ------------------------------------------------------------------------------------------------


def test_slots_are_filled_and_each_place_gets_a_value_of_its_own() -> None:
    given = pack((([Slot(0), Slot(0)],), {"k": {Slot(1): Slot(0)}}), "it")
    (items,), named = filled(given, [pack([1], "it"), pack("key", "it")])
    assert items == [[1], [1]]
    assert items[0] is not items[1]
    assert named == {"k": {"key": [1]}}


def test_values_that_look_like_slots_within_a_value_are_left_alone() -> None:
    given = pack(((Slot(0),), {}), "it")
    assert filled(given, [pack([Slot(7)], "it")]) == (([Slot(7)],), {})


def test_inputs_are_values_values_beside_and_what_earlier_tasks_made() -> None:
    plain, beside = pack("plain", "it"), pack("beside", "it")
    inputs = Inputs([beside])
    one = task("two", inputs=(plain, Slot(0), Earlier("one")))
    assert inputs.of(one) is None, "task one has made nothing"
    inputs.keep(task("one"), attempt(lambda: "made", task("one"), ()))
    found = inputs.of(one)
    assert found is not None
    assert [value(each) for each in found] == ["plain", "beside", "made"]


def test_what_an_earlier_task_failed_to_make_is_missing() -> None:
    inputs = Inputs()
    inputs.keep(task("one"), attempt(raises(ValueError()), task("one"), ()))
    assert inputs.of(task("two", inputs=(Earlier("one"),))) is None


# -- slices ---------------------------------------------------------------------------------------------------


def test_a_slice_gives_its_tasks_in_order_and_then_none() -> None:
    found = Slice([task(name) for name in "abc"])
    assert [taken.id if (taken := found.take()) else None for _ in range(5)] == ["a", "b", "c", None, None]


def test_a_closed_slice_tells_once_what_was_not_taken() -> None:
    found = Slice([task(name) for name in "abc"])
    found.take()
    assert found.close() == ("b", "c")
    assert found.close() == ()
    assert found.take() is None


def test_a_call_tells_what_becomes_of_its_tasks_and_leaves_those_behind_a_failure() -> None:
    codes = {"one": lambda: 1, "bad": raises(ValueError())}
    tasks = [task("lost", inputs=(Earlier("elsewhere"),)), task("one"), task("bad"), task("rest")]
    told = run_slice(7, Slice(tasks), Inputs(), lambda each, inputs: attempt(codes[each.id], each, inputs))
    lost, begun, ended, *more = told
    assert (lost, begun) == (Left(7, ("lost",)), Begun(7, "one"))
    assert isinstance(ended, Ended)
    assert [value(each) for each in ended.attempt.values] == [1]
    assert [type(each) for each in more] == [Begun, Ended, Left, Over]
    assert more[-2:] == [Left(7, ("rest",)), Over(7)]


def test_each_task_is_either_taken_or_left_whoever_comes_first() -> None:
    for _ in range(50):
        found = Slice([task(str(number)) for number in range(200)])
        taken: list[list[str]] = [[] for _ in range(4)]
        go = threading.Barrier(5)

        def take(mine: list[str], found: Slice = found, go: threading.Barrier = go) -> None:
            go.wait(WAIT_S)
            while (one := found.take()) is not None:
                mine.append(one.id)

        threads = [threading.Thread(target=take, args=(mine,)) for mine in taken]
        for thread in threads:
            thread.start()
        go.wait(WAIT_S)
        left = found.close()
        for thread in threads:
            thread.join(WAIT_S)
        assert sorted([*left, *(name for mine in taken for name in mine)]) == sorted(map(str, range(200)))


@pytest.mark.parametrize(
    ("module", "unneeded"),
    [
        ("raflow.engines.child", {"numpy", "pandas", "pyarrow", "pydantic"}),
        ("raflow.engines.ray.bench", {"numpy", "pandas", "pyarrow", "pydantic"}),
        ("raflow.workflows.chain", {"numpy", "pandas", "pyarrow"}),
    ],
)
def test_a_worker_starts_without_libraries_that_its_steps_may_not_need(module: str, unneeded: set[str]) -> None:
    program = f"import sys, {module}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert unneeded & set(done.stdout.split()) == set()
