"""Configuring workflows: names, dependencies, options; sub-workflows, versions, repeated runs."""

from __future__ import annotations

import concurrent.futures
import os
import threading
from collections.abc import Callable
from typing import Any

import pytest

from raflow.errors import FlowError, InvalidOption
from raflow.workflows.inferred import LocalWorkflow, RayWorkflow, TaskError, wait
from raflow.workflows.inferred.workflow import InferredWorkflow

Make = Callable[..., InferredWorkflow]


def add(x: Any, y: Any) -> Any:
    return x + y


def square(n: int) -> int:
    return n**2


class Squares:
    def __init__(self, square: Any, add: Any) -> None:
        self.square, self.add = square, add

    def __call__(self, a: int, b: int) -> Any:
        return self.add(self.square(a), self.square(b))


def squares(square: Any, add: Any) -> Callable[[int, int], Any]:
    def run(a: int, b: int) -> Any:
        return add(square(a), square(b))

    return run


@pytest.mark.parametrize("form", [Squares, squares])
def test_a_class_or_a_closure_runs_with_and_without_raflow(workflow: Make, form: Any) -> None:
    made = workflow(form, square=square, add=add)
    assert made.run(2, 10) == form(square, add)(2, 10) == 104
    assert made.run(a=3, b=1) == 10


# -- names and dependencies ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["1a", "a-b", "", "a b", "class", "None", 3])
def test_a_dependency_needs_a_name_that_a_parameter_can_have(name: Any) -> None:
    with pytest.raises(ValueError, match="must be an identifier and no keyword"):
        LocalWorkflow(Squares).conf_activity(name, square)


def test_two_dependencies_cannot_share_a_name() -> None:
    made = LocalWorkflow(Squares)
    made.conf_activity("square", square)
    with pytest.raises(ValueError, match="Squares already has a dependency 'square'"):
        made.conf_workflow("square", LocalWorkflow(Squares))


@pytest.mark.parametrize("names", [["square"], ["square", "add", "more"], []])
def test_missing_and_extra_dependencies_are_told_before_anything_runs(names: list[str]) -> None:
    made = LocalWorkflow(Squares)
    for name in names:
        made.conf_activity(name, square)
    with pytest.raises(FlowError, match=r"dependencies of Squares do not fit .*asked for \['square', 'add'\]"):
        made.run(2, 10)
    assert made.trace is None


def test_a_missing_dependency_of_a_sub_workflow_is_told_before_anything_runs() -> None:
    called: list[int] = []

    def factory(note: Any, sub: Any) -> Callable[[], Any]:
        return lambda: [wait(note(1)), sub(1, 2)]

    made = LocalWorkflow(factory)
    made.conf_activity("note", called.append)
    made.conf_workflow("sub", LocalWorkflow(Squares))
    with pytest.raises(FlowError, match="dependencies of Squares do not fit"):
        made.run()
    assert called == []


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: LocalWorkflow(3), "a workflow is a class or a function"),  # type: ignore[arg-type]
        (lambda: LocalWorkflow(Squares, activity_workers=0), "activity_workers is 0"),
        (lambda: LocalWorkflow(Squares, workflow_workers=0), "workflow_workers is 0"),
        (lambda: LocalWorkflow(Squares, executor="fibres"), "executor is 'fibres'; it can be \"threads\""),
        (lambda: LocalWorkflow(Squares).conf_activity("square", 3), "'square' must be callable"),  # type: ignore[arg-type]
        (lambda: LocalWorkflow(Squares).conf_activity("square", square, timeout=-1), "timeout"),
        (lambda: LocalWorkflow(Squares).conf_activity("square", square, timeouts=1), "timeouts"),
        (lambda: LocalWorkflow(Squares).conf_activity("square", square, heartbeat=0), "heartbeat of 'square' is 0"),
        (lambda: LocalWorkflow(Squares).conf_activity("square", square, heartbeat="5"), "a positive number"),  # type: ignore[arg-type]
        (lambda: LocalWorkflow(Squares).conf_workflow("sub", Squares), "wrap it"),  # type: ignore[arg-type]
    ],
)
def test_wrong_options_are_told_at_once(make: Callable[[], Any], text: str) -> None:
    with pytest.raises(InvalidOption, match=text):
        make()


def test_executor_classes_of_the_standard_library_stand_for_threads_and_processes() -> None:
    made = LocalWorkflow(Squares, 2, 1, concurrent.futures.ThreadPoolExecutor)
    made.conf_activity("square", square)
    made.conf_activity("add", add)
    assert made.run(2, 10) == 104
    LocalWorkflow(Squares, executor=concurrent.futures.ProcessPoolExecutor)
    RayWorkflow(Squares)


def pid() -> int:
    return os.getpid()


def die() -> None:
    os._exit(3)


def test_activities_run_in_processes_of_their_own_if_asked() -> None:
    made = LocalWorkflow(lambda pid: lambda: [pid(), pid()], activity_workers=2, executor="processes")
    made.conf_activity("pid", pid)
    assert os.getpid() not in made.run()


def test_a_process_that_dies_is_a_failure_and_the_workflow_goes_on() -> None:
    class Surviving:
        def __init__(self, die: Any, pid: Any) -> None:
            self.die, self.pid = die, pid

        def __call__(self) -> Any:
            try:
                return wait(self.die())
            except TaskError as error:
                return [str(error), self.pid()]

    made = LocalWorkflow(Surviving, activity_workers=1, executor="processes")
    made.conf_activity("die", die)
    made.conf_activity("pid", pid)
    told, other = made.run()
    assert "StepLost" in told
    assert "die#1" in told
    assert other != os.getpid()


# -- when code runs ----------------------------------------------------------------------------------------------


class Early:
    """Schedules and waits already while it is made."""

    def __init__(self, square: Any, add: Any) -> None:
        self.add = add
        self.scheduled = square(3)
        self.awaited = square(wait(square(2)))

    def __call__(self, n: int) -> Any:
        return self.add(self.scheduled, self.awaited) + n


def test_tasks_may_be_scheduled_and_awaited_in_the_constructor(workflow: Make) -> None:
    assert workflow(Early, square=square, add=add).run(1) == 26


def test_the_code_of_a_workflow_runs_once() -> None:
    runs: list[int] = []

    def factory(square: Any) -> Callable[[], Any]:
        def run() -> Any:
            runs.append(1)
            total = 0
            for n in range(20):
                total = total + square(n)
            return total

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("square", square)
    assert made.run() == sum(n**2 for n in range(20))
    assert runs == [1]


def test_values_that_change_between_calls_reach_the_calls_that_they_were_given_to() -> None:
    changing = iter(range(1000))

    def factory(square: Any) -> Callable[[], Any]:
        def run() -> Any:
            given = [next(changing) for _ in range(5)]
            return given, [square(n) + 0 for n in given]

        return run

    made = LocalWorkflow(factory)
    made.conf_activity("square", square)
    given, found = made.run()
    assert found == [n**2 for n in given]


def test_two_versions_of_one_workflow_do_not_disturb_each_other(workflow: Make) -> None:
    class Second(Squares):
        def __call__(self, a: int, b: int) -> Any:
            return self.square(self.add(a, b))

    first, second = workflow(Squares, square=square, add=add), workflow(Second, square=square, add=add)
    both = workflow(lambda old, new: lambda a, b: [old(a, b), new(a, b), old(b, b)], old=first, new=second)
    assert both.run(1, 2) == [5, 9, 8]
    found: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda name=name, each=each: found.update({name: each.run(1, 2)}))
        for name, each in (("first", first), ("second", second))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == {"first": 5, "second": 9}


# -- sub-workflows ---------------------------------------------------------------------------------------------------


class Deep:
    def __init__(self, deep: Any, square: Any) -> None:
        self.deep, self.square = deep, square

    def __call__(self, n: int) -> Any:
        return self.square(1) if n == 0 else self.deep(n - 1) + self.square(1)


@pytest.mark.parametrize("slots", [1, 2])
def test_a_workflow_that_calls_itself_thirty_deep_does_not_deadlock(slots: int) -> None:
    made = LocalWorkflow(Deep, activity_workers=1, workflow_workers=slots)
    made.conf_workflow("deep", made)
    made.conf_activity("square", square)
    assert made.run(30) == 31


def test_sub_workflows_get_plain_values_and_give_nested_ones(workflow: Make) -> None:
    class Sub:
        def __init__(self, add: Any) -> None:
            self.add = add

        def __call__(self, pair: Any, *, more: Any) -> Any:
            return {"types": [type(each).__name__ for each in pair], "sum": [self.add(*pair), (more,)]}

    class Outer:
        def __init__(self, sub: Any, add: Any) -> None:
            self.sub, self.add = sub, add

        def __call__(self) -> Any:
            return self.add([self.sub((self.add(1, 2), 3), more=self.add("a", "b"))], [])

    outer = workflow(Outer, sub=workflow(Sub, add=add), add=add)
    assert outer.run() == [{"types": ["int", "int"], "sum": [6, ("ab",)]}]


def test_the_error_of_a_sub_workflow_reaches_the_outer_one_unchanged(workflow: Make) -> None:
    sub = workflow(lambda square: lambda: square("a"), square=square)
    outer = workflow(lambda sub, add: lambda: add(sub(), 1), sub=sub, add=add)
    with pytest.raises(TaskError, match=r"TypeError: .* \(task sub#1/square#1\)") as caught:
        outer.run()
    assert isinstance(caught.value.__cause__, TypeError)


def test_an_error_of_a_sub_workflows_own_code_keeps_its_type(workflow: Make) -> None:
    outer = workflow(lambda sub: lambda: sub(0), sub=workflow(lambda: lambda n: 1 / n))
    with pytest.raises(TaskError, match=r"ZeroDivisionError: .* \(task sub#1\)") as caught:
        outer.run()
    assert isinstance(caught.value.__cause__, ZeroDivisionError)
