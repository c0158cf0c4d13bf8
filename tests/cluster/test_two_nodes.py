"""Flows on a cluster of two nodes: as jobs, on both nodes, and on what is left when one dies."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from tests.cluster.conftest import CLUSTER, Cluster, finish, start

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]  # Ray notices a dead node late

RECORDS = 4000
FAILING = """
from places import here
from raflow import Flow
from raflow.connectors.memory import MemorySource

app = Flow("failing")


@app.consumer(source=MemorySource([{"n": 1}]), num_cpus=0)
def fail(record: dict) -> None:
    raise ValueError(f"no such luck in {here()['code']}")
"""
SOLVER = """
import os
import time


def solve(given, **options):
    print("solving")
    return {"length": len(given["text"]), "options": options, "pid": os.getpid()}


def crash(given):
    raise ValueError(f"cannot solve {given}")


def stay(given):
    with open(given, "w") as file:
        file.write(str(os.getpid()))
    time.sleep(100)
"""
APPS = """
import json
import os
import sys
import threading
from raflow import AppRunConfig, Configuration, FlowSpec, app, needs, step
from raflow.workflows.spec import PollingOptions, RayJobs

CODE, MARK = sys.argv[1:]
COMMAND = [sys.executable, "-c", "import sys; print('half way', file=sys.stderr); print(sys.stdin.read())"]
LOCAL = Configuration(engine="local")


class Solves(FlowSpec):
    @step(num_cpus=0)
    def text(data):
        return AppRunConfig({"text": data}, {"limit": 2})

    @app(
        "solver.py:solve",
        options={"limit": 1, "fast": True},
        full_result=True,
        run_configuration={"entrypoint_num_cpus": 0.1},
    )
    @needs([text])
    @step
    def function(): ...


class Command(FlowSpec):
    @app(COMMAND, emit_live_logs=True)
    @step
    def command(): ...


class Crashes(FlowSpec):
    @app("solver.py:crash")
    @step
    def crash(): ...


class Stays(FlowSpec):
    @app("solver.py:stay", polling_options=PollingOptions(stop=lambda: os.path.exists(MARK)))
    @step
    def stay(): ...


def run(flow):
    try:
        flow.run()
    except Exception as error:
        told[flow.name] = str(error)


if __name__ == "__main__":
    client, told = RayJobs(working_dir=CODE), {}
    solves = Solves("solves", "x" * 300_000, client=client)
    command = Command("command", {"a": [1, None]}, LOCAL, client)
    flows = [solves, command, Crashes("crashes", 1, LOCAL, client), Stays("stays", MARK, LOCAL, client)]
    threads = [threading.Thread(target=run, args=(flow,)) for flow in flows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    solved = solves.get_result(solves.function)
    print(json.dumps({
        "function": solved.output, "logs": solved.logs,
        "command": command.get_result(command.command), "errors": told, "pid": os.getpid(),
    }))
"""
STEPS = """
import json
import os
import ray
from places import here
from raflow import Workflow, action


@action(num_cpus=0)
def place(initial_context):
    return {**here(), "cluster": ray.get_runtime_context().gcs_address, "driver": initial_context.storage}


def make():
    workflow = Workflow()
    workflow.task.add(place, initial_context=os.getpid())
    return workflow
"""


def rows(output: str | Path) -> pa.Table:
    table = ds.dataset(output).to_table()
    assert sorted(table["n"].to_pylist()) == list(range(RECORDS))
    return table


def seen(output: Path) -> set[str]:
    """The nodes of which a reader sees rows."""
    files = [str(path) for path in output.glob("*.parquet")]
    return set(ds.dataset(files).to_table(columns=["node"])["node"].to_pylist()) if files else set()


@pytest.fixture(scope="module")
def jobs(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> dict[str, subprocess.Popen[str]]:
    """Three jobs, submitted at the same time with a folder that only they know, and a program that submits more."""
    code = tmp_path_factory.mktemp("code")
    for name in ("spread.py", "places.py"):
        shutil.copy(CLUSTER / name, code)
    (code / "failing.py").write_text(FAILING)
    (code / "steps.py").write_text(STEPS)
    submit = ("ray", "job", "submit", "--working-dir", str(code), "--", "raflow")
    lines = {
        "spread": ["run", "spread.py"],
        "failing": ["run", "failing.py"],
        "steps": ["start", "--workflow", "steps:make", "--mode", "parallel"],
    }
    (code / "solver.py").write_text(SOLVER)
    program = tmp_path_factory.mktemp("apps") / "apps.py"
    program.write_text(APPS)
    apps = start(sys.executable, str(program), str(code), str(program.parent / "pid"), env=cluster.env)
    return {name: start(*submit, *line, env=cluster.env) for name, line in lines.items()} | {"apps": apps}


def test_a_flow_runs_as_a_job_on_both_nodes_and_its_code_travels(
    cluster: Cluster, jobs: dict[str, subprocess.Popen[str]]
) -> None:
    printed = finish(jobs["spread"])
    assert "succeeded in" in printed
    assert "on the ray engine" in printed
    table = rows(cluster.env["OUTPUT"])
    assert len(set(table["node"].to_pylist())) == 2
    assert len(set(table["process"].to_pylist())) == 2
    assert all("runtime_resources" in folder for folder in set(table["code"].to_pylist()))


def test_a_flow_that_fails_makes_its_job_fail_with_the_users_traceback(
    jobs: dict[str, subprocess.Popen[str]],
) -> None:
    printed = finish(jobs["failing"], code=1)
    assert "ValueError: no such luck in" in printed
    assert 'failing.py", line' in printed
    assert "processor fail, replica fail[0]" in printed


def test_steps_of_a_job_run_in_its_cluster_and_their_code_travels(
    cluster: Cluster, jobs: dict[str, subprocess.Popen[str]]
) -> None:
    printed = finish(jobs["steps"])
    result = json.loads(next(line for line in printed.splitlines() if line.startswith("{")))
    assert result["cluster"].rpartition(":")[2] == cluster.env["RAY_ADDRESS"].rpartition(":")[2]
    assert result["process"] != result["driver"]
    assert "runtime_resources" in result["code"]
    assert "Completed (1 Completed)" in printed


def test_apps_of_a_flow_run_as_jobs_of_the_cluster(jobs: dict[str, subprocess.Popen[str]]) -> None:
    printed = finish(jobs["apps"])
    told = json.loads(next(line for line in printed.splitlines() if line.startswith('{"function"')))
    assert told["function"]["length"] == 300_000
    assert told["function"]["options"] == {"limit": "2", "fast": "True"}
    assert told["function"]["pid"] != told["pid"]
    assert "solving\n" in told["logs"]
    assert told["command"] == {"a": [1, None]}
    assert "[command_0] half way" in printed
    assert "failed: ValueError: cannot solve 1" in told["errors"]["crashes"]
    assert "given up, as stop of its polling options said" in told["errors"]["stays"]


def test_the_job_of_an_app_that_was_given_up_ends(jobs: dict[str, subprocess.Popen[str]]) -> None:
    jobs["apps"].wait(150)
    pid = int((Path(str(jobs["apps"].args[1])).parent / "pid").read_text())  # type: ignore[index]
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=60)
    assert not psutil.pid_exists(pid)


def test_a_local_folder_is_refused_unless_all_nodes_share_it(cluster: Cluster, tmp_path: Path) -> None:
    env = {**cluster.env, "OUTPUT": str(tmp_path / "out"), "SHARED": "no"}
    printed = finish(start("raflow", "run", str(CLUSTER / "spread.py"), env=env), code=1)
    assert f"'{tmp_path / 'out'}'" in printed
    assert "is a local path, but the cluster has 2 nodes" in printed
    assert "FlowOptions(shared_path=True)" in printed
    assert list((tmp_path / "out").glob("*.parquet")) == []


def test_a_node_that_dies_costs_no_row_and_doubles_none(cluster: Cluster, tmp_path: Path) -> None:
    # The last test of this file: the cluster has one node afterwards.
    marks, gate = tmp_path / "marks", tmp_path / "gate"
    marks.mkdir()
    env = {**cluster.env, "OUTPUT": str(tmp_path / "out"), "SECONDS": "0.2", "MARKS": str(marks), "GATE": str(gate)}
    grouped = start("raflow", "run", str(CLUSTER / "exchange.py"), env={**env, "OUTPUT": str(tmp_path / "groups")})
    until(grouped, lambda: all(len(at(marks, what)) == 2 for what in ("given", "group")))
    spread = start("raflow", "run", str(CLUSTER / "spread.py"), "--set", "spread.num_cpus=0.4", env=env)
    until(spread, lambda: len(seen(tmp_path / "out")) == 2)
    nodes = seen(tmp_path / "out")
    cluster.kill_second()
    printed = finish(spread)
    assert "1 lost" in printed
    assert set(rows(tmp_path / "out")["node"].to_pylist()) == nodes
    # The pieces that the dead node had of an exchange are made again; each group is there once, and whole.
    gate.touch()
    assert "is lost; they are done again" in finish(grouped)
    groups = ds.dataset(tmp_path / "groups").to_table().sort_by("key")
    assert groups["key"].to_pylist() == list(range(20))
    assert groups["total"].to_pylist() == [sum(range(key, RECORDS, 20)) for key in range(20)]
    assert len(set(groups["node"].to_pylist())) == 1


def until(process: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Wait for something that happens while a run goes on."""
    while not condition():
        assert process.poll() is None, f"the run ended too early: {finish(process)}"
        time.sleep(0.1)


def at(marks: Path, what: str) -> set[str]:
    """The nodes on which a function was called."""
    return {path.name.split()[1] for path in marks.glob(f"{what} *")}
