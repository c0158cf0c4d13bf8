"""Values that are gone with their node are made again, by the steps that had made them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from raflow.engines.threads import ThreadWorkers
from raflow.errors import StepLost
from raflow.metrics import Status
from raflow.options import Resources
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.messages import InputsLost, Over, Post, Task
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import Value


class Forgetful(ThreadWorkers):
    """Real workers on an engine that has lost some values, as Ray loses those of a dead node."""

    def __init__(self) -> None:
        super().__init__(2)
        self.gone: list[Value] = []
        self.admits = True

    def is_lost(self, values: Any) -> bool:
        return self.admits and any(value is gone for value in values for gone in self.gone)

    def call(self, number: int, tasks: list[Task], needs: Resources, post: Post) -> Any:
        if any(value is gone for task in tasks for value in task.inputs for gone in self.gone):
            post(Over(number, InputsLost("an object it needed is lost")))
            return super().call(number, [], needs, lambda _: None)
        return super().call(number, tasks, needs, post)


class Run:
    """A driver whose steps named `make` lose their first values as soon as they have made them."""

    def __init__(self) -> None:
        self.workers = Forgetful()
        self.ended: list[str] = []
        self.made: Counter[int] = Counter()
        self.driver = StepDriver(self.workers, on_end=self._note, ahead=False)

    def make(self, number: int) -> list[int]:
        self.made[number] += 1
        return [number]

    def _note(self, step: Step) -> None:
        self.ended.append(step.id)
        if step.name == "make":
            self.workers.gone += step.values or ()


def total(parts: list[list[int]]) -> int:
    return sum(number for (number,) in parts)


@pytest.fixture
def run() -> Run:
    return Run()


def test_a_lost_value_is_made_again_and_nobody_is_told_twice(run: Run) -> None:
    makers = [run.driver.add(Step("make", run.make, (number,), id=f"make_{number}")) for number in range(3)]
    sums = [run.driver.add(Step("total", total, (makers,), id=f"total_{number}")) for number in range(2)]
    run.driver.run()
    assert [run.driver.result(step) for step in sums] == [3, 3]
    assert run.made == {0: 2, 1: 2, 2: 2}
    assert sorted(run.ended) == ["make_0", "make_1", "make_2", "total_0", "total_1"]
    assert [step.status for step in makers] == [Status.SUCCEEDED] * 3
    assert sorted(step.order for step in [*makers, *sums]) == list(range(5))


def test_a_step_that_cannot_make_its_value_again_fails_those_that_need_it(run: Run) -> None:
    def once(number: int) -> list[int]:
        if run.make(number) and run.made[number] > 1:
            msg = "only once"
            raise ValueError(msg)
        return [number]

    maker = run.driver.add(Step("make", once, (1,)))
    needs_it = run.driver.add(Step("total", total, ([maker],)))
    run.driver.run()
    assert (maker.status, needs_it.status) == (Status.FAILED, Status.CANCELLED)
    assert str(needs_it.error) == "only once"
    assert run.ended == ["make", "make", "total"]


def test_a_value_that_is_lost_for_no_known_reason_is_an_error_that_names_the_step(run: Run) -> None:
    run.workers.admits = False
    maker = run.driver.add(Step("make", run.make, (1,)))
    needs_it = run.driver.add(Step("total", total, ([maker],)))
    run.driver.run()
    assert isinstance(needs_it.error, StepLost)
    assert str(needs_it.error) == "step total: an object it needed is lost"


def test_a_step_whose_arguments_were_let_go_is_not_done_again(run: Run) -> None:
    maker = Step("make", run.make, (1,), is_forgotten=True)
    needs_it = run.driver.add(Step("total", total, ([run.driver.add(maker)],)))
    run.driver.run()
    assert isinstance(needs_it.error, StepLost)
    assert run.made == {1: 1}
