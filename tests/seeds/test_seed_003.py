# mypy: disable-error-code="misc"
"""Programs written from the page about class workflows (003) run; only their import lines differ from the page's.

The page's own example cannot work as printed: `step2` has no `@needs`, so that it gets the flow's input
and not the result of `step1`; and it then multiplies a dict by 2. Its program here is the mended form."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import ray

from raflow.errors import FlowFailed
from raflow.workflows.spec import Configuration, FlowSpec, needs, step

SEEDS = Path(__file__).parent


def program(name: str, engine: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "RAFLOW_ENGINE": engine}
    if engine == "ray":
        env["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address
    done = subprocess.run([sys.executable, SEEDS / name], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done


def test_the_first_example_runs_in_its_mended_form(engine: str) -> None:
    assert program("spec_first.py", engine).stdout == "{'result': 10}\n"


def test_a_pipeline_with_everything_on_the_page_runs(engine: str) -> None:
    done = program("spec_pipeline.py", engine)
    assert json.loads(done.stdout) == [{"cost": 12, "estimates": [3, 3], "never": None}, [{"cost": 12}] * 3]
    assert "[prepare_0] preparing" in done.stderr


def test_the_first_example_as_printed_says_what_is_wrong() -> None:
    class Printed(FlowSpec):
        @step
        def step1(self, input_data: Any) -> Any:
            return {"processed": input_data}

        @step
        def step2(self, input_data: Any) -> Any:
            return {"result": input_data["processed"] * 2}

    with pytest.raises(FlowFailed, match="Flow failed: Step step2_0 failed: KeyError: 'processed'"):
        Printed("my-flow", {"value": 5}, Configuration(engine="local")).run()

    class Needs(FlowSpec):
        step1 = Printed.step1

        @needs(predecessors=[step1])
        @step
        def step2(self, input_data: Any) -> Any:
            return {"result": input_data["processed"] * 2}

    with pytest.raises(FlowFailed, match="Step step2_0 failed: TypeError: unsupported operand"):
        Needs("my-flow", {"value": 5}, Configuration(engine="local")).run()
