# mypy: disable-error-code="attr-defined"
"""The first example of the page about class workflows, mended (see test_seed_003.py)."""

from typing import Any

from raflow.workflows.spec import FlowSpec, needs, step


class MyFlow(FlowSpec):
    @step
    def step1(self, input_data: dict[str, int]) -> dict[str, Any]:
        # Process input data
        return {"processed": input_data}

    @needs(predecessors=[step1])
    @step
    def step2(self, input_data: dict[str, Any]) -> dict[str, int]:
        # Further processing
        return {"result": input_data["processed"]["value"] * 2}


# Create and run the flow
flow = MyFlow("my-flow", {"value": 5})
flow.run()
print(flow.get_result(flow.step2))
