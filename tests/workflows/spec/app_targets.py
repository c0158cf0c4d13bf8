# mypy: disable-error-code="misc"
"""What the app steps of the tests run."""

from __future__ import annotations

from typing import Any

from raflow.workflows.spec import Configuration, FlowSpec, needs, step


def solve(given: Any, **options: str) -> Any:
    return {"solved": given, "options": options}


def crash(given: Any) -> Any:
    raise ValueError(f"cannot solve {given}")


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


wrapped = Wrapped()
number = 3
