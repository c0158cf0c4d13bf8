from __future__ import annotations

import pytest

from raflow.errors import FlowError
from raflow.graph import Edge, Graph, Group, Node
from raflow.render import render


def steps(*names: str) -> tuple[Node, ...]:
    return tuple(Node(name, name, "step") for name in names)


def edges(*pairs: str) -> tuple[Edge, ...]:
    return tuple(Edge(pair[0], pair[1]) for pair in pairs)


def test_a_node_stands_right_of_everything_that_leads_to_it_by_the_longest_path() -> None:
    graph = Graph("g", steps(*"abcde"), edges("ab", "bc", "ac", "cd", "ad"))
    assert [[node.id for node in layer] for layer in graph.layers()] == [["a", "e"], ["b"], ["c"], ["d"]]


def test_an_empty_graph_has_no_layers() -> None:
    assert Graph("g", ()).layers() == ()


def test_the_outline_knows_stages_and_loose_nodes() -> None:
    nodes = (Node("a", "a", "source", group="p"), Node("b", "b", "sink", group="p"), *steps("c"))
    graph = Graph("g", nodes, edges("ab", "bc"), (Group("p", "stage p"),))
    assert graph.outline() == {("group", "p"): 0, ("node", "c"): 1}


@pytest.mark.parametrize(
    ("nodes", "pairs", "groups", "message"),
    [
        (steps("a", "a"), (), (), "two nodes of the graph have the id 'a'"),
        (steps("a"), (), (Group("p", ""), Group("p", "")), "two groups of the graph have the id 'p'"),
        (steps("a"), edges("ab"), (), "an edge of the graph names the node 'b'"),
        (
            (Node("a", "a", "step", group="q"),),
            (),
            (Group("p", ""),),
            "a node of the graph names the group 'q'",
        ),
        (steps("a", "b"), edges("ab", "ba"), (), "cycle: .* → .* → "),
        (steps("a"), edges("aa"), (), "cycle: a → a"),
    ],
)
def test_a_graph_that_does_not_fit_together_is_refused(
    nodes: tuple[Node, ...], pairs: tuple[Edge, ...], groups: tuple[Group, ...], message: str
) -> None:
    with pytest.raises(FlowError, match=message):
        Graph("g", nodes, pairs, groups)


def test_a_stage_that_waits_for_itself_through_another_node_is_refused() -> None:
    nodes = (Node("a", "a", "step", group="p"), *steps("b"), Node("c", "c", "step", group="p"))
    with pytest.raises(FlowError, match="cycle: "):
        Graph("g", nodes, edges("ab", "bc"), (Group("p", "stage p"),))


def test_a_graph_draws_itself_in_every_format_and_is_a_picture_in_a_notebook() -> None:
    graph = Graph("g", steps(*"ab"), edges("ab"))
    drawn = [graph.to_text(), graph.to_mermaid(), graph.to_dot(), graph.to_svg()]
    assert drawn == [render(graph, form) for form in ("text", "mermaid", "dot", "svg")]
    assert graph._repr_html_() == graph.to_svg()


def test_the_edges_that_leave_a_node_are_in_the_order_of_the_graph() -> None:
    graph = Graph("g", steps(*"abc"), edges("ac", "ab", "bc"))
    assert graph.leaving == {"a": [Edge("a", "c"), Edge("a", "b")], "b": [Edge("b", "c")]}
