# mypy: disable-error-code="misc"
"""What the app steps of the tests run."""

from __future__ import annotations

from typing import Any

from raflow.workflows.chain import Workflow, action
from raflow.workflows.inferred import LocalWorkflow
from raflow.workflows.spec import Configuration, FlowSpec, needs, step


def solve(given: Any, **options: str) -> Any:
    return {"solved": given, "options": options}


def crash(given: Any) -> Any:
    raise ValueError(f"cannot solve {given}")


async def later(given: Any) -> Any:
    return [given]


@action
def double(initial_context: Any) -> Any:
    return initial_context.storage * 2


@action
def add(previous_context: Any) -> Any:
    return previous_context.storage + 1


def chain(given: Any) -> Workflow:
    workflow = Workflow()
    workflow.task.add(double, initial_context=given)
    workflow.task.add(add)
    return workflow


workflow = chain(1)


class Inner(FlowSpec):
    @step
    def read(self, data: int) -> int:
        return data + int(self.options.get("add", "0"))

    @needs(predecessors=[read])
    @step
    def double(number: int) -> int:
        return number * 2


inner = Inner("inner", 0, Configuration(engine="local"))


class Ends(FlowSpec):
    @step
    def left(data: int) -> int:
        return data

    @step
    def right(data: int) -> int:
        return -data


ends = Ends("ends", 0, Configuration(engine="local"))


class Wrapped:
    def run(self, given: Any) -> Any:
        return ["ran", given]


def inferred(double: Any) -> Any:
    def run(number: int) -> int:
        total: int = double(number) + double(1)
        return total

    return run


def twice(number: int) -> int:
    return number * 2


local = LocalWorkflow(inferred)
local.conf_activity("double", twice)
wrapped = Wrapped()
number = 3
