"""Durable runs: what is recorded, what a resumed run does again, and what it refuses."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from raflow.errors import InvalidOption, ResumeError
from raflow.workflows.inferred import (
    LocalWorkflow,
    RayWorkflow,
    TaskError,
    finish_order,
    first,
    parallel_reduce,
    restart,
    wait,
)
from raflow.workflows.inferred.workflow import InferredWorkflow


class Dictionary:
    """A storage whose values are copies; perhaps it breaks after some writes, as a killed process would."""

    def __init__(self, writes: float = float("inf")) -> None:
        self.records: dict[str, Any] = {}
        self.writes = writes

    def read(self, key: str) -> Any:
        return copy.deepcopy(self.records.get(key, "missing"))

    def write(self, key: str, value: Any) -> None:
        if self.writes <= 0:
            raise Killed
        self.writes -= 1
        self.records[key] = copy.deepcopy(value)


class Killed(Exception):
    pass


CALLED: list[str] = []


def noted(text: str) -> str:
    CALLED.append(text)
    return text


def numbered(text: str) -> str:
    return f"{text}!"


@pytest.fixture(autouse=True)
def _nothing_called() -> None:
    CALLED.clear()


def durable(w: Any, storage: Dictionary, **dependencies: Any) -> LocalWorkflow:
    made = LocalWorkflow(w, storage=storage, workflow_id="w")
    for name, each in dependencies.items():
        if isinstance(each, InferredWorkflow):
            made.conf_workflow(name, each)
        else:
            made.conf_activity(name, each)
    return made


def chain(texts: list[Any]) -> Callable[..., Any]:
    def factory(note: Any) -> Callable[[], Any]:
        def run() -> Any:
            result = ""
            for text in texts:
                result = note(result + text)
            return result

        return run

    return factory


@pytest.mark.parametrize("writes", range(1, 5))
def test_a_resumed_run_makes_only_the_calls_that_had_not_ended(writes: int) -> None:
    storage = Dictionary(writes)
    made = durable(chain(["a", "b", "c"]), storage, note=noted)
    if writes < 4:
        with pytest.raises(Killed):
            made.run()
    else:
        made.run()
    CALLED.clear()
    storage.writes = 100
    assert durable(chain(["a", "b", "c"]), storage, note=noted).run(_resume=True) == "abc"
    assert ["a", "ab", "abc"][writes - 1 :] == CALLED


def test_resuming_a_finished_run_calls_nothing_and_a_new_run_calls_everything() -> None:
    storage = Dictionary()
    made = durable(chain(["a", "b"]), storage, note=noted)
    assert [made.run(_resume=True), made.run(_resume=True)] == ["ab", "ab"]
    assert CALLED == ["a", "ab"]
    assert made.trace is not None
    assert [row.status.value for row in made.trace.rows] == ["succeeded", "succeeded"]
    made.run()
    assert CALLED == ["a", "ab", "a", "ab"]


def test_a_new_run_does_not_mix_with_records_of_an_older_one() -> None:
    storage = Dictionary()
    durable(chain(["a", "b", "c"]), storage, note=noted).run()
    storage.writes = 2
    with pytest.raises(Killed):
        durable(chain(["x", "b", "c"]), storage, note=noted).run()
    storage.writes = 100
    CALLED.clear()
    assert durable(chain(["x", "b", "c"]), storage, note=noted).run(_resume=True) == "xbc"
    assert CALLED == ["xb", "xbc"]


# -- what changed ---------------------------------------------------------------------------------------------


def test_a_call_whose_arguments_changed_is_refused_by_name() -> None:
    storage = Dictionary()
    durable(chain(["a", "b", "c"]), storage, note=noted).run()
    with pytest.raises(ResumeError, match="the arguments of the call note#2 differ"):
        durable(chain(["a", "B", "c"]), storage, note=noted).run(_resume=True)


def test_a_call_of_another_name_is_refused_by_name() -> None:
    def old(one: Any, two: Any) -> Callable[[], Any]:
        return lambda: two(one("a"))

    def new(one: Any, two: Any) -> Callable[[], Any]:
        return lambda: one(two("a"))

    storage = Dictionary()
    durable(old, storage, one=noted, two=noted).run()
    with pytest.raises(ResumeError, match="'w' cannot be resumed: the recorded run called one#1 where .* calls two#1"):
        durable(new, storage, one=noted, two=noted).run(_resume=True)


def test_a_result_in_the_place_of_another_one_is_a_change() -> None:
    def reading(which: int) -> Callable[..., Any]:
        return lambda note: lambda: note([note("a"), note("a")][which])

    storage = Dictionary()
    durable(reading(0), storage, note=noted).run()
    assert durable(reading(0), storage, note=noted).run(_resume=True) == "a"
    with pytest.raises(ResumeError, match="the arguments of the call note#3 differ"):
        durable(reading(1), storage, note=noted).run(_resume=True)


def test_a_change_is_told_even_if_the_workflow_handles_all_errors() -> None:
    def handling(text: str) -> Callable[..., Any]:
        def factory(note: Any) -> Callable[[], Any]:
            def run() -> Any:
                try:
                    return wait(note(text))
                except Exception:
                    return "handled"

            return run

        return factory

    storage = Dictionary()
    durable(handling("a"), storage, note=noted).run()
    with pytest.raises(ResumeError, match="note#1"):
        durable(handling("b"), storage, note=noted).run(_resume=True)


def test_other_arguments_of_the_run_are_refused() -> None:
    storage = Dictionary()
    made = durable(lambda note: note, storage, note=noted)
    made.run("a")
    with pytest.raises(ResumeError, match="'w' was started with other arguments"):
        made.run("b", _resume=True)
    assert made.run("b") == "b"


# -- decisions that depend on order, failures, sub-workflows, turns -----------------------------------------------


def test_the_order_of_completion_is_that_of_the_recorded_run() -> None:
    def ordering(note: Any) -> Callable[[], Any]:
        def run() -> Any:
            results = [note(text) for text in "abc"]
            order = [str(each) for each in finish_order(results)]
            return [*order, str(first(results)), wait(parallel_reduce(note_both, results))]

        def note_both(x: Any, y: Any) -> Any:
            return note(x + y)

        return run

    storage = Dictionary()
    made = durable(ordering, storage, note=noted)
    made.run()
    calls = sorted((key for key in storage.records if "/calls/" in key), key=lambda key: int(key.rpartition(".")[2]))
    for place, key in zip((2, 0, 1), calls, strict=False):
        storage.records[key]["order"][1] = place
    for key in calls[3:]:
        del storage.records[key]
    CALLED.clear()
    assert made.run(_resume=True) == ["b", "c", "a", "b", "abc"]
    assert CALLED == ["bc", "abc"]


def flaky(text: str) -> str:
    CALLED.append(text)
    if len(CALLED) == 1:
        raise ValueError(text)
    return text


def test_a_failure_that_ended_the_run_is_tried_again() -> None:
    storage = Dictionary()
    made = durable(lambda flaky: lambda: flaky("a"), storage, flaky=flaky)
    with pytest.raises(TaskError, match="ValueError: a"):
        made.run()
    assert made.run(_resume=True) == "a"


def test_a_failure_that_the_workflow_survived_is_recorded() -> None:
    def surviving(flaky: Any, note: Any) -> Callable[[], Any]:
        def run() -> Any:
            try:
                return wait(note(flaky("a")))
            except TaskError as error:
                return note(f"after {error}")

        return run

    storage = Dictionary()
    made = durable(surviving, storage, flaky=flaky, note=noted)
    value = made.run()
    assert value == "after ValueError: a (task note#1)"
    CALLED.clear()
    assert made.run(_resume=True) == value
    assert CALLED == []


def test_sub_workflows_and_turns_have_records_of_their_own() -> None:
    def inner(note: Any) -> Callable[..., Any]:
        return lambda text: note(note(text) + "i")

    def outer(sub: Any, note: Any) -> Callable[..., Any]:
        def run(turns: int) -> Any:
            value = note(sub(str(turns)))
            return restart(turns - 1) if wait(value) and turns else value

        return run

    def made(storage: Dictionary) -> LocalWorkflow:
        sub = LocalWorkflow(inner)
        sub.conf_activity("note", noted)
        return durable(outer, storage, sub=sub, note=noted)

    whole = Dictionary()
    assert made(whole).run(1) == "0i"
    every = list(CALLED)
    assert every == ["1", "1i", "1i", "0", "0i", "0i"]
    for writes in range(1, 10):
        storage = Dictionary(writes)
        if writes < 9:
            with pytest.raises(Killed):
                made(storage).run(1)
        CALLED.clear()
        storage.writes = 100
        assert made(storage).run(1, _resume=True) == "0i"
        # A call may end although its record could not be written; at most it is made again.
        assert every[-len(CALLED) :] == CALLED or writes == 9
        assert len(CALLED) <= len(every)


def test_a_durable_workflow_needs_storage_and_an_id() -> None:
    with pytest.raises(InvalidOption, match="both storage and workflow_id"):
        LocalWorkflow(chain([]), storage=Dictionary())
    with pytest.raises(InvalidOption, match="both storage and workflow_id"):
        RayWorkflow(chain([]), workflow_id="w")
    made = LocalWorkflow(chain([]))
    made.conf_activity("note", noted)
    with pytest.raises(InvalidOption, match="made without storage and workflow_id"):
        made.run(_resume=True)


def test_results_on_each_engine_are_recorded(engine: str) -> None:
    storage = Dictionary()
    kind = LocalWorkflow if engine == "local" else RayWorkflow
    made = kind(lambda number: lambda: number(number("a")), storage=storage, workflow_id="w")
    made.conf_activity("number", numbered)
    assert made.run() == "a!!"
    values = [record["value"] for key, record in sorted(storage.records.items()) if "/calls/" in key]
    assert values == ["a!", "a!!"]
    assert made.run(_resume=True) == "a!!"
