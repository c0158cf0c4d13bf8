"""Python functions on Ray: data that moves through processors, and steps that make a workflow.

The public names load on first use, so that `import raflow` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from raflow.dependencies.credentials import FlowCredentials as FlowCredentials
    from raflow.dependencies.declared import dependency as dependency
    from raflow.dependencies.scopes import Scope as Scope
    from raflow.errors import FlowFailed as FlowFailed
    from raflow.errors import RaflowError as RaflowError
    from raflow.errors import RunFailed as RunFailed
    from raflow.errors import TaskError as TaskError
    from raflow.errors import TaskTimedout as TaskTimedout
    from raflow.flow import Flow as Flow
    from raflow.frames import from_arrow as from_arrow
    from raflow.frames import from_pandas as from_pandas
    from raflow.frames import from_ray_dataset as from_ray_dataset
    from raflow.http.collector import collector as collector
    from raflow.http.service import Service as Service
    from raflow.http.service import endpoint as endpoint
    from raflow.options import FlowOptions as FlowOptions
    from raflow.options import Retry as Retry
    from raflow.processors import consumer as consumer
    from raflow.runtime.run import Run as Run
    from raflow.sinks import Sink as Sink
    from raflow.sources import Source as Source
    from raflow.stream import Stream as Stream
    from raflow.workflows.chain import Config as Config
    from raflow.workflows.chain import Task as Task
    from raflow.workflows.chain import Workflow as Workflow
    from raflow.workflows.chain import WorkflowRun as WorkflowRun
    from raflow.workflows.chain.actions import action as action
    from raflow.workflows.context import Context as Context
    from raflow.workflows.inferred import LocalWorkflow as LocalWorkflow
    from raflow.workflows.inferred import RayWorkflow as RayWorkflow
    from raflow.workflows.inferred import finish_order as finish_order
    from raflow.workflows.inferred import first as first
    from raflow.workflows.inferred import parallel_reduce as parallel_reduce
    from raflow.workflows.inferred import restart as restart
    from raflow.workflows.inferred import wait as wait
    from raflow.workflows.spec import AppOption as AppOption
    from raflow.workflows.spec import AppRunConfig as AppRunConfig
    from raflow.workflows.spec import Configuration as Configuration
    from raflow.workflows.spec import FlowGraph as FlowGraph
    from raflow.workflows.spec import FlowSpec as FlowSpec
    from raflow.workflows.spec import app as app
    from raflow.workflows.spec import foreach as foreach
    from raflow.workflows.spec import join as join
    from raflow.workflows.spec import log as log
    from raflow.workflows.spec import needs as needs
    from raflow.workflows.spec import optional as optional
    from raflow.workflows.spec import repeat as repeat
    from raflow.workflows.spec import step as step

_HOME = {
    # what a user declares
    "Flow": "raflow.flow",
    "consumer": "raflow.processors",
    "collector": "raflow.http.collector",
    "Service": "raflow.http.service",
    "endpoint": "raflow.http.service",
    "dependency": "raflow.dependencies.declared",
    "Scope": "raflow.dependencies.scopes",
    "FlowCredentials": "raflow.dependencies.credentials",
    "Stream": "raflow.stream",
    "from_arrow": "raflow.frames",
    "from_pandas": "raflow.frames",
    "from_ray_dataset": "raflow.frames",
    # chains of actions
    "Workflow": "raflow.workflows.chain",
    "action": "raflow.workflows.chain.actions",
    "Config": "raflow.workflows.chain",
    "Task": "raflow.workflows.chain",
    "WorkflowRun": "raflow.workflows.chain",
    "Context": "raflow.workflows.context",
    # workflows as classes
    "FlowSpec": "raflow.workflows.spec",
    "step": "raflow.workflows.spec",
    "needs": "raflow.workflows.spec",
    "foreach": "raflow.workflows.spec",
    "join": "raflow.workflows.spec",
    "repeat": "raflow.workflows.spec",
    "optional": "raflow.workflows.spec",
    "app": "raflow.workflows.spec",
    "Configuration": "raflow.workflows.spec",
    "FlowGraph": "raflow.workflows.spec",
    "AppOption": "raflow.workflows.spec",
    "AppRunConfig": "raflow.workflows.spec",
    "log": "raflow.workflows.spec",
    # inferred workflows
    "LocalWorkflow": "raflow.workflows.inferred",
    "RayWorkflow": "raflow.workflows.inferred",
    "wait": "raflow.workflows.inferred",
    "first": "raflow.workflows.inferred",
    "finish_order": "raflow.workflows.inferred",
    "parallel_reduce": "raflow.workflows.inferred",
    "restart": "raflow.workflows.inferred",
    # options
    "FlowOptions": "raflow.options",
    "Retry": "raflow.options",
    # contracts for connector authors
    "Source": "raflow.sources",
    "Sink": "raflow.sinks",
    # runs and their errors
    "Run": "raflow.runtime.run",
    "RaflowError": "raflow.errors",
    "RunFailed": "raflow.errors",
    "FlowFailed": "raflow.errors",
    "TaskError": "raflow.errors",
    "TaskTimedout": "raflow.errors",
}

__all__ = [  # noqa: RUF022 - grouped by use
    "Flow", "consumer", "collector", "Service", "endpoint", "dependency", "Scope", "FlowCredentials",
    "Stream", "from_arrow", "from_pandas", "from_ray_dataset",
    "Workflow", "action", "Config", "Task", "WorkflowRun", "Context",
    "FlowSpec", "step", "needs", "foreach", "join", "repeat", "optional", "app", "Configuration", "FlowGraph",
    "AppOption", "AppRunConfig", "log",
    "LocalWorkflow", "RayWorkflow", "wait", "first", "finish_order", "parallel_reduce", "restart",
    "FlowOptions", "Retry",
    "Source", "Sink",
    "Run", "RaflowError", "RunFailed", "FlowFailed", "TaskError", "TaskTimedout",
    "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'raflow' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
