"""Every error that raflow raises.

RaflowError
├─ FlowError                 the description is wrong; raised before anything runs
│  ├─ InvalidOption          (ValueError) an option's value cannot be used
│  ├─ InvalidProcessor       (TypeError) a function or class cannot be a processor
│  ├─ InvalidDependency      (TypeError) a dependency cannot be made, or not where it is asked for
│  │  └─ InvalidDependencyHierarchyOrder  it depends on something that lives shorter than itself
│  ├─ InvalidStep            (TypeError) a function cannot be a step, or not with these predecessors
│  ├─ UnknownStep            (LookupError) a workflow has no such step
│  ├─ DuplicateName          two processors or steps share a name
│  ├─ TargetError            `file.py:name` or `pkg.mod:name` does not lead to a Flow
│  ├─ MissingExtra           (ImportError) an optional package is not installed
│  ├─ MissingActionDecorator (TypeError) a step was not decorated with `@action`
│  ├─ NotCallableObject      (TypeError) a step or callback is nothing that can be called
│  └─ ImportModuleError      (ImportError) an import string does not lead to anything
├─ ConnectorError            a system outside could not be read or written
│  ├─ SourceError            reading failed: file and position are in the message
│  ├─ SinkError              writing failed
│  │  └─ OutputExists        the output already holds data and `if_exists="error"`
│  └─ StoreError             what replicas share could not be read or written
├─ SchemaError               types do not fit: names field, expected and found type
│  └─ RecordError            one record does not fit; `on_error` decides what follows
│     └─ TooManyErrors       more records failed than `max_errors` allows
├─ EngineError               the engine could not do what was asked
│  ├─ NoCapacity             no replica can be placed: says needed and available
│  ├─ ClusterUnreachable     (ConnectionError) no Ray answers at the address
│  ├─ CannotListen           (OSError) an address is in use, says by whom, or cannot be had
│  ├─ VersionMismatch        a node has another Python or raflow
│  ├─ NotPicklable           user code cannot travel: names the captured object
│  └─ ReplicaLost            a replica's process or node died; the driver repeats its work
│     └─ InputLost           what a replica was to work on is gone with its node; it is made again
├─ NotSerializable           (TypeError) an argument or result of a step cannot travel or be kept
├─ StepError                 a step has failed for a reason that is not an error of its own code
│  ├─ StepTimedOut           (TimeoutError) an attempt took longer than its timeout
│  ├─ StepLost               the process or node of a step died
│  ├─ StepExited             a step called sys.exit
│  ├─ AppFailed              what a step ran as an app has failed: says what it said last
│  └─ StepCancelled          it was given up, because another step failed or the run was stopped
├─ FlowFailed                (RuntimeError) a class workflow failed; `__cause__` is the error of the step
├─ TaskError                 a task of an inferred workflow has failed; `__cause__` is the original error
│  └─ TaskTimedout           (TimeoutError) its attempts took longer than the timeout
├─ ResumeError               a run cannot be continued: unknown, or its input changed
│  ├─ CorruptCheckpoint      a stored result is cut short, changed or not ours
│  ├─ InputChangedError      a workflow's input is not that of the run to be resumed
│  └─ Superseded             the workflow was resumed by another process; this one stops
└─ RunFailed                 a run ended with an error; `__cause__` is the user's own

Catch everything with::

    try:
        flow.run()
    except raflow.RaflowError as error:
        ...

All of them survive pickling: they travel between processes.
"""

from __future__ import annotations

from typing import Any


class RaflowError(Exception):
    """Root of all errors of this package."""


class FlowError(RaflowError):
    """The description of a Flow is wrong; nothing has run."""


class InvalidOption(FlowError, ValueError):
    """An option's value cannot be used; the message names it and the values that can."""


class InvalidProcessor(FlowError, TypeError):
    """A function or class cannot be a processor."""


class InvalidDependency(FlowError, TypeError):
    """A dependency cannot be made, or not where it is asked for."""


class InvalidDependencyHierarchyOrder(InvalidDependency):
    """A dependency depends on something that lives shorter than itself; the message names both."""


class InvalidStep(FlowError, TypeError):
    """A function cannot be a step of a workflow, or not with the predecessors that it was given."""


class UnknownStep(FlowError, LookupError):
    """A workflow has no such step."""


class DuplicateName(FlowError):
    """Two processors of one Flow, or two steps of one workflow, have the same name."""


class TargetError(FlowError):
    """A command-line target does not lead to a Flow."""


class MissingExtra(FlowError, ImportError):
    """An optional package is missing; the message holds the `pip install` line."""


class MissingActionDecorator(FlowError, TypeError):
    """A step was not decorated with `@action`; the message names it."""


class NotCallableObject(FlowError, TypeError):
    """A step or callback is nothing that can be called."""


class ImportModuleError(FlowError, ImportError):
    """An import string does not lead to anything, or its module raises while it is imported."""


class ConnectorError(RaflowError):
    """A system outside raflow could not be read or written."""


class SourceError(ConnectorError):
    """Reading failed; the message names the file and the position."""


class SinkError(ConnectorError):
    """Writing failed; nothing half-written is visible."""


class OutputExists(SinkError):
    """The output already holds data and the sink was not told what to do with it."""


class StoreError(ConnectorError):
    """What replicas share could not be read or written; requests that need it get 503."""


class SchemaError(RaflowError):
    """Types do not fit; the message names the field, the expected and the found type."""


class RecordError(SchemaError):
    """One record does not fit its type; `on_error` decides what follows."""


class TooManyErrors(RecordError):
    """More records failed than `max_errors` allows; the run ends."""


class EngineError(RaflowError):
    """The engine could not do what was asked of it."""


class NoCapacity(EngineError):
    """Not even one replica can be placed; the message says what is needed and available."""


class ClusterUnreachable(EngineError, ConnectionError):
    """No Ray cluster answers at the given address."""


class CannotListen(EngineError, OSError):
    """HTTP cannot be answered at an address: it is in use, not of this machine, or not allowed."""


class VersionMismatch(EngineError):
    """A node runs another Python or raflow than the driver."""


class NotPicklable(EngineError):
    """User code cannot travel to a replica; the message names the captured object."""


class ReplicaLost(EngineError):
    """A replica's process or node died; the driver repeats its unfinished work."""


class InputLost(ReplicaLost):
    """What a replica was to work on is gone, probably with its node; the driver has it made again."""


class NotSerializable(RaflowError, TypeError):
    """An argument or result of a step cannot travel or be kept; the message names the step and the object."""


class StepError(RaflowError):
    """A step has failed for a reason that is not an error of its own code."""


class StepTimedOut(StepError, TimeoutError):
    """An attempt took longer than the step's timeout."""


class StepLost(StepError):
    """The process or node in which a step ran died."""


class StepExited(StepError):
    """A step called `sys.exit`."""


class AppFailed(StepError):
    """What a step ran as an app has failed."""


class StepCancelled(StepError):
    """A step was given up, because another step failed or the run was stopped."""


class FlowFailed(RaflowError, RuntimeError):
    """A class workflow failed: "Flow failed: Step <node id> failed: …". `__cause__` is the step's own error."""


class TaskError(RaflowError):
    """A task of an inferred workflow, or the workflow itself, has failed; `__cause__` is the original error."""


class TaskTimedout(TaskError, TimeoutError):
    """A task of an inferred workflow took longer than its timeout, in its last attempt."""


class ResumeError(RaflowError):
    """A run cannot be continued: it is unknown, done, still alive, or its input changed."""


class CorruptCheckpoint(ResumeError):
    """A stored result cannot be trusted; the message says what was found instead."""


class InputChangedError(ResumeError):
    """A workflow's input is not that of the run to be resumed; the message names what changed."""


class Superseded(ResumeError):
    """Another process has resumed the workflow; this one must not write any more."""


class UserTraceback(Exception):
    """The traceback of an error that was raised in another process, as text."""

    def __str__(self) -> str:
        return "\n" + str(self.args[0]) if self.args else ""


class RunFailed(RaflowError):
    """A run ended with an error.

    Attributes:
        processor: The processor that failed, or None.
        replica: The replica in which it failed, or None.
        split: The piece of input that was being read, or None.
        traceback: The user's own traceback as text, innermost call last; empty if none.
    """

    def __init__(
        self,
        message: str,
        *,
        processor: str | None = None,
        replica: str | None = None,
        split: str | None = None,
        traceback: str = "",
    ) -> None:
        super().__init__(message)
        self.processor = processor
        self.replica = replica
        self.split = split
        self.traceback = traceback

    def __reduce__(self) -> Any:
        keywords = {"processor": self.processor, "replica": self.replica, "split": self.split}
        return _rebuild, (type(self), self.args[0], {**keywords, "traceback": self.traceback})


def _rebuild(kind: type[RunFailed], message: str, keywords: dict[str, Any]) -> RunFailed:
    return kind(message, **keywords)
