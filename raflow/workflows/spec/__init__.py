"""Workflows as classes: methods are steps, decorators say what they need and how often they run."""

from __future__ import annotations

from raflow.workflows.spec.apps import AppOption, AppResult, AppRunConfig
from raflow.workflows.spec.decorators import Step, app, foreach, join, needs, optional, repeat, step
from raflow.workflows.spec.flowgraph import FlowGraph, FlowStep, StepVisitor
from raflow.workflows.spec.flowspec import Configuration, FlowSpec
from raflow.workflows.spec.logs import log
from raflow.workflows.spec.nodes import (
    STATUS_CANCELLED,
    STATUS_FAILED,
    STATUS_PENDING,
    STATUS_RUNNING,
    STATUS_SKIPPED,
    STATUS_SUCCEEDED,
    STATUS_TIMED_OUT,
    FlowNode,
)
from raflow.workflows.spec.polling import PollingOptions
from raflow.workflows.spec.ray_jobs import RayJobs
from raflow.workflows.spec.runner import Runner
from raflow.workflows.uplink import UplinkConfig

__all__ = [  # noqa: RUF022 - grouped by use
    "FlowSpec", "Configuration", "step", "needs", "foreach", "join", "repeat", "optional", "app", "log",
    "AppOption", "AppRunConfig", "AppResult", "PollingOptions", "RayJobs", "UplinkConfig",
    "FlowGraph", "FlowStep", "FlowNode", "Runner", "Step", "StepVisitor",
    "STATUS_PENDING", "STATUS_RUNNING", "STATUS_SUCCEEDED", "STATUS_FAILED",
    "STATUS_SKIPPED", "STATUS_CANCELLED", "STATUS_TIMED_OUT",
]  # fmt: skip
