"""Steps on a cluster of two nodes: on both, and on what is left when one dies."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.conftest import Cluster, finish, start

pytestmark = [pytest.mark.ray, pytest.mark.timeout(420)]  # Ray notices a dead node late

SQUARES = """
import json, sys, time
from pathlib import Path
from uuid import uuid4
import ray
from raflow import FlowSpec, needs, step

FOLDER = Path(sys.argv[1])

def squared(number):
    node = ray.get_runtime_context().get_node_id()
    (FOLDER / f"{number} {node} {uuid4()}").touch()
    while not (FOLDER / "go").exists():
        time.sleep(0.02)
    return number**2, node

class Squares(FlowSpec):
    @step(retry=2)
    def one(data):
        return squared(1)

    @step(retry=2)
    def two(data):
        return squared(2)

    @step(retry=2)
    def three(data):
        return squared(3)

    @step(retry=2)
    def four(data):
        return squared(4)

    @needs(predecessors=[one, two, three, four])
    @step
    def together(one, two, three, four):
        return [one, two, three, four]

flow = Squares("squares", None)
flow.run()
calls = [node.call for each in flow.graph.steps for node in each.nodes]
lost = {call.id: [f"{type(failure.error).__name__}: {failure.error}" for failure in call.failures] for call in calls}
print(json.dumps({"squares": flow.get_result(flow.together), "lost": lost}))
"""

LOST = """
import sys, time
from pathlib import Path
from uuid import uuid4
import numpy as np
import ray
from raflow import RayWorkflow, finish_order

FOLDER = Path(sys.argv[1])

def make(number):
    node = ray.get_runtime_context().get_node_id()
    (FOLDER / f"{number} {node} {uuid4()}").touch()
    time.sleep(0.3)
    return np.full(1_000_000, number)

def total(arrays):
    return sum(int(array[0]) for array in arrays)

def closure(make, total):
    def flow():
        arrays = [make(number) for number in range(6)]
        list(finish_order(arrays))
        (FOLDER / "made").touch()
        while not (FOLDER / "go").exists():
            time.sleep(0.02)
        return total(arrays)
    return flow

workflow = RayWorkflow(closure)
workflow.conf_activity("make", make, retry=2)
workflow.conf_activity("total", total, retry=2)
print("total", workflow.run())
"""

DIED = ("node died", "process crashed")
"""One or the other, whichever the cluster notices first."""


def begun(folder: Path) -> list[tuple[int, str]]:
    """Number and node of each time that a step has begun."""
    names = [path.name.split() for path in folder.iterdir() if " " in path.name]
    return [(int(number), node) for number, node, _ in names]


def until_on_both_nodes(process: subprocess.Popen[str], folder: Path) -> None:
    deadline = time.monotonic() + 90
    while len({node for _, node in begun(folder)}) < 2:
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline, f"begun: {begun(folder)}"
        time.sleep(0.05)


def told_by(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What it printed as JSON, whatever the cluster says after it."""
    (line,) = [line for line in finish(process).splitlines() if line.startswith('{"squares"')]
    told: dict[str, Any] = json.loads(line)
    return told


@pytest.fixture
def squares(cluster: Cluster, tmp_path: Path) -> subprocess.Popen[str]:
    """The workflow, whose steps wait for a file "go" in the folder "told"."""
    (tmp_path / "told").mkdir()
    (tmp_path / "squares.py").write_text(SQUARES)
    return start(sys.executable, str(tmp_path / "squares.py"), str(tmp_path / "told"), env=cluster.env)


NUMBERS = {1: "one_0", 2: "two_0", 3: "three_0", 4: "four_0"}


def test_independent_steps_run_on_both_nodes(squares: subprocess.Popen[str], tmp_path: Path) -> None:
    until_on_both_nodes(squares, tmp_path / "told")
    (tmp_path / "told" / "go").touch()
    told = told_by(squares)
    assert [square for square, _ in told["squares"]] == [number**2 for number in NUMBERS]
    assert len({node for _, node in told["squares"]}) == 2
    assert sorted(number for number, _ in begun(tmp_path / "told")) == list(NUMBERS)


@pytest.fixture
def totals(cluster: Cluster, tmp_path: Path) -> subprocess.Popen[str]:
    """The workflow has made its large results, some on each node, and waits for a file "go" in the folder "made"."""
    (tmp_path / "made").mkdir()
    (tmp_path / "totals.py").write_text(LOST)
    process = start(sys.executable, str(tmp_path / "totals.py"), str(tmp_path / "made"), env=cluster.env)
    deadline = time.monotonic() + 90
    while not (tmp_path / "made" / "made").exists():
        assert process.poll() is None, finish(process)
        assert time.monotonic() < deadline
        time.sleep(0.05)
    return process


def test_steps_of_a_node_that_dies_are_lost_and_done_again(
    cluster: Cluster, totals: subprocess.Popen[str], squares: subprocess.Popen[str], tmp_path: Path
) -> None:
    # The last test of this file: the cluster has one node afterwards.
    until_on_both_nodes(squares, tmp_path / "told")
    cluster.kill_second()
    before = begun(tmp_path / "told")
    (tmp_path / "told" / "go").touch()
    told = told_by(squares)
    assert [square for square, _ in told["squares"]] == [number**2 for number in NUMBERS]
    left = told["squares"][0][1]
    assert {node for _, node in told["squares"]} == {left}
    again = {number for number, node in before if node != left}
    times = Counter(number for number, _ in begun(tmp_path / "told"))
    assert times == {number: 1 + (number in again) for number in NUMBERS}
    for number in again:
        (failure,) = told["lost"][NUMBERS[number]]
        assert failure in [f"StepLost: step {NUMBERS[number]}: its worker: its {what}" for what in DIED]
    # Large results that only the dead node had are made again by the steps that had made them.
    made = begun(tmp_path / "made")
    (tmp_path / "made" / "go").touch()
    assert "total 15" in finish(totals).splitlines()
    gone = {number for number, node in made if node != left}
    assert Counter(number for number, _ in begun(tmp_path / "made")) == {n: 1 + (n in gone) for n in range(6)}
