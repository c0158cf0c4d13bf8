"""Each engine's workflow in turn."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from raflow.workflows.inferred import LocalWorkflow, RayWorkflow
from raflow.workflows.inferred.workflow import InferredWorkflow


@pytest.fixture
def workflow(engine: str) -> Callable[..., InferredWorkflow]:
    """Make a workflow for the engine, with the functions and workflows that it depends on."""

    def make(w: Any, **dependencies: Any) -> InferredWorkflow:
        made: InferredWorkflow = LocalWorkflow(w) if engine == "local" else RayWorkflow(w)
        for name, each in dependencies.items():
            if isinstance(each, InferredWorkflow):
                made.conf_workflow(name, each)
            else:
                made.conf_activity(name, each)
        return made

    return make
