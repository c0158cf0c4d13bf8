"""Chains: actions one after the other, each with the result of the one before.

Example:
    >>> from raflow.workflows.chain import Workflow, action
    >>> @action
    ... def extract():
    ...     return {"users": 150}
    >>> @action(retry=3, retry_delay=0.1)
    ... def count(previous_context):
    ...     return previous_context.storage["users"]
    >>> workflow = Workflow()
    >>> _ = workflow.task.add(step=extract).add(step=count)
    >>> run = workflow.start()
    >>> run.status, workflow.result_storage()
    ('Completed', [{'users': 150}, 150])
"""

from __future__ import annotations

from raflow.workflows.chain.actions import Action, action
from raflow.workflows.chain.builder import TaskBuilder
from raflow.workflows.chain.config import Config
from raflow.workflows.chain.importing import load_step
from raflow.workflows.chain.run import CallbackError, WorkflowRun
from raflow.workflows.chain.schema import TaskSchema, WorkflowSchema
from raflow.workflows.chain.status import TypeStatus
from raflow.workflows.chain.task import Task, TaskError
from raflow.workflows.chain.workflow import Workflow
from raflow.workflows.context import Context

__all__ = [
    "Action",
    "CallbackError",
    "Config",
    "Context",
    "Task",
    "TaskBuilder",
    "TaskError",
    "TaskSchema",
    "TypeStatus",
    "Workflow",
    "WorkflowRun",
    "WorkflowSchema",
    "action",
    "load_step",
]
