# mypy: disable-error-code="misc"
from __future__ import annotations

import pickle
from typing import Any

import pytest

from raflow.errors import InvalidOption, InvalidStep, UnknownStep
from raflow.workflows.spec import Configuration, FlowGraph, FlowSpec, Runner, foreach, needs, repeat, step
from raflow.workflows.spec.client import LocalClient


class Small(FlowSpec):
    @foreach
    @step
    def items(data: Any) -> Any:
        return data

    @needs(predecessors=[items])
    @step
    def each(item: int) -> int:
        return item

    @repeat(1)
    @step
    def once(data: Any) -> str:
        return "once"

    def helps(self) -> None: ...


class Other(FlowSpec):
    @step
    def items(data: Any) -> Any:
        return data


def test_a_flow_has_what_it_was_made_of() -> None:
    conf = Configuration(4, 10, "local")
    flow = Small("small", {"a": 1}, conf)
    assert (flow.name, flow.input, flow.config, flow.uplink.is_active) == ("small", {"a": 1}, conf, False)
    assert isinstance(flow.graph, FlowGraph)
    assert isinstance(flow.runner, Runner)
    assert isinstance(flow.client, LocalClient)
    assert (flow.runner.spec, flow.runner.graph, flow.runner.uplink) == (flow, flow.graph, flow.uplink)
    assert (flow.runner.pool, flow.runner.jobs, flow.runner.node_idxs, flow.runner.fail) == (None, [], {}, False)
    assert not flow.runner.lock_fail.locked()
    assert not flow.runner.lock_running.locked()


def test_the_defaults_of_a_configuration() -> None:
    conf = Configuration()
    assert (conf.thread_count, conf.max_step_inputs, conf.engine) == (0, 50, "auto")


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(InvalidOption, match="no engine 'spark'"):
        Configuration(engine="spark")


def test_auto_takes_the_engine_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAFLOW_ENGINE", "local")
    flow = Small("small", [1])
    flow.run()
    assert flow.runner.pool is not None
    assert flow.runner.pool.name == "local"


def test_results_are_none_before_a_run_and_the_same_when_asked_again() -> None:
    flow = Small("small", [7], Configuration(engine="local"))
    assert flow.get_result(flow.items) is None
    flow.run()
    for _ in range(2):
        assert flow.get_result(flow.items) == [7]
        assert flow.get_result(flow.each) == [7]
        assert flow.get_result(flow.once) == ["once"]
        assert flow.get_result(Small.each) == [7]


def test_results_of_what_is_no_step_are_refused() -> None:
    flow = Small("small", [7])
    for wrong in (flow.helps, len, 3):
        with pytest.raises(InvalidStep, match="no step"):
            flow.get_result(wrong)
    with pytest.raises(UnknownStep, match="Small has no step items; it has: items, each, once"):
        flow.get_result(Other.items)


def test_a_pickled_flow_is_what_steps_see() -> None:
    seen = pickle.loads(pickle.dumps(Small("small", [7])))
    assert (seen.name, seen.input) == ("small", [7])
    with pytest.raises(AttributeError, match=r"self.runner is not there within a step"):
        assert seen.runner
    with pytest.raises(AttributeError, match="Small has no attribute 'wrong'"):
        assert seen.wrong
