# mypy: disable-error-code="misc,attr-defined"
"""A pipeline as a reader of the page would write it: fan-out, join, repetition, conditions, and a look at the run."""

import json
from typing import Any

from raflow.workflows.spec import (
    STATUS_PENDING,
    STATUS_SUCCEEDED,
    Configuration,
    FlowNode,
    FlowSpec,
    app,
    foreach,
    join,
    log,
    needs,
    optional,
    repeat,
    step,
)


class Routes(FlowSpec):
    @step
    def prepare(input: dict[str, Any]) -> dict[str, Any]:  # noqa: A002
        """Clean the input."""
        log("preparing")
        return {"stops": sorted(input["stops"])}

    @foreach()
    @needs(predecessors=[prepare])
    @step
    def scenarios(data: dict[str, Any]) -> list[dict[str, Any]]:
        return [{"stops": data["stops"], "vehicles": n} for n in (1, 2, 3)]

    @app(app_id="routing-solver", options={"duration": 3}, bypass_result={"cost": 12})
    @needs(predecessors=[scenarios])
    @step
    def solve() -> None:
        pass

    @repeat(repetitions=2)
    @needs(predecessors=[prepare])
    @step
    def estimate(data: dict[str, Any]) -> int:
        return len(data["stops"])

    @optional(condition=lambda step: False)
    @needs(predecessors=[prepare])
    @step
    def never(data: dict[str, Any]) -> str:
        return "never"

    @join()
    @needs(predecessors=[solve, scenarios])
    @step
    def best(rows: list[list[dict[str, Any]]]) -> dict[str, Any]:
        return min((solution for solution, _ in rows), key=lambda solution: solution["cost"])

    @needs(predecessors=[best, estimate, never])
    @step
    def report(best: dict[str, Any], estimates: list[int], never: None) -> dict[str, Any]:
        return {"cost": best["cost"], "estimates": estimates, "never": never}


flow = Routes("routes", {"stops": [3, 1, 2]}, conf=Configuration(thread_count=4, max_step_inputs=50))
graph = flow.graph
assert [each.definition.get_id() for each in graph.start_steps] == ["prepare"]
assert graph.steps[0].docstring == "Clean the input."
assert graph.get_step(Routes.solve.step).predecessors == [graph.get_step(Routes.scenarios.step)]
assert FlowNode(graph.steps[0], 0).status == STATUS_PENDING
assert flow.get_result(flow.report) is None

flow.runner.run()  # what flow.run() does
for node in graph.get_step(Routes.solve.step).nodes:
    assert node.done
    assert node.status == STATUS_SUCCEEDED
    assert node.run_id is not None
    assert [before.parent.definition.get_id() for before in node.predecessors] == ["scenarios"]
print(json.dumps([flow.get_result(flow.report), flow.get_result(flow.solve)]))
