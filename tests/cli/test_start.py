"""`raflow start`, as its users call it: what it runs, prints and returns."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from raflow.cli import main
from tests.stores import Bucket

DEADLINE_S = 60
JOBS = """
import os, threading
from pathlib import Path
from raflow import Config, Context, Workflow, action
from raflow.providers import StorageFile

@action
def greet(initial_context, previous_context):
    print("greet prints")
    with open("calls", "a") as calls:
        calls.write("greet\\n")
    return {"hello": initial_context.storage, "before": previous_context.storage}

class Group:
    @action
    def number():
        return 7

@action
def add_one(previous_context):
    return previous_context.storage + 1

@action
def own_process():
    print("child prints", flush=True)
    return os.getpid()

@action
def odd():
    return {"set": {1}, "bytes": b"\\xff", "object": threading.Lock()}

@action
def circle():
    found = [1]
    found.append(found)
    return found

@action
def fail():
    if not Path("mended").exists():
        raise ValueError("no luck")
    return "mended"

@action
def hang():
    print("begun", flush=True)
    threading.Event().wait()

@action
def leave():
    os.write(1, b"printed past Python")
    raise SystemExit(3)

def plain():
    pass

def on_done(task):
    with open("told", "a") as told:
        told.write(f"{task.task_id} {task.status} {task.current_context.storage}")

def numbers():
    workflow = Workflow()
    workflow.task.add([Group.number, add_one])
    return workflow

def empty():
    return Workflow()

def report():
    workflow = Workflow(Config(storage=StorageFile(path="kept")), workflow_id="report")
    workflow.task.add([greet, fail, own_process])
    return workflow

def unkept():
    workflow = Workflow(Config(storage=StorageFile(path="kept")))
    workflow.task.add(greet)
    return workflow

def needy(name):
    return Workflow()

def broken():
    raise KeyError("in the factory")

workflow = numbers()
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The working folder, with the module `jobs`; what the command does to its process is undone."""
    (tmp_path / "jobs.py").write_text(JOBS)
    (tmp_path / "raising.py").write_text("def deep():\n    return {}['missing']\n\ndeep()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv("WORKFLOW_ID", "")
    monkeypatch.setenv("RAFLOW_ENGINE", "local")
    logger = logging.getLogger("raflow")
    level = logger.level
    yield tmp_path
    logger.setLevel(level)
    for name in ("jobs", "raising"):
        sys.modules.pop(name, None)


def start(*words: str, code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["start", *words])
    assert done.exit_code == code, (done.stdout, done.stderr, done.exception)
    return done


def program(*words: str) -> subprocess.Popen[str]:
    line = [sys.executable, "-m", "raflow", "start", *words]
    return subprocess.Popen(
        line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.fspath(Path(__file__).parents[2])},
    )  # fmt: skip


# -- one action ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("step", ["jobs.greet", "jobs:greet"])
def test_a_step_runs_with_its_initial_context_and_only_its_result_is_on_stdout(step: str) -> None:
    done = start("--step", step, "--initial-context", '{"key": [1, "ä"]}')
    assert done.stdout == '{"hello": {"key": [1, "ä"]}, "before": null}\n'
    assert "greet prints" in done.stderr
    assert done.stderr.splitlines()[-1].endswith(": Completed (1 Completed)")


def test_every_option_has_its_letter(folder: Path) -> None:
    words = ["-s", "jobs.greet", "-i", '"World"', "-c", "jobs.on_done", "-m", "sequential", "-o", "file", "-p", "kept"]
    assert json.loads(start(*words).stdout)["hello"] == "World"
    assert json.loads(start("-w", "jobs:numbers").stdout) == 8
    assert (folder / "kept").is_dir()


def test_a_step_may_be_an_action_of_a_class() -> None:
    assert start("--step", "jobs.Group.number").stdout == "7\n"
    assert start("--step", "jobs:Group.number").stdout == "7\n"


@pytest.mark.parametrize("mode", ["sequential", "background", "parallel"])
def test_the_callback_is_told_in_each_mode(mode: str, folder: Path) -> None:
    start("--step", "jobs.greet", "--callback", "jobs:on_done", "--mode", mode)
    told = (folder / "told").read_text()
    assert told.startswith("greet#0 Completed {'hello': None")


def test_in_parallel_mode_a_step_has_a_process_of_its_own_that_leaves_stdout_alone(
    capfd: pytest.CaptureFixture[str],
) -> None:
    done = start("--step", "jobs.own_process", "--mode", "parallel")
    assert json.loads(done.stdout) != os.getpid()
    told = capfd.readouterr()
    assert (told.out, "child prints" in told.err) == ("", True)


def test_what_json_does_not_know_is_shown() -> None:
    assert "\\xff" in start("--step", "jobs.odd").stdout
    assert json.loads(start("--step", "jobs.circle").stdout) == "[1, [...]]"


def test_a_failed_step_exits_with_1_and_tells_the_users_traceback_alone() -> None:
    done = start("--step", "jobs.fail", code=1)
    assert done.stdout == ""
    assert 'raise ValueError("no luck")' in done.stderr
    assert "jobs.py" in done.stderr
    assert "/raflow/" not in done.stderr
    assert done.stderr.splitlines()[-1].endswith(": Failed (1 Failed)")


def test_a_step_that_calls_sys_exit_has_failed(capfd: pytest.CaptureFixture[str]) -> None:
    done = start("--step", "jobs.leave", code=1)
    assert "leave#0 called sys.exit(3)" in done.stderr
    told = capfd.readouterr()
    assert (told.out, "printed past Python" in told.err) == ("", True)


# -- a workflow ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("factory", ["jobs:numbers", "jobs.numbers", "jobs:workflow"])
def test_the_result_of_a_workflow_is_that_of_its_last_task(factory: str) -> None:
    assert start("--workflow", factory, "--mode", "background").stdout == "8\n"


def test_a_workflow_without_tasks_has_no_result() -> None:
    done = start("--workflow", "jobs:empty")
    assert (done.stdout, done.stderr.splitlines()[-1].endswith(": Completed (no tasks)")) == ("null\n", True)


def test_a_workflow_may_take_its_id_from_the_command() -> None:
    assert "workflow nightly: Completed" in start("--workflow", "jobs:numbers", "--workflow-id", "nightly").stderr
    assert "workflow report: Failed" in start("--workflow", "jobs:report", "--workflow-id", "report", code=1).stderr
    done = start("--workflow", "jobs:report", "--workflow-id", "other", code=2)
    assert "gives its workflow the id 'report'; leave out --workflow-id" in " ".join(done.stderr.split())


def test_a_failed_workflow_is_resumed_where_it_failed(folder: Path) -> None:
    failed = start("--workflow", "jobs:report", code=1)
    assert failed.stderr.splitlines()[-1] == "workflow report: Failed (1 Completed, 1 Failed, 1 Not started)"
    (folder / "mended").touch()
    again = program("--workflow", "jobs:report", "--resume")
    out, err = again.communicate(timeout=DEADLINE_S)
    assert again.returncode == 0, err
    assert json.loads(out) == again.pid
    assert err.splitlines()[-1] == "workflow report: Completed (3 Completed)"
    assert (folder / "calls").read_text() == "greet\n"


# -- storage ------------------------------------------------------------------------------------------


@pytest.fixture
def stored(
    request: pytest.FixtureRequest, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[list[str], dict[str, str]]:
    """The options of a storage, and what they want in the environment."""
    kind = request.param
    if kind == "file":
        return ["--storage", "file", "--path", "kept"], {}
    if kind == "file in the usual place":
        return ["--storage", "file"], {}
    if kind == "url":
        return ["--storage", (folder / "kept").as_uri()], {}
    name = kind.split()[0]
    bucket: Bucket = request.getfixturevalue(name)
    keys = {"AWS_ENDPOINT_URL_S3": bucket.endpoint, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test"}
    environment = {"STORAGE_EMULATOR_HOST": bucket.endpoint} if name == "gcs" else keys
    if kind.endswith("url"):
        return ["--storage", f"{bucket.url}/deep"], environment
    if kind.endswith("environment"):
        return ["--storage", name], {**environment, "RAFLOW_STORAGE_BUCKET": bucket.name}
    return ["--storage", name, "--path", f"{bucket.url}/deep/er"], environment


KINDS = ["file", "file in the usual place", "url", "s3", "gcs", "s3 environment", "gcs environment", "s3 url"]


@pytest.mark.parametrize("stored", KINDS, indirect=True)
def test_a_resumed_step_is_skipped_and_its_result_read_from_the_storage(
    stored: tuple[list[str], dict[str, str]], folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options, environment = stored
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    words = ["--step", "jobs.greet", "--initial-context", "[1]", *options, "--workflow-id", "a/b c"]
    first = start(*words)
    again = start(*words, "--resume")
    assert again.stdout == first.stdout == '{"hello": [1], "before": null}\n'
    assert (folder / "calls").read_text() == "greet\n"
    start(*words)
    assert (folder / "calls").read_text() == "greet\n" * 2


@pytest.mark.parametrize("kind", ["default", "memory"])
def test_results_may_be_kept_in_memory(kind: str, folder: Path) -> None:
    start("--step", "jobs.greet", "--storage", kind)
    assert sorted(path.name for path in folder.iterdir() if path.is_dir() and path.name != "__pycache__") == []


def test_a_changed_input_is_no_resume() -> None:
    words = ["--step", "jobs.greet", "--storage", "file", "--workflow-id", "w"]
    start(*words, "--initial-context", "1")
    done = start(*words, "--initial-context", "2", "--resume", code=1)
    assert "the initial_context of greet#0 is not that of the run to be resumed" in " ".join(done.stderr.split())
    assert done.stdout == ""


def test_a_bucket_that_is_not_there_is_named(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3.endpoint)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "test")
    done = start("--step", "jobs.greet", "--storage", "s3", "--path", "s3://no-such-bucket", code=1)
    assert "s3://no-such-bucket/raflow/ cannot be reached" in " ".join(done.stderr.split())


# -- what cannot be meant -----------------------------------------------------------------------------

STEP = ["--step", "jobs.greet"]
USAGE: list[tuple[list[str], str]] = [
    ([], "give either --step or --workflow"),
    ([*STEP, "--workflow", "jobs:numbers"], "give either --step or --workflow"),
    (["--workflow", "jobs:numbers", "--callback", "jobs.on_done"], "--callback: only for --step"),
    (
        ["--workflow", "jobs:numbers", "--initial-context", "1", "--storage", "file", "--path", "x"],
        "--initial-context, --storage, --path: only for --step",
    ),
    ([*STEP, "--initial-context", "World"], "'World' is not JSON"),
    ([*STEP, "--initial-context", "{'a': 1}"], "is not JSON"),
    ([*STEP, "--mode", "sideways"], "'sideways' is not one of"),
    ([*STEP, "--engine", "spark"], "'spark' is not one of"),
    ([*STEP, "--storage", "floppy"], "there is no storage 'floppy'; there are: default, memory, file, s3, gcs and"),
    ([*STEP, "--storage", "nosuch://x/y"], "nosuch://x/y is not a path or URL that can be opened: Protocol not known"),
    ([*STEP, "--storage", "s3"], "--storage s3 wants its bucket: --path s3://bucket/prefix, or RAFLOW_STORAGE_BUCKET"),
    ([*STEP, "--storage", "s3", "--path", "s3:///deep"], "--storage s3 wants its bucket"),
    ([*STEP, "--storage", "gcs"], "--storage gcs wants its bucket: --path gs://bucket/prefix"),
    ([*STEP, "--storage", "gcs", "--path", "s3://x/y"], "--storage gcs wants --path gs://…, not s3://x/y"),
    ([*STEP, "--storage", "memory", "--path", "x"], "--path wants a --storage that has a place"),
    ([*STEP, "--path", "x"], "--path wants a --storage that has a place"),
    ([*STEP, "--storage", "file:///x", "--path", "y"], "--storage file:///x is a place already; leave out --path"),
    ([*STEP, "--storage", "file", "--resume"], "its id was made up for this process"),
    ([*STEP, "--resume", "--workflow-id", "w"], "results are only kept in memory"),
    ([*STEP, "--resume", "--workflow-id", "w"], "on the command line: --storage file|s3|gcs|URL and --workflow-id"),
    (["--workflow", "jobs:unkept", "--resume"], "its id was made up for this process"),
    (["--workflow", "jobs:numbers", "--resume", "--workflow-id", "w"], "results are only kept in memory"),
    (["--step", "greet"], "'greet' is no import string; write pkg.mod.attr or pkg.mod:attr"),
    (["--step", "nowhere.greet"], "there is no module 'nowhere'"),
    (["--step", "jobs.gret"], "jobs has no 'gret'; did you mean 'greet'?"),
    (["--step", "jobs.plain"], "jobs.plain is no action; put @action above it"),
    ([*STEP, "--callback", "jobs.on_dome"], "jobs has no 'on_dome'; did you mean 'on_done'?"),
    (["--workflow", "jobs:nope"], "jobs has no 'nope'"),
    (["--workflow", "jobs:plain"], "--workflow jobs:plain is a NoneType, not a function that returns a Workflow"),
    (["--workflow", "jobs:greet"], "--workflow jobs:greet is an action; run it with --step jobs:greet"),
    (["--workflow", "jobs:needy"], "needy needs parameters (missing a required argument: 'name')"),
]


@pytest.mark.parametrize(("words", "told"), USAGE)
def test_what_cannot_be_meant_exits_with_2_and_one_message(words: list[str], told: str, folder: Path) -> None:
    done = start(*words, code=2)
    assert told in " ".join(done.stderr.split())
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert not (folder / "calls").exists()


@pytest.mark.parametrize(
    ("words", "frame", "told"),
    [
        (["--step", "raising.deep"], "return {}['missing']", "importing raising raised KeyError: 'missing'"),
        (["--workflow", "jobs:broken"], 'raise KeyError("in the factory")', "KeyError: 'in the factory'"),
    ],
)
def test_an_error_of_the_users_module_or_factory_shows_its_traceback(words: list[str], frame: str, told: str) -> None:
    done = start(*words, code=2)
    assert frame in done.stderr
    assert told in " ".join(done.stderr.split())
    assert "importlib" not in done.stderr
    assert "/raflow/" not in done.stderr


# -- interrupts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["background", "parallel"])
def test_ctrl_c_ends_it_at_once_with_130(mode: str) -> None:
    running = program("--step", "jobs.hang", "--mode", mode)
    assert running.stderr
    lines = iter(running.stderr.readline, "")
    assert any("begun" in line for line in lines)
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: its children get it too
    out, err = running.communicate(timeout=DEADLINE_S)
    assert running.returncode == 130, err
    assert out == ""
    assert "Traceback" not in err
