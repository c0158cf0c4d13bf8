# mypy: disable-error-code="misc"
"""A flow with an uplink tells a real server how its runs go; the uplink's own tests are in test_uplink.py."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from raflow.errors import FlowFailed
from raflow.workflows.spec import Configuration, FlowSpec, UplinkConfig, app, foreach, needs, step
from tests.workflows.test_uplink import dead, serving

BOUND_S = 10


class Told(FlowSpec):
    @foreach
    @step
    def items(data: Any) -> Any:
        """The items."""
        return data

    @needs(predecessors=[items])
    @step
    def invert(item: int) -> float:
        return 1 / item

    @app("solve.py:run", bypass_result=1)
    @needs(predecessors=[items])
    @step
    def solve() -> None: ...


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


def last_state(given: list[int], runs: int = 1) -> Any:
    """Run, and return what the server was told last."""
    with serving() as server:
        flow = Told("told", given, Configuration(engine="local"), uplink_config=UplinkConfig(server.url, "app", "run"))
        for _ in range(runs):
            try:
                flow.run()
            except FlowFailed:
                assert 0 in given
        states = [server.requests.get() for _ in range(server.requests.qsize())]
    assert {state.path for state in states} == {"/v1/internal/applications/app/runs/run/flow"}
    return states[-1].body["pipeline_graph"]


def test_the_server_knows_the_graph_and_all_nodes_when_run_returns() -> None:
    began = time.monotonic()
    state = last_state([1, 2])
    assert time.monotonic() - began < BOUND_S / 2
    assert state["steps"] == [
        {"id": "items", "predecessors": [], "docs": "The items."},
        {"id": "invert", "predecessors": ["items"]},
        {"id": "solve", "predecessors": ["items"], "app_id": "solve.py:run"},
    ]
    nodes = {node["id"]: node for node in state["nodes"]}
    assert sorted(nodes) == ["invert_0", "invert_1", "items_0", "solve_0", "solve_1"]
    assert {node["status"] for node in nodes.values()} == {"succeeded"}
    assert nodes["invert_1"]["predecessor_ids"] == ["items_0"]
    assert nodes["solve_0"]["run_id"]
    assert "run_id" not in nodes["invert_0"]


def test_each_run_is_told() -> None:
    assert len(last_state([1, 2], runs=2)["nodes"]) == 5


def test_the_server_knows_of_a_failure_when_run_raises() -> None:
    nodes = {node["id"]: node["status"] for node in last_state([1, 0])["nodes"]}
    assert nodes["invert_1"] == "failed"


@pytest.mark.parametrize("given", [[1, 2], [0], [1] * 51])
def test_a_dead_server_neither_fails_nor_holds_up_a_run(given: list[int]) -> None:
    flow = Told("told", given, Configuration(engine="local"), uplink_config=UplinkConfig(dead()))
    began = time.monotonic()
    if given == [1, 2]:
        flow.run()
    else:
        with pytest.raises(FlowFailed, match="invert_"):
            flow.run()
    assert time.monotonic() - began < BOUND_S
    assert [thread.name for thread in threading.enumerate() if thread.name == "raflow uplink"] == []
