"""Filling a workflow's queue, and import strings."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from raflow.errors import FlowError, ImportModuleError, InvalidOption, MissingActionDecorator, NotCallableObject
from raflow.workflows.chain import Workflow, action, load_step


@action
def one() -> int:
    return 1


@action
def two() -> int:
    return 2


def bare() -> None: ...


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A package of the user's."""
    folder = tmp_path / "user_package"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "tasks.py").write_text(
        "from raflow.workflows.chain import action\n"
        "told = []\n"
        "@action\ndef process_data(): return 'processed'\n"
        "class Box:\n  @action\n  def inside(): return 'inside'\n"
        "def notify(task): told.append(task.task_id)\n"
        "def bare(): pass\n"
    )
    (folder / "broken.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    for name in [name for name in sys.modules if name.startswith("user_package")]:
        del sys.modules[name]


def test_tasks_are_added_in_chains_and_lists() -> None:
    workflow = Workflow()
    workflow.task.add(one).add([two, one], initial_context=5, group_name="later")
    assert workflow.task.count() == 3
    assert [(task.task_id, task.group_name, task.initial_context.storage) for task in workflow.task.queue] == [
        ("one#0", "default", None),
        ("two#0", "later", 5),
        ("one#1", "later", 5),
    ]


def test_ids_are_the_same_in_every_workflow_and_stay_when_the_order_is_turned() -> None:
    workflow = Workflow()
    workflow.task.add([one, two, one])
    workflow.task.reverse()
    assert [task.checkpoint_key for task in workflow.task.queue] == ["one#1", "two#0", "one#0"]
    workflow.task.clear()
    assert workflow.task.count() == 0
    assert workflow.task.add(one).queue[0].task_id == "one#0"


@pytest.mark.parametrize("text", ["user_package.tasks.process_data", "user_package.tasks:process_data"])
@pytest.mark.usefixtures("module")
def test_import_strings_name_steps_and_callbacks(text: str) -> None:
    workflow = Workflow()
    workflow.task.add(step=text, callback="user_package.tasks.notify").add([text])
    assert workflow.start().status == "Completed"
    assert workflow.result_storage() == ["processed", "processed"]
    assert sys.modules["user_package.tasks"].told == ["process_data#0"]


@pytest.mark.parametrize("text", ["user_package.tasks.Box.inside", "user_package.tasks:Box.inside"])
@pytest.mark.usefixtures("module")
def test_import_strings_may_lead_into_classes(text: str) -> None:
    assert load_step(text)() == "inside"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("user_package.tasks.proces_data", "has no 'proces_data'; did you mean 'process_data'"),
        ("user_package.missing.process", "leads nowhere: user_package has no 'missing'"),
        ("no_such_package.tasks.f", "there is no module 'no_such_package'"),
        ("user_package.broken.f", "importing user_package.broken raised ZeroDivisionError"),
        ("just_a_name", "write pkg.mod.attr or pkg.mod:attr"),
        ("user_package/tasks.py:f", "write pkg.mod.attr or pkg.mod:attr"),
        ("", "is no import string"),
    ],
)
@pytest.mark.usefixtures("module")
def test_an_import_string_that_leads_nowhere_says_why(text: str, says: str) -> None:
    with pytest.raises(ImportModuleError, match=says):
        Workflow().task.add(text)


@pytest.mark.usefixtures("module")
def test_what_is_no_action_is_named() -> None:
    with pytest.raises(MissingActionDecorator, match="bare is no action; put @action above it"):
        Workflow().task.add(bare)
    with pytest.raises(MissingActionDecorator, match=r"user_package\.tasks\.bare is no action"):
        Workflow().task.add("user_package.tasks.bare")
    with pytest.raises(MissingActionDecorator, match="Path is no action"):
        Workflow().task.add(Path)


@pytest.mark.parametrize("step", [3, None, {"step": one}])
def test_what_cannot_be_called_is_no_step(step: Any) -> None:
    with pytest.raises(NotCallableObject, match="cannot be a step"):
        Workflow().task.add(step)


def test_nothing_is_added_if_one_of_a_list_is_wrong() -> None:
    workflow = Workflow()
    with pytest.raises(FlowError):
        workflow.task.add([one, bare])
    with pytest.raises(NotCallableObject, match="callback is 3"):
        workflow.task.add(one, callback=3)  # type: ignore[arg-type]
    with pytest.raises(InvalidOption, match="group_name is 3"):
        workflow.task.add(one, group_name=3)  # type: ignore[arg-type]
    assert workflow.task.count() == 0
