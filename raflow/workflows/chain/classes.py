"""Classes as steps: their actions, one after the other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from raflow.workflows.chain.actions import Action
from raflow.workflows.chain.attempts import tried
from raflow.workflows.context import Context

_METHODS: WeakKeyDictionary[type, tuple[str, ...]] = WeakKeyDictionary()
_DONE = "_raflow_done"


def methods(kind: type) -> tuple[str, ...]:
    """Return the names of a class's actions: those of its bases first, each in the place of its first definition.

    Only the dictionaries of classes are read: nothing of an instance is evaluated.
    """
    found = _METHODS.get(kind)
    if found is None:
        found = _METHODS[kind] = tuple(_methods(kind))
    return found


def _methods(kind: type) -> list[str]:
    found: dict[str, Any] = {}
    for one in reversed(kind.__mro__):
        found.update(vars(one))
    return [name for name, value in found.items() if isinstance(getattr(value, "__func__", value), Action)]


def run_methods(instance: Any, initial: Context, previous: Context, task_id: str) -> list[Context]:
    """Call an instance's actions in their order; each gets the result of the one before.

    Each is tried as its own options say. What an error leaves undone is told by `done_before`.

    Returns:
        The results, as contexts whose `task_id` is `<task>.<method>`.
    """
    done: list[Context] = []
    for name in methods(type(instance)):
        method: Action = getattr(instance, name)
        place = f"{task_id}.{name}"
        try:
            result = tried(method, _call(method, initial, previous), place)
        except BaseException as error:
            setattr(error, _DONE, done)
            raise
        previous = Context(result, place, previous.workflow_id)
        done.append(previous)
    return done


def _call(method: Action, initial: Context, previous: Context) -> Callable[[], Any]:
    return lambda: method.given(initial, previous)


def done_before(error: BaseException) -> list[Context] | None:
    """Return the results of a class's actions that succeeded before one raised this error."""
    return getattr(error, _DONE, None)
