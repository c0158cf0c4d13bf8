"""Classes as steps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest

from raflow.workflows.chain import Context, Workflow, action


class ETLPipeline:
    @action
    def extract(self) -> Any:
        return {"raw": [1, 2, 3]}

    @action
    def transform(self, previous_context: Any) -> Any:
        return {"processed": [x * 2 for x in previous_context.storage["raw"]]}

    @action
    def load(self, previous_context: Any) -> Any:
        return sum(previous_context.storage["processed"])

    def helper(self) -> None:
        raise AssertionError


class Longer(ETLPipeline):
    @action
    def report(self, previous_context: Any) -> str:
        return f"sum {previous_context.storage}"

    @action
    def transform(self, previous_context: Any) -> Any:
        return {"processed": [x * 10 for x in previous_context.storage["raw"]]}


class Failing:
    @action
    def first(self) -> int:
        return 1

    @action
    def second(self) -> int:
        return 2

    @action
    def third(self) -> None:
        msg = "third"
        raise ValueError(msg)


@action
def pipeline() -> Any:
    return ETLPipeline()


@action
def longer() -> Any:
    return Longer()


@action
def failing() -> Any:
    return Failing()


@action
def contexts(previous_context: Any) -> Any:
    return [one.storage for one in previous_context.storage]


@pytest.fixture(params=["here", "local", pytest.param("ray", marks=pytest.mark.ray)])
def options(request: pytest.FixtureRequest) -> dict[str, Any]:
    """In the caller's thread, and on both engines."""
    if request.param == "ray":
        request.getfixturevalue("ray_session")
    return {} if request.param == "here" else {"engine": request.param, "mode": "parallel"}


def run(*steps: Any, **options: Any) -> Workflow:
    workflow = Workflow()
    workflow.task.add(list(steps))
    workflow.start(**options)
    return workflow


def values(context: Context) -> list[Any]:
    return [one.storage for one in context.storage]


def test_the_actions_of_a_returned_object_run_in_their_order(options: dict[str, Any]) -> None:
    task = run(pipeline, **options).result_task()[0]
    assert values(task.current_context) == [{"raw": [1, 2, 3]}, {"processed": [2, 4, 6]}, 12]
    assert [one.task_id for one in task.current_context.storage] == [
        f"pipeline#0.{n}" for n in ("extract", "transform", "load")
    ]


def test_inherited_actions_run_first_and_overridden_ones_in_their_place(options: dict[str, Any]) -> None:
    task = run(longer, **options).result_task()[0]
    assert values(task.current_context) == [{"raw": [1, 2, 3]}, {"processed": [10, 20, 30]}, 60, "sum 60"]


def test_what_succeeded_before_a_failing_action_is_kept(options: dict[str, Any]) -> None:
    task = run(failing, **options).result_task()[0]
    assert (task.status, task.errors[0].message) == ("Failed", "third")
    assert values(task.current_context) == [1, 2]


def test_the_next_task_gets_the_list_of_contexts() -> None:
    assert run(pipeline, contexts).result_storage()[1] == [{"raw": [1, 2, 3]}, {"processed": [2, 4, 6]}, 12]


def test_a_decorated_class_is_a_step_and_its_constructor_gets_contexts() -> None:
    @action
    class Step:
        def __init__(self, initial_context: Any, previous_context: Any) -> None:
            self.start = initial_context.storage + previous_context.storage

        @action
        def first(self) -> Any:
            return self.start

        @action
        def second(previous_context: Any) -> Any:
            return previous_context.storage * 2

    workflow = Workflow()
    workflow.task.add(action(lambda: 1)).add(Step, initial_context=10)
    workflow.start()
    assert values(workflow.result_context()[1]) == [11, 22]


def test_methods_get_the_task_s_contexts() -> None:
    class Step:
        @action
        def first(self, previous_context: Any, initial_context: Any) -> Any:
            return previous_context.storage, initial_context.storage

    workflow = Workflow()
    workflow.task.add(action(lambda: "before")).add(action(Step), initial_context="initial")
    workflow.start()
    assert values(workflow.result_context()[1]) == [("before", "initial")]


def test_a_method_s_own_retries_and_timeout_count() -> None:
    tries = []

    class Step:
        @action(retry=3, retry_delay=0)
        def flaky(self) -> int:
            tries.append(1)
            if len(tries) < 3:
                raise ValueError
            return len(tries)

        @action(timeout=0.05)
        async def slow(self) -> None:
            import asyncio

            await asyncio.Event().wait()

    task = run(action(Step)).result_task()[0]
    assert values(task.current_context) == [3]
    assert task.errors[0].exception == "StepTimedOut"
    assert "slow took longer" in task.errors[0].message


def test_classes_made_by_exec_keep_the_order_of_their_definition() -> None:
    space: dict[str, Any] = {"action": action}
    exec("class Made:\n  @action\n  def z(self): return 'z'\n  @action\n  def a(self): return 'a'", space)
    assert values(run(action(space["Made"])).result_context()[0]) == ["z", "a"]


def test_an_action_overridden_by_a_plain_method_is_no_action_any_more() -> None:
    class Less(ETLPipeline):
        def load(self, previous_context: Any) -> Any:  # type: ignore[override]
            raise AssertionError

    assert len(run(action(Less)).result_storage()[0]) == 2


def test_nothing_of_other_objects_is_evaluated() -> None:
    class Touchy:
        @property
        def trap(self) -> None:
            raise AssertionError

        def __getattr__(self, name: str) -> Any:
            raise AssertionError(name)

    @dataclass
    class Point:
        x: int

    touchy = Touchy()
    numbers = (n for n in range(3))
    found = run(action(lambda: touchy), action(lambda: Point(3)), action(lambda: numbers)).result_storage()
    assert found[0] is touchy
    assert found[1:] == [Point(3), numbers]
