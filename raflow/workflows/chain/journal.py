"""What of a workflow has succeeded already, for `start(resume=True)`.

Theory. A run has a mark, new for each fresh start. It is stored with the digests of the input, and again beside
each result after that was stored. A task has succeeded if the mark beside its result is that of the run: what an
earlier run left under the same key does not count, and a storage needs no way to delete or to list.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol
from uuid import uuid4

from raflow.checkpoints.digest import digest
from raflow.checkpoints.epochs import Epoch
from raflow.checkpoints.keys import join
from raflow.errors import InputChangedError, ResumeError
from raflow.metrics import Status
from raflow.providers import StorageDefault, find
from raflow.workflows.chain.task import Task
from raflow.workflows.context import Context


class Journal(Protocol):
    """Remembers results between runs."""

    keeps: bool
    """Whether a result is stored somewhere, which may fail."""

    def fresh(self, tasks: Sequence[Task], fingerprint: str | None) -> None:
        """Begin a run that knows of no results."""

    def resume(self, tasks: Sequence[Task], fingerprint: str | None, on_input_change: str) -> dict[Task, Context]:
        """Go on with the last run; return the results that there are.

        Raises:
            ResumeError: There is no run to go on with, and there cannot be one.
            InputChangedError: Its input was another one, and `on_input_change` is "raise".
        """

    def write(self, task: Task, result: Context | Callable[[], Context]) -> None:
        """Keep the result of a task that has succeeded, or what fetches it."""


class OnTasks:
    """The tasks themselves know: nothing is copied, nothing outlives the workflow."""

    keeps = False

    def __init__(self) -> None:
        self._inputs: dict[str, Any] | None = None
        self._alive: list[Any] = []

    def fresh(self, tasks: Sequence[Task], fingerprint: str | None) -> None:
        """Begin a run that knows of no results."""
        self._alive = [task.initial_context.storage for task in tasks]
        self._inputs = self._of(tasks, fingerprint)

    def resume(self, tasks: Sequence[Task], fingerprint: str | None, on_input_change: str) -> dict[Task, Context]:
        """Go on with the last run of this object."""
        if self._inputs is None:
            msg = (
                "the workflow cannot be resumed: it has not run before in this process, and results are only kept in"
                " memory; give Config(storage=StorageFile(...)) and a fixed workflow_id"
            )
            raise ResumeError(msg)
        done = {task: task.current_context for task in tasks if task.state is Status.SUCCEEDED}
        go_on = _goes_on(self._inputs, self._of(tasks, fingerprint), on_input_change)
        self.fresh(tasks, fingerprint)
        return done if go_on else {}

    def write(self, task: Task, result: Context | Callable[[], Context]) -> None:
        """Nothing to do: the task has it."""

    def _of(self, tasks: Sequence[Task], fingerprint: str | None) -> dict[str, Any]:
        if fingerprint is not None:
            return {"fingerprint": fingerprint}
        # The values are kept alive, so that an id is theirs alone.
        return {t.task_id: id(t.initial_context.storage) for t in tasks if t.initial_context.storage is not None}


class InStorage:
    """Results in a storage, of raflow's or of the user's.

    Args:
        storage: With `post`, `get` and `key`.
        workflow_id: Whose results.
        is_fixed: Whether the user chose that id, so that another process can have the same one.
    """

    keeps = True

    def __init__(self, storage: Any, workflow_id: str, *, is_fixed: bool) -> None:
        self._storage = storage
        self._workflow_id = workflow_id
        self._is_fixed = is_fixed
        self._mark = ""
        self._epoch: Epoch | None = None

    def fresh(self, tasks: Sequence[Task], fingerprint: str | None) -> None:
        """Begin a run that knows of no results."""
        inputs = _digests(tasks, fingerprint)
        self._take_over()
        self._begin(uuid4().hex, inputs)

    def resume(self, tasks: Sequence[Task], fingerprint: str | None, on_input_change: str) -> dict[Task, Context]:
        """Go on with the last run of this id; a new one where a first run was never begun."""
        inputs = _digests(tasks, fingerprint)
        self._take_over()
        kept = self._get(self._run_key).storage
        if kept is None:
            self._refuse()
        go_on = kept is not None and _goes_on(kept["inputs"], inputs, on_input_change)
        self._begin(kept["mark"] if go_on else uuid4().hex, inputs)
        found = {task: self._result(task) for task in tasks} if go_on else {}
        return {task: context for task, context in found.items() if context is not None}

    def write(self, task: Task, result: Context | Callable[[], Context]) -> None:
        """Keep the result of a task that has succeeded.

        Raises:
            Superseded: Another process has resumed the workflow.
            NotSerializable: The result cannot be stored.
        """
        if self._epoch:
            self._epoch.check()
        key = self._storage.key(task)
        self._storage.post(key, result() if callable(result) else result)
        self._storage.post(f"{key}-done", Context(self._mark, task.task_id, self._workflow_id))

    def _begin(self, mark: str, inputs: dict[str, str]) -> None:
        self._mark = mark
        self._storage.post(self._run_key, Context({"mark": mark, "inputs": inputs}, "", self._workflow_id))

    def _take_over(self) -> None:
        checkpoints = getattr(self._storage, "checkpoints", None)
        self._epoch = checkpoints and Epoch.take(checkpoints, self._workflow_id)

    @property
    def _run_key(self) -> str:
        return join(self._workflow_id, "run")

    def _result(self, task: Task) -> Context | None:
        key = self._storage.key(task)
        if self._get(f"{key}-done").storage != self._mark:
            return None
        if hasattr(self._storage, "checkpoints"):
            return find(self._storage, key)  # None: the user deleted it, to have the task run again
        return Context(self._get(key), task.task_id, self._workflow_id)

    def _get(self, key: str) -> Context:
        try:
            return Context(self._storage.get(key))
        except (LookupError, FileNotFoundError):  # a storage of the user's may say so that there is nothing
            return Context()

    def _refuse(self) -> None:
        if isinstance(self._storage, StorageDefault):
            what, hint = (
                "results are only kept in memory",
                "give Config(storage=StorageFile(...)) and a fixed workflow_id",
            )
        elif not self._is_fixed:
            what, hint = "its id was made up for this process", 'give Workflow(workflow_id="...") or set WORKFLOW_ID'
        else:
            return
        why = f"it has not run before in this process, and {what}"
        msg = f"workflow {self._workflow_id!r} cannot be resumed: {why}; {hint}"
        raise ResumeError(msg)


def _digests(tasks: Sequence[Task], fingerprint: str | None) -> dict[str, str]:
    if fingerprint is not None:
        return {"fingerprint": fingerprint}
    given = ((task.task_id, task.initial_context.storage) for task in tasks)
    return {name: digest(value, f"the initial_context of {name}") for name, value in given if value is not None}


def _goes_on(before: dict[str, Any], now: dict[str, Any], on_input_change: str) -> bool:
    """Whether results may be used, although the input may have changed."""
    changed = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if changed and on_input_change == "raise":
        what = "the fingerprint" if "fingerprint" in changed else f"the initial_context of {', '.join(changed)}"
        msg = (
            f"{what} is not that of the run to be resumed; start without resume, or say"
            ' on_input_change="reset" to run all tasks again, or "reuse" to keep the results of the other input'
        )
        raise InputChangedError(msg)
    return not changed or on_input_change == "reuse"
