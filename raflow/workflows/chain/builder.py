"""The queue of a workflow's tasks, as users fill it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from raflow.errors import InvalidOption
from raflow.workflows.chain.actions import Action
from raflow.workflows.chain.callbacks import checked
from raflow.workflows.chain.importing import action_of, load_step
from raflow.workflows.chain.schema import WorkflowSchema
from raflow.workflows.chain.task import Task

if TYPE_CHECKING:
    from raflow.workflows.chain.workflow import Workflow


class TaskBuilder:
    """`workflow.task`: adds tasks and looks at them.

    Attributes:
        queue: The tasks, in their order.
    """

    def __init__(self, workflow: Workflow) -> None:
        self.queue: list[Task] = []
        self._workflow = workflow
        self._names: Counter[str] = Counter()

    def add(
        self,
        step: Any,
        callback: Callable[..., Any] | str | None = None,
        initial_context: Any = None,
        group_name: str = "default",
    ) -> TaskBuilder:
        """Add a task to the end of the queue.

        Args:
            step: An action, a class decorated with `@action`, an import string such as `pkg.mod.attr` or
                `pkg.mod:attr`, or a list of these: one task each.
            callback: Called as `callback(task=task)` after the task has ended, in this process; or an import string.
            initial_context: What the step gets as `initial_context.storage`.
            group_name: Tasks of one group run in order; groups run at the same time.

        Returns:
            Itself, for the next `add`.

        Raises:
            MissingActionDecorator: The step was not decorated.
            ImportModuleError: An import string leads nowhere.
            NotCallableObject: The step or the callback is nothing that can be called.
            InvalidOption: The group's name is no text.
        """
        if not isinstance(group_name, str):
            msg = f"group_name is {group_name!r}; it must be text"
            raise InvalidOption(msg)
        actions = [_action(one) for one in (step if isinstance(step, list | tuple) else [step])]
        told = checked(callback, "callback")
        self.queue += [self._task(one, told, initial_context, group_name) for one in actions]
        return self

    def count(self) -> int:
        """Return the number of tasks."""
        return len(self.queue)

    def clear(self) -> None:
        """Remove all tasks."""
        self.queue.clear()
        self._names.clear()

    def reverse(self) -> None:
        """Turn the order of the tasks around; they keep their ids."""
        self.queue.reverse()

    def schema(self) -> WorkflowSchema:
        """Return the workflow and its tasks as a pydantic model."""
        tasks = [task.schema() for task in self.queue]
        return WorkflowSchema(workflow_id=self._workflow.workflow_id, workflow_name=self._workflow.name, tasks=tasks)

    def _task(self, action: Action, callback: Callable[..., Any] | None, initial: Any, group: str) -> Task:
        task_id = f"{action.name}#{self._names[action.name]}"
        self._names[action.name] += 1
        workflow = self._workflow
        return Task(
            task_id,
            action,
            callback=callback,
            initial_context=initial,
            workflow_id=workflow.workflow_id,
            config=workflow.config,
            group_name=group,
        )


def _action(step: Any) -> Action:
    return load_step(step) if isinstance(step, str) else action_of(step)
