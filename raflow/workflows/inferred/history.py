"""What a durable run has called and what came of it, so that another process can go on from there.

Theory. A workflow's code runs again from its start, and each call whose end was recorded returns that at
once, so the code takes the same path. Calls are told by their place: the workflow, its turn, and the number
of the call therein. A record holds the name and a digest of the arguments, results among them as the ids of
their calls; a call that differs is refused. The order of completion is recorded too, and nothing is told to
the workflow's code before it is recorded. Failures are recorded once the workflow has gone on in spite of
them; one that has ended the run is tried again.
"""

from __future__ import annotations

import hashlib
from typing import Any, NamedTuple, Protocol

from raflow.errors import ResumeError, TaskError, TaskTimedout
from raflow.metrics import Status
from raflow.runtime.failure import Failure
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import pack, replace

_BEFORE_ALL = 1 << 60


class Storage(Protocol):
    """Where records are kept; `raflow.checkpoints` has such."""

    def read(self, key: str) -> Any:
        """Return what was written, or something else than a dictionary if nothing was."""

    def write(self, key: str, value: Any) -> None:
        """Keep a value of plain and user types, as a whole or not at all."""


class Place(NamedTuple):
    """Where a call stands in its workflow's code."""

    parent: str
    """Id of the sub-workflow's call; empty for the root."""
    turn: int
    number: int


class History:
    """The records of one workflow id.

    Args:
        storage: Where they are.
        workflow_id: Whose they are.
        resume: Whether to go on with what is there; else it is left aside.
        arguments: Of the run.

    Raises:
        ResumeError: The run to go on with had other arguments.
    """

    def __init__(self, storage: Storage, workflow_id: str, *, resume: bool, arguments: Any) -> None:
        self._storage = storage
        self._id = workflow_id
        digest = _digest(arguments)
        head = storage.read(f"{workflow_id}/run")
        known = isinstance(head, dict)
        if resume and known and head["arguments"] != digest:
            msg = f"workflow {workflow_id!r} was started with other arguments; give these, or run it without _resume"
            raise ResumeError(msg)
        going_on = resume and known
        self._number = head["number"] if going_on else head["number"] + 1 if known else 1
        self.epoch: int = head["epoch"] + 1 if going_on else 1
        """How many processes have worked at this run, this one included."""
        head = {"number": self._number, "epoch": self.epoch, "arguments": digest}
        storage.write(f"{workflow_id}/run", head)

    def recall(self, step: Step, place: Place, digest: str) -> tuple[int, int] | None:
        """Give a step that was not added to a driver the end that is recorded for it.

        Returns:
            Its place in the order of completion; None if nothing is recorded.

        Raises:
            ResumeError: Another call is recorded there.
        """
        record = self._storage.read(self._key(place))
        if not isinstance(record, dict):
            return None
        self._check(record, step, digest)
        epoch, number = record["order"]
        step.order = number - _BEFORE_ALL
        if "error" in record:
            kind = TaskTimedout if record["timed_out"] else TaskError
            step.failures.append(Failure(kind(record["error"]), "", step.id))
            step.status = Status.TIMED_OUT if record["timed_out"] else Status.FAILED
        else:
            step.values = (pack(record["value"], f"the recorded result of {step.id}"),)
            step.status = Status.SUCCEEDED
        return epoch, number

    def keep(self, step: Step, place: Place, digest: str, order: tuple[int, int], value: Any) -> None:
        """Record a result."""
        self._write(step, place, digest, order, {"value": value})

    def keep_error(self, step: Step, place: Place, digest: str, order: tuple[int, int], error: TaskError) -> None:
        """Record a failure."""
        self._write(step, place, digest, order, {"error": str(error), "timed_out": isinstance(error, TaskTimedout)})

    def _write(self, step: Step, place: Place, digest: str, order: tuple[int, int], end: dict[str, Any]) -> None:
        record = {"call": step.id, "arguments": digest, "order": list(order), **end}
        self._storage.write(self._key(place), record)

    def _check(self, record: dict[str, Any], step: Step, digest: str) -> None:
        if record["call"] != step.id:
            what = f"the recorded run called {record['call']} where the workflow now calls {step.id}"
        elif record["arguments"] != digest:
            what = f"the arguments of the call {step.id} differ from the recorded ones"
        else:
            return
        msg = f"workflow {self._id!r} cannot be resumed: {what}; undo the change, or run it without _resume"
        raise ResumeError(msg)

    def _key(self, place: Place) -> str:
        return "/".join([self._id, "calls", str(self._number), place.parent, f"{place.turn}.{place.number}"])


def arguments_digest(step: Step) -> str:
    """Return the digest of a call's arguments, with the ids of calls in the place of their results."""
    return _digest(replace((step.args, step.kwargs), lambda each: f"<{each.id}>" if isinstance(each, Step) else each))


def _digest(value: Any) -> str:
    packed = pack(value, "an argument")
    digest = hashlib.sha256(packed.data)
    for buffer in packed.buffers:
        digest.update(buffer)
    return digest.hexdigest()
