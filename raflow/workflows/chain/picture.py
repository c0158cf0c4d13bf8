"""The picture of a chain's tasks: before a run what will happen, after it what has become of them."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from raflow.graph import Edge, Graph, Group, Node
from raflow.metrics import Status
from raflow.runtime.steps.picture import error_line
from raflow.workflows.chain.task import Task


def picture(name: str, tasks: Sequence[Task]) -> Graph:
    """Return tasks as a graph: an arrow from each to the next one of its group."""
    groups = {task.group_name: [each for each in tasks if each.group_name == task.group_name] for task in tasks}
    framed = groups if len(groups) > 1 else {}
    edges = [Edge(a.task_id, b.task_id) for group in groups.values() for a, b in pairwise(group)]
    nodes = [_node(task, task.group_name if framed else None) for task in tasks]
    return Graph(name, tuple(nodes), tuple(edges), tuple(Group(group, group) for group in framed))


def _node(task: Task, group: str | None) -> Node:
    is_bad = task.state in (Status.FAILED, Status.TIMED_OUT) and bool(task.errors)
    error = f"{task.errors[-1].exception}: {task.errors[-1].message}" if is_bad else ""
    return Node(
        task.task_id,
        task.task_id,
        "step",
        group=group,
        status=task.state,
        duration_s=task.duration,
        attempts=task.retry_count + 1 if task.started_at else 0,
        error=error_line(error),
    )
