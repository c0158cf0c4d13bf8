"""`raflow graph` of workflows: what it draws, and what it says of what cannot be drawn."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from raflow.cli import main

FLOWS = """
from raflow import Flow, FlowSpec, LocalWorkflow, Workflow, action, foreach, join, needs, step
from raflow.connectors.memory import MemorySource

class Fan(FlowSpec):
    @foreach
    @step
    def items(data):
        return data

    @needs(predecessors=[items])
    @step
    def double(item):
        return item * 2

    @join
    @needs(predecessors=[double])
    @step
    def gather(rows):
        return rows

class Own(Fan):
    def __init__(self):
        super().__init__("own name", [1])

class Needy(Fan):
    def __init__(self, path):
        super().__init__(path, [1])

class Wrong(FlowSpec):
    @needs(predecessors=[len])
    @step
    def use(data):
        return data

flow = Fan("named", [1])

@action
def load():
    return 1

@action
def save():
    raise AssertionError("drawing runs nothing")

def chain():
    workflow = Workflow(workflow_id="nightly")
    workflow.task.add([load, save, save])
    return workflow

def groups():
    workflow = Workflow(name="in groups")
    workflow.task.add(load, group_name="one").add([load, save], group_name="two")
    return workflow

workflow = chain()

def inferred():
    return LocalWorkflow(lambda: lambda: 1)

def app():
    made = Flow("data")
    made.consumer(source=MemorySource([{"n": 1}]))(copy)
    return made

def copy(record: dict) -> dict:
    return record

def needy(path):
    return chain()

def broken():
    raise KeyError("in the factory")

nothing = 3
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    (tmp_path / "flows.py").write_text(FLOWS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield tmp_path
    sys.modules.pop("flows", None)


def graph(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["graph", *words])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done


FAN = ["● items", "─ foreach ─▶ ● double", "─ join ─▶ ● gather"]
CHAIN = ["nightly", "● load#0", "▶ ● save#0", "▶ ● save#1"]


@pytest.mark.parametrize(
    ("target", "seen"),
    [
        ("flows.py:Fan", ["Fan", *FAN]),
        ("flows:Fan", ["Fan", *FAN]),
        ("flows.py:flow", ["named", *FAN]),
        ("flows.py:Own", ["own name", *FAN]),
        ("flows.py:chain", CHAIN),
        ("flows.py:workflow", CHAIN),
        ("flows.py:groups", ["in groups", "one", "two", "● load#0", "● load#1", "● save#0"]),
        ("flows.py:app", ["data", "copy"]),
    ],
)
def test_the_steps_of_every_kind_of_workflow_are_drawn_as_text(target: str, seen: list[str]) -> None:
    text = graph(target).stdout
    assert [one for one in seen if one not in text] == []


@pytest.mark.parametrize("target", ["flows.py:Fan", "flows.py:chain"])
def test_every_format_names_every_step_and_goes_to_a_file_if_asked(target: str, folder: Path) -> None:
    names = ["items", "double", "gather"] if "Fan" in target else ["load#0", "save#0", "save#1"]
    for form, beginning in (("mermaid", "---"), ("dot", "digraph"), ("svg", "<svg")):
        drawn = graph(target, "--format", form).stdout
        assert drawn.startswith(beginning)
        assert [name for name in names if name not in drawn.replace("&#35;", "#").replace("#35;", "#")] == []
        written = graph(target, "--format", form, "--output", "picture")
        assert (written.stdout, (folder / "picture").read_text()) == ("", drawn)
    assert ElementTree.fromstring(drawn).tag == "{http://www.w3.org/2000/svg}svg"


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("flows.py:inferred", "flows.py:inferred is an inferred workflow: its steps are known once it has run"),
        ("flows.py:Needy", "Needy needs parameters (missing a required argument: 'path')"),
        ("flows.py:needy", "needy needs parameters (missing a required argument: 'path')"),
        ("flows.py:Wrong", "step use of Wrong needs len, which has no @step; add it"),
        ("flows.py:load", "flows.py:load is of type Action; what can be drawn is a Flow, a FlowSpec or a Workflow"),
        ("flows.py:nothing", "flows.py:nothing is of type int; what can be drawn is"),
        ("flows.py:flwo", "flows has no 'flwo'; did you mean 'flow'?"),
        ("flows.py", "flows.py has no Flow; assign one at the top of the module: app = Flow()"),
        ("nofile.py:Fan", "there is no file nofile.py"),
    ],
)
def test_what_cannot_be_drawn_is_told_in_one_message(target: str, told: str) -> None:
    done = graph(target, code=2)
    assert told in " ".join(done.stderr.split())
    assert (done.stdout, "Traceback" in done.stderr) == ("", False)


def test_an_error_of_the_users_factory_shows_its_traceback() -> None:
    done = graph("flows.py:broken", code=2)
    assert 'raise KeyError("in the factory")' in done.stderr
    assert "/raflow/" not in done.stderr


def test_an_output_that_cannot_be_written_is_told() -> None:
    done = graph("flows.py:chain", "--output", "no/such/folder/picture.svg", code=1)
    assert "no/such/folder" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
