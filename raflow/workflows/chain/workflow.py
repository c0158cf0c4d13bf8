"""Workflows of actions, one after the other, in groups or all at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any
from uuid import uuid4

from raflow import engines
from raflow.errors import FlowError, InvalidOption
from raflow.graph import Graph
from raflow.workflows.chain.builder import TaskBuilder
from raflow.workflows.chain.callbacks import checked
from raflow.workflows.chain.config import Config
from raflow.workflows.chain.driven import run_driven
from raflow.workflows.chain.inline import run_inline
from raflow.workflows.chain.journal import InStorage, Journal, OnTasks
from raflow.workflows.chain.picture import picture
from raflow.workflows.chain.run import WorkflowRun
from raflow.workflows.chain.schema import WorkflowSchema
from raflow.workflows.chain.task import Task
from raflow.workflows.context import Context

MODES = ("sequential", "background", "parallel")
ON_INPUT_CHANGE = ("raise", "reuse", "reset")


class Workflow:
    """A chain of tasks.

    Args:
        config: Where results are kept; None: on the tasks, in this process.
        workflow_id: Any text, under which results are kept; None: the environment's WORKFLOW_ID, else a new one.
        name: For people.

    Attributes:
        task: Adds tasks: `workflow.task.add(step=...)`.

    Raises:
        InvalidOption: An argument cannot be used.

    Example:
        >>> from raflow.workflows.chain import action
        >>> @action
        ... def greet(initial_context):
        ...     return f"Hello, {initial_context.storage}!"
        >>> workflow = Workflow()
        >>> _ = workflow.task.add(step=greet, initial_context="World")
        >>> workflow.start().status
        'Completed'
        >>> workflow.result_storage()
        ['Hello, World!']
    """

    def __init__(self, config: Config | None = None, workflow_id: Any = None, name: str | None = None) -> None:
        if config is not None and not isinstance(config, Config):
            msg = f"config is {config!r}; it must be a Config, e.g. Config(storage=StorageFile())"
            raise InvalidOption(msg)
        given = os.environ.get("WORKFLOW_ID") or None if workflow_id is None else str(workflow_id)
        if given == "":
            msg = "workflow_id is empty; give any text, or leave it out"
            raise InvalidOption(msg)
        self.config = config or Config()
        self.workflow_id = given or str(uuid4())
        self.name = name
        self.task = TaskBuilder(self)
        self._journal: Journal = OnTasks()
        if self.config.storage is not None:
            self._journal = InStorage(self.config.storage, self.workflow_id, is_fixed=given is not None)
        self._run: WorkflowRun | None = None

    def __repr__(self) -> str:
        return f"<workflow {self.workflow_id}: {self.task.count()} tasks>"

    def start(  # noqa: PLR0913, PLR0917 - the options of one call, in the order that users know
        self,
        mode: str = "sequential",
        on_success: Callable[..., Any] | str | None = None,
        on_failure: Callable[..., Any] | str | None = None,
        keep_going: bool = False,
        resume: bool = False,
        on_input_change: str = "raise",
        fingerprint: str | None = None,
        engine: str = "auto",
    ) -> WorkflowRun:
        """Run the tasks. A task's failure is told by its status and by `on_failure`, never raised.

        Each task gets the result of the one before it in its group. After a failure the rest of its group is
        not started. Started again, all tasks run again.

        Args:
            mode: "sequential"; "background": the same in a thread, and `start` returns at once; the process
                does not end before the run has. "parallel": every task in a process of its own, without the
                result of any other.
            on_success: Called as `on_success(tasks=...)` if all tasks have succeeded.
            on_failure: Called as `on_failure(tasks=...)` otherwise.
            keep_going: Go on after a failure; the next task gets the last result that there is.
            resume: Skip the tasks that have succeeded before. In a new process that takes a storage that
                outlives the old one and a fixed `workflow_id`.
            on_input_change: What to do if the initial contexts are not those of the run to be resumed:
                "raise", "reuse" its results, or "reset": run all tasks again.
            fingerprint: Stands for the initial contexts in that comparison.
            engine: "local", "ray", or "auto": local for one group in order without resources, else ray;
                `RAFLOW_ENGINE` overrides "auto".

        Raises:
            InvalidOption: An option's value cannot be used.
            FlowError: It is still running in the background.
            ResumeError: There is nothing to resume, and there cannot be.
            InputChangedError: The input has changed since the run to be resumed.
            CorruptCheckpoint: A kept result is damaged.
            Superseded: Another process has resumed this workflow.
        """
        _one_of("mode", mode, MODES)
        _one_of("on_input_change", on_input_change, ON_INPUT_CHANGE)
        told = checked(on_success, "on_success"), checked(on_failure, "on_failure")
        tasks = list(self.task.queue)
        name, is_driven = _engine(engine, mode, tasks)
        self._refuse_twice()
        restored = self._restored(tasks, fingerprint, on_input_change if resume else None)
        run = self._run = WorkflowRun(self.workflow_id, mode, name, tasks)
        how = run_driven if is_driven else run_inline
        work = partial(how, journal=self._journal, restored=restored, keep_going=keep_going)
        execute = partial(run.execute, work, *told)
        if mode == "background":
            run.behind(execute)
        else:
            execute()
        return run

    @property
    def graph(self) -> Graph:
        """The picture of its tasks, with what has become of them; notebooks show it for the workflow too."""
        return picture(self.name or self.workflow_id, self.task.queue)

    def _repr_html_(self) -> str:
        return self.graph.to_svg()

    def result_task(self) -> list[Task]:
        """Return the tasks."""
        return list(self.task.queue)

    def result_context(self) -> list[Context]:
        """Return the tasks' results as contexts."""
        return [task.current_context for task in self.task.queue]

    def result_storage(self) -> list[Any]:
        """Return the tasks' results; None for one that has none."""
        return [context.storage for context in self.result_context()]

    def result(self) -> WorkflowSchema:
        """Return the workflow and its tasks as a pydantic model."""
        return self.task.schema()

    def _refuse_twice(self) -> None:
        if self._run is not None and self._run.thread is not None and self._run.thread.is_alive():
            msg = f"workflow {self.workflow_id!r} is still running in the background; wait() for its run first"
            raise FlowError(msg)

    def _restored(self, tasks: Sequence[Task], fingerprint: str | None, on_input_change: str | None) -> set[Task]:
        """Make the tasks ready; return those that have succeeded already."""
        found: dict[Task, Context] = {}
        if on_input_change is None:
            self._journal.fresh(tasks, fingerprint)
        else:
            found = self._journal.resume(tasks, fingerprint, on_input_change)
        for task in tasks:
            task.reset()
            if task in found:
                task.restore(found[task])
        return set(found)


def _engine(engine: str, mode: str, tasks: Sequence[Task]) -> tuple[str, bool]:
    """Return the engine's name, and whether the tasks go to it instead of running in this thread."""
    is_plain = mode != "parallel" and len({task.group_name for task in tasks}) <= 1
    is_plain = is_plain and not any(task.step.asks_resources for task in tasks)
    name, _ = engines.choose(engine, "local" if is_plain else "ray")
    return name, not is_plain or name == "ray"


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> None:
    if value not in known:
        msg = f"there is no {name} {value!r}; there are: {', '.join(known)}"
        raise InvalidOption(msg)
