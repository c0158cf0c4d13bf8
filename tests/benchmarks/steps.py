"""Measures steps beside their peers, in one process, in turn: python -m tests.benchmarks.steps.

Prints a JSON list of rows for the table of `run.py`. Figures are medians; each contender runs once before.
"""

from __future__ import annotations

import json
import logging
import statistics
import time
from collections.abc import Callable

import dotflow
import ray

import raflow
from raflow.workflows.inferred import LocalWorkflow
from raflow.workflows.spec import Configuration, FlowSpec, foreach, join, needs, step

ROUNDS = 5
TASKS, ITEMS, LINKS = 1_000, 5_000, 1_000

Row = tuple[str, str, str, str, str]


def main() -> None:
    logging.disable(logging.CRITICAL)
    rows = [_in_process(), _chain_of_ten(), _fan_out_local(), _linear(), _parallel("local")]
    ray.init(address="local", include_dashboard=False, logging_level=logging.ERROR)
    rows += [_fan_out_ray(), _chain_ray(), _parallel("ray")]
    print(json.dumps(rows))


def _timed(*contenders: Callable[[], None]) -> list[float]:
    """Return the median seconds of each contender; they run in turn."""
    seconds: list[list[float]] = [[] for _ in contenders]
    for turn in range(ROUNDS + 1):
        for run, found in zip(contenders, seconds, strict=True):
            began = time.perf_counter()
            run()
            if turn:
                found.append(time.perf_counter() - began)
    return [statistics.median(found) for found in seconds]


def _row(work: str, ours: float, peer: str, theirs: float, most: float) -> Row:
    share = ours / theirs
    verdict = "reached" if share <= most else "MISSED"
    target = f"≤ {most:g} × its time: {verdict}"
    return work, f"{ours:.3f} s", f"{peer} {theirs:.3f} s", f"{share:.2f} × its time", target


def _alone(work: str, ours: float, most: float) -> Row:
    return work, f"{ours:.3f} s", "", "", f"< {most:g} s: {'reached' if ours < most else 'MISSED'}"


# -- in this process ----------------------------------------------------------------------------------


@raflow.action
def nothing() -> None:
    """Do nothing."""


@dotflow.action
def nothing_there() -> None:
    """Do nothing."""


class _Silent(dotflow.abc.log.Log):  # type: ignore[misc]
    """A log that is off."""

    def info(self, **_: object) -> None: ...

    def error(self, **_: object) -> None: ...

    def warning(self, **_: object) -> None: ...

    def debug(self, **_: object) -> None: ...


def _in_process() -> Row:
    def ours() -> None:
        workflow = raflow.Workflow()
        for _ in range(TASKS):
            workflow.task.add(step=nothing)
        assert all(task.status == "Completed" for task in workflow.start().tasks)

    def theirs() -> None:
        workflow = dotflow.DotFlow(config=dotflow.Config(log=_Silent()))
        for _ in range(TASKS):
            workflow.task.add(step=nothing_there)
        workflow.start()
        assert all(task.status == "Completed" for task in workflow.result_task())

    mine, peers = _timed(ours, theirs)
    return _row(f"{TASKS:,} sequential steps that do nothing, in process", mine, "Dotflow", peers, 1.5)


def _ten() -> type[FlowSpec]:
    members: dict[str, object] = {}
    before = None
    for number in range(10):

        def body(value: int) -> int:
            return value

        body.__name__ = f"step_{number}"
        current = step(body)
        members[body.__name__] = current if before is None else needs(predecessors=[before])(current)
        before = members[body.__name__]
    return type("Ten", (FlowSpec,), members)


def _chain_of_ten() -> Row:
    kind = _ten()
    (seconds,) = _timed(lambda: kind("ten", 1, Configuration(engine="local")).run())  # type: ignore[arg-type]
    return _alone("class workflow, 10 steps in a row, local engine", seconds, 0.02)


class Fan(FlowSpec):
    @foreach()
    @step
    def numbers(count: int) -> list[int]:
        return list(range(count))

    @needs(predecessors=[numbers])
    @step
    def item(number: int) -> int:
        return number

    @needs(predecessors=[item])
    @join()
    @step
    def total(numbers: list[list[int]]) -> int:
        return sum(number for (number,) in numbers)


def _fan(engine: str) -> None:
    flow = Fan("fan", ITEMS, Configuration(engine=engine, max_step_inputs=0))  # type: ignore[arg-type]
    flow.run()
    assert flow.get_result(flow.total) == sum(range(ITEMS))


def _fan_out_local() -> Row:
    (seconds,) = _timed(lambda: _fan("local"))
    return _alone(f"fan-out of {ITEMS:,} items that do nothing, local engine", seconds, 1)


class Line:
    def __init__(self, one_more: Callable[[int], int]) -> None:
        self.one_more = one_more

    def __call__(self, steps: int) -> int:
        value = 0
        for _ in range(steps):
            value = self.one_more(value)
        return value


def _one_more(value: int) -> int:
    return value + 1


def _linear() -> Row:
    workflow = LocalWorkflow(Line)
    workflow.conf_activity("one_more", _one_more)

    def line(steps: int) -> None:
        assert workflow.run(steps) == steps

    half, full = _timed(lambda: line(400), lambda: line(800))
    return _row("inferred workflow, 800 steps in a row", full, "400 of them", half, 2.2)


@raflow.action
def count() -> int:
    """Keep one CPU busy for about two seconds."""
    total = 0
    for number in range(40_000_000):
        total += number
    return total


def _parallel(engine: str) -> Row:
    def run(tasks: int) -> None:
        workflow = raflow.Workflow()
        for _ in range(tasks):
            workflow.task.add(step=count)
        assert workflow.start(mode="parallel", engine=engine).status == "Completed"

    one, two = _timed(lambda: run(1), lambda: run(2))
    return _row(f'two CPU-bound tasks, mode="parallel", {engine}', two, "one of them", one, 1.4)


# -- on Ray -------------------------------------------------------------------------------------------


def _fan_out_ray() -> Row:
    bare = ray.remote(_one_more)

    def theirs() -> None:
        assert len(ray.get([bare.remote(number) for number in range(ITEMS)])) == ITEMS

    mine, peers = _timed(lambda: _fan("ray"), theirs)
    return _row(f"fan-out of {ITEMS:,} items that do nothing, Ray", mine, f"{ITEMS:,} bare Ray tasks", peers, 0.3)


@raflow.action
def next_one(previous_context: raflow.Context) -> int:
    return (previous_context.storage or 0) + 1


def _chain_ray() -> Row:
    bare = ray.remote(_one_more)

    def ours() -> None:
        workflow = raflow.Workflow()
        for _ in range(LINKS):
            workflow.task.add(step=next_one)
        run = workflow.start(engine="ray")
        assert run.tasks[-1].current_context.storage == LINKS

    def theirs() -> None:
        reference = bare.remote(0)
        for _ in range(LINKS - 1):
            reference = bare.remote(reference)
        assert ray.get(reference) == LINKS

    mine, peers = _timed(ours, theirs)
    return _row(f"{LINKS:,} steps in a row, Ray", mine, "bare Ray tasks that pass references", peers, 1.3)


if __name__ == "__main__":
    main()
