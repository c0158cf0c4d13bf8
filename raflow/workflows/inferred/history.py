"""What a durable run has called and what came of it, so that another process can go on from there.

Theory. A workflow's code runs again from its start, and each call whose end was recorded returns that at
once, so the code takes the same path. Calls are told by their place: the workflow, its turn, and the number
of the call therein. A record holds the name and a digest of the arguments, results among them as the ids of
their calls; a call that differs is refused. The order of completion is recorded too, and nothing is told to
the workflow's code before it is recorded. Failures are recorded once the workflow has gone on in spite of
them; one that has ended the run is tried again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from raflow.checkpoints.digest import digest
from raflow.checkpoints.epochs import Epoch
from raflow.checkpoints.keys import join
from raflow.checkpoints.memory import MemoryCheckpoints
from raflow.checkpoints.store import Checkpoints
from raflow.errors import ResumeError, TaskError, TaskTimedout
from raflow.metrics import Status
from raflow.runtime.failure import Failure
from raflow.runtime.steps.step import Step
from raflow.runtime.steps.values import pack, replace

if TYPE_CHECKING:
    from raflow.workflows.inferred.calls import Call

_BEFORE_ALL = 1 << 60


class Storage(Protocol):
    """Where records are kept."""

    def read(self, key: str) -> Any:
        """Return what was written, or something else than a dictionary if nothing was."""

    def write(self, key: str, value: Any) -> None:
        """Keep a value, as a whole or not at all."""


class Place(NamedTuple):
    """Where a call stands in its workflow's code."""

    path: str
    """What the ids of the workflow's calls begin with."""
    turn: int
    number: int


class ResultOf(NamedTuple):
    """Stands in the digest of arguments for the result of a call."""

    call: str


class History:
    """The records of one workflow id.

    Args:
        storage: Where they are: a folder as path or fsspec URL, checkpoints, a storage of `raflow.providers`
            that is over such, or an object with `read` and `write`.
        workflow_id: Whose they are.
        resume: Whether to go on with what is there; else it is left aside.
        arguments: Of the run.

    Raises:
        ResumeError: The run to go on with had other arguments, or its records were in another process's memory.
        NotSerializable: The arguments cannot be kept.
    """

    def __init__(self, storage: Any, workflow_id: str, *, resume: bool, arguments: Any) -> None:
        self._storage = _opened(storage, workflow_id)
        self._id = workflow_id
        given = digest(arguments, "the arguments of the run")
        head = self._storage.read(self._key("run"))
        found = isinstance(head, dict)
        if resume:
            self._check_start(storage, head if found else None, given)
        goes_on = resume and found
        self._number = head["number"] + (not goes_on) if found else 1
        self.epoch: int = head["epoch"] + 1 if goes_on else 1
        """How many processes have worked at this run, this one included."""
        self._storage.write(self._key("run"), {"number": self._number, "epoch": self.epoch, "arguments": given})

    def recall(self, call: Call) -> tuple[int, int] | None:
        """Give a call, which no driver knows yet, the end that is recorded for it.

        Returns:
            Its place in the order of completion; None if nothing is recorded.

        Raises:
            ResumeError: Another call is recorded there.
        """
        record = self._storage.read(self._place(call))
        if not isinstance(record, dict):
            return None
        self._check(record, call)
        epoch, number = record["order"]
        _end(call.step, record, number - _BEFORE_ALL)
        return epoch, number

    def keep(self, call: Call, order: tuple[int, int], value: Any) -> None:
        """Record a result."""
        self._write(call, order, {"value": value})

    def keep_error(self, call: Call, order: tuple[int, int], error: TaskError) -> None:
        """Record a failure."""
        self._write(call, order, {"error": str(error), "timed_out": isinstance(error, TaskTimedout)})

    def _write(self, call: Call, order: tuple[int, int], end: dict[str, Any]) -> None:
        record = {"call": call.step.id, "arguments": call.digest, "order": list(order), **end}
        self._storage.write(self._place(call), record)

    def _check_start(self, storage: Any, head: dict[str, Any] | None, given: str) -> None:
        kept = getattr(storage, "checkpoints", storage)
        if head is None and isinstance(kept, MemoryCheckpoints):
            msg = f"workflow {self._id!r} cannot be resumed: its storage is memory, in which this process has no run"
            raise ResumeError(msg)
        if head is not None and head["arguments"] != given:
            msg = f"workflow {self._id!r} was started with other arguments; give these, or run it without _resume"
            raise ResumeError(msg)

    def _check(self, record: dict[str, Any], call: Call) -> None:
        name = call.step.id
        if record["call"] != name:
            what = f"the recorded run called {record['call']} where the workflow now calls {name}"
        elif record["arguments"] != call.digest:
            what = f"the arguments of the call {name} differ from the recorded ones"
        else:
            return
        msg = f"workflow {self._id!r} cannot be resumed: {what}; undo the change, or run it without _resume"
        raise ResumeError(msg)

    def _place(self, call: Call) -> str:
        assert call.place, "only such calls are recorded"
        path, turn, number = call.place
        return self._key("calls", self._number, *path.split("/")[:-1], f"{turn}.{number}")

    def _key(self, *parts: object) -> str:
        return join(self._id, *parts)


def _opened(storage: Any, workflow_id: str) -> Storage:
    kept = getattr(storage, "checkpoints", storage)
    if isinstance(kept, str | os.PathLike):
        kept = Checkpoints(kept)
    opened: Storage = Epoch.take(kept, workflow_id) if isinstance(kept, Checkpoints) else kept
    return opened


def _end(step: Step, record: dict[str, Any], order: int) -> None:
    step.order = order
    if "error" in record:
        kind = TaskTimedout if record["timed_out"] else TaskError
        step.failures.append(Failure(kind(record["error"]), "", step.id))
        step.status = Status.TIMED_OUT if record["timed_out"] else Status.FAILED
    else:
        step.values = (pack(record["value"], f"the recorded result of {step.id}"),)
        step.status = Status.SUCCEEDED


def arguments_digest(step: Step) -> str:
    """Return the digest of a call's arguments, with the ids of calls in the place of their results.

    Raises:
        NotSerializable: An argument cannot be taken apart.
    """
    given = replace((step.args, step.kwargs), lambda each: ResultOf(each.id) if isinstance(each, Step) else each)
    return digest(given, f"the arguments of the call {step.id}")
