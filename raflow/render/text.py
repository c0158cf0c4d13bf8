"""A graph as trees for terminals, one paragraph per group."""

from __future__ import annotations

from collections.abc import Iterator

from raflow.graph import Edge, Graph, Node
from raflow.render.state import lines

_SIGNS = {"source": "○", "processor": "●", "sink": "◆", "step": "●"}

DEEPEST = 100
"""Columns of indentation; what lies deeper begins at the left again, behind `⋯`."""


def draw(graph: Graph) -> str:
    """Return the graph's name and the trees of its nodes."""
    paragraphs = [[graph.name]]
    paragraphs += [[group.label, *_trees(graph, group.id)] for group in graph.groups]
    if graph.members(None):
        paragraphs.append(_trees(graph, None))
    return "\n\n".join("\n".join(lines) for lines in paragraphs) + "\n"


def _trees(graph: Graph, group: str | None) -> list[str]:
    """Return the lines of a group's nodes, with their details in one column."""
    reached = {edge.end for edge in graph.edges if graph.by_id[edge.start].group == group}
    roots = [node for node in graph.members(group) if node.id not in reached]
    rows = list(_rows(graph, group, roots))
    width = max((len(head) for head, _ in rows), default=0)
    return [f"  {head:{width}}  {detail}".rstrip() for head, detail in rows]


def _rows(graph: Graph, group: str | None, roots: list[Node]) -> Iterator[tuple[str, str]]:
    """Yield head and detail of each line: a node stands under the first one that leads to it."""
    drawn: set[str] = set()
    waiting: list[tuple[Node, str, str]] = [(node, "", "") for node in reversed(roots)]
    while waiting:
        node, arrow, indent = waiting.pop()
        head = f"{arrow}{_SIGNS[node.kind]} {node.label}"
        if node.group != group or node.id in drawn:
            yield head, "above" if node.group == group else _place(graph, node)
            continue
        drawn.add(node.id)
        yield head, " · ".join(lines(node))
        waiting += reversed(_children(graph, node, indent))


def _children(graph: Graph, node: Node, indent: str) -> list[tuple[Node, str, str]]:
    edges = graph.leaving.get(node.id, [])
    indent = indent if len(indent) < DEEPEST else "⋯ "
    return [
        (
            graph.by_id[edge.end],
            indent + _arrow(edge, last=edge is edges[-1]),
            indent + _gap(last=edge is edges[-1]),
        )
        for edge in edges
    ]


def _arrow(edge: Edge, *, last: bool) -> str:
    return ("└─" if last else "├─") + (f" {edge.label} ─▶ " if edge.label else "▶ ")


def _gap(*, last: bool) -> str:
    return "    " if last else "│   "


def _place(graph: Graph, node: Node) -> str:
    return next((f"in {group.label}" for group in graph.groups if group.id == node.group), "below")
