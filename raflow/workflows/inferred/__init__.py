"""Workflows as plain single-threaded Python; what may run at once is inferred from the results' use.

A workflow is a class that gets what it calls by the names of its constructor's parameters, or a function
that returns one; a call returns at once with a lazy result, see `raflow.workflows.inferred.lazy`. The same
class runs with plain functions and without raflow.

Example:
    >>> import raflow.workflows.inferred as inferred
    >>> class Squares:
    ...     def __init__(self, square, add):
    ...         self.square, self.add = square, add
    ...
    ...     def __call__(self, a, b):
    ...         return self.add(self.square(a), self.square(b))
    >>> workflow = inferred.LocalWorkflow(Squares)
    >>> workflow.conf_activity("square", lambda n: n**2)
    >>> workflow.conf_activity("add", lambda a, b: a + b)
    >>> workflow.run(2, 10)
    104
    >>> Squares(lambda n: n**2, lambda a, b: a + b)(2, 10)
    104
"""

from raflow.errors import TaskError as TaskError
from raflow.errors import TaskTimedout as TaskTimedout
from raflow.runtime.steps.heartbeat import heartbeat as heartbeat
from raflow.workflows.inferred.lazy import wait as wait
from raflow.workflows.inferred.operations import finish_order as finish_order
from raflow.workflows.inferred.operations import first as first
from raflow.workflows.inferred.operations import parallel_reduce as parallel_reduce
from raflow.workflows.inferred.operations import restart as restart
from raflow.workflows.inferred.workflow import LocalWorkflow as LocalWorkflow
from raflow.workflows.inferred.workflow import RayWorkflow as RayWorkflow

__all__ = [
    "LocalWorkflow",
    "RayWorkflow",
    "TaskError",
    "TaskTimedout",
    "finish_order",
    "first",
    "heartbeat",
    "parallel_reduce",
    "restart",
    "wait",
]
