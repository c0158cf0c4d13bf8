# mypy: disable-error-code="misc"
from __future__ import annotations

from typing import Any

from raflow.metrics import Status
from raflow.workflows.spec import STATUS_PENDING, Configuration, FlowNode, FlowSpec, app, foreach, join, needs, step
from raflow.workflows.spec.nodes import WORDS


class Fan(FlowSpec):
    @foreach
    @step
    def items(data: Any) -> Any:
        return data

    @needs(predecessors=[items])
    @step
    def double(item: int) -> int:
        return item * 2

    @join
    @needs(predecessors=[double])
    @step
    def total(rows: list[list[int]]) -> int:
        return sum(number for (number,) in rows)

    @app("solve.py:run", bypass_result={"cost": 1})
    @needs(predecessors=[total])
    @step
    def solve() -> None: ...


def test_every_status_has_a_word() -> None:
    assert set(WORDS) == set(Status)


def test_a_node_of_its_own_is_pending() -> None:
    flow = Fan("fan", [1])
    node = FlowNode(flow.graph.find(flow.double), 3)
    assert (node.id, node.index, node.parent.id, node.status) == ("double_3", 3, "double", STATUS_PENDING)
    assert (node.error, node.predecessors, node.run_id, node.result) == (None, [], None, None)
    assert (node.done, node.cancel) == (False, False)


def test_nodes_of_a_run_are_filled(engine: str) -> None:
    flow = Fan("fan", [1, 2, 3], Configuration(engine=engine))
    flow.run()
    items, double, total, solve = (step.nodes for step in flow.graph.steps)
    assert [node.id for node in double] == ["double_0", "double_1", "double_2"]
    assert [node.result for node in double] == [2, 4, 6]
    assert [node.status for node in (*items, *double, *total, *solve)] == ["succeeded"] * 6
    assert [node.predecessors for node in double] == [items] * 3
    assert total[0].predecessors == double
    assert all(node.done and not node.cancel and node.error is None for node in double)
    assert total[0].run_id is None
    assert solve[0].run_id
    assert solve[0].predecessors == total


def test_a_result_is_a_new_copy_each_time() -> None:
    flow = Fan("fan", [1, 2], Configuration(engine="local"))
    flow.run()
    node = flow.graph.find(flow.items).nodes[0]
    node.result.clear()
    assert node.result == [1, 2]
