"""The picture of a run's steps: before it, while it goes on, and after it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from raflow.errors import NotSerializable
from raflow.graph import Edge, Graph, Node, depths
from raflow.metrics import Status
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.worker import now
from raflow.units import plural, shortened

FOLD = 12
"""Steps of one name side by side that are drawn each for itself; more are drawn as one node."""

ERROR_CHARS = 300
"""The longest error in a picture; longer ones are cut in the middle."""

_LOOKS = (Status.FAILED, Status.TIMED_OUT, Status.RETRYING, Status.RUNNING, Status.CANCELLED)
"""Many steps look like the first of these that one of them has."""

_TOLD = (Status.SUCCEEDED, *_LOOKS, Status.SKIPPED, Status.PENDING)
"""The order in which their numbers are told."""


_WITH_ERROR = (Status.FAILED, Status.TIMED_OUT, Status.RETRYING)
"""A cancelled step carries the error of another one, which is shown there."""


def picture(steps: Iterable[Step], name: str = "steps") -> Graph:
    """Return steps as a graph with what has become of them so far.

    Arrows lead from the steps in a step's arguments, and from those that it is `after`. More than `FOLD`
    steps of one name at one distance from the start are one node, e.g. `double × 5000` with `4998
    succeeded, 2 failed` and the error that came first. May be called from any thread while the steps run.

    Args:
        steps: Each with an id of its own. Steps that they need and that are not among them are left out.
        name: The picture's title.

    Raises:
        FlowError: Steps need each other in a circle, which is named.
    """
    steps = list(steps)
    edges = _edges(steps)
    depth = depths([step.id for step in steps], edges)
    rows: dict[tuple[str, int], list[Step]] = defaultdict(list)
    for step in steps:
        rows[step.name, depth[step.id]].append(step)
    at = now()
    nodes: list[Node] = []
    owner: dict[str, str] = {}
    times = Counter(step.name for step in steps)
    for row in rows.values():
        many = len(row) > FOLD
        nodes += [_many(row, at)] if many else [_one(step, at, is_only=times[step.name] == 1) for step in row]
        owner |= {step.id: row[0].id if many else step.id for step in row}
    arrows = dict.fromkeys((owner[start], owner[end]) for start, end in edges)
    return Graph(name, tuple(nodes), tuple(Edge(*arrow) for arrow in arrows))


def together(steps: Sequence[Step]) -> Node:
    """Return steps of one name as one node with what has become of them so far."""
    return _one(steps[0], now(), is_only=True) if len(steps) == 1 else _many(steps, now())


def error_line(text: str) -> str:
    """Return what a picture has of an error: its text in one line, cut if it is long."""
    return shortened(" ".join(text.split()), ERROR_CHARS)


def _edges(steps: Sequence[Step]) -> list[tuple[str, str]]:
    known = set(steps)
    return [(need.id, step.id) for step in steps for need in dict.fromkeys(_needs(step)) if need in known]


def _needs(step: Step) -> list[Step]:
    try:
        return list(step.needs())
    except NotSerializable:
        return list(step.after)  # the driver says what is wrong with its arguments; here it is only drawn


def _one(step: Step, at: datetime, *, is_only: bool) -> Node:
    return Node(
        step.id,
        step.name if is_only else step.id,
        "step",
        status=step.status,
        duration_s=_duration([step], at),
        attempts=step.attempts,
        error=_error(step) if step.status in _WITH_ERROR else "",
    )


def _many(steps: Sequence[Step], at: datetime) -> Node:
    counts = Counter(step.status for step in steps)
    failed = sorted((step for step in steps if step.status in _WITH_ERROR), key=_when)
    said = [f"{counts[status]} {status.value.replace('_', ' ')}" for status in _TOLD if counts[status]]
    again = sum(max(0, step.attempts - 1) for step in steps)
    said += [plural(again, "further attempt")] if again else []
    return Node(
        steps[0].id,
        f"{steps[0].name} × {len(steps)}",
        "step",
        status=_status(counts),
        summary=", ".join(said),
        duration_s=_duration(steps, at),
        error=next((f"{step.id}: {_error(step)}" for step in failed), ""),
    )


def _status(counts: Counter[Status]) -> Status:
    for status in _LOOKS:
        if counts[status]:
            return status
    if counts[Status.PENDING]:
        return Status.PENDING if len(+counts) == 1 else Status.RUNNING
    return Status.SUCCEEDED if counts[Status.SUCCEEDED] else Status.SKIPPED


def _duration(steps: Sequence[Step], at: datetime) -> float | None:
    """Return the seconds from the first start to the last end, or until now; None if that is not known."""
    started = [step.started_at for step in steps if step.started_at]
    is_over = all(step.status.is_final for step in steps)
    ended = [step.finished_at for step in steps if step.finished_at] if is_over else [at]
    if not started or not ended:
        return None
    return max(0.0, (max(ended) - min(started)).total_seconds())  # the clocks of two nodes may differ


def _when(step: Step) -> float:
    """Return the place of a step in the order of ends; what is still tried has none yet."""
    return step.order if step.order >= 0 else math.inf


def _error(step: Step) -> str:
    """Return type and text of what went wrong last."""
    if not step.failures:
        return ""
    error = step.failures[-1].error
    try:
        text = str(error).strip()
    except Exception:  # the text comes from the user's code
        text = ""
    kind = type(error).__name__
    return error_line(f"{kind}: {text}" if text else kind)
