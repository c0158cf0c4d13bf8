"""A graph as a Mermaid flowchart, for Markdown pages."""

from __future__ import annotations

import json

from raflow.graph import Edge, Graph, Kind, Node
from raflow.render.colours import COLOURS

_SHAPES = {"source": ("[(", ")]"), "processor": ("[", "]"), "sink": ("[(", ")]"), "step": ("([", "])")}


def draw(graph: Graph) -> str:
    """Return the text of a left-to-right flowchart."""
    keys = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    lines = ["---", f"title: {json.dumps(graph.name)}", "---", "flowchart LR"]
    for number, group in enumerate(graph.groups):
        lines.append(f"  subgraph g{number}[{_quoted(group.label)}]")
        lines += [f"    {_node(keys[node.id], node)}" for node in graph.members(group.id)]
        lines.append("  end")
    lines += [f"  {_node(keys[node.id], node)}" for node in graph.members(None)]
    lines += [f"  {keys[edge.start]} -->{_label(edge)} {keys[edge.end]}" for edge in graph.edges]
    lines += [f"  {_class(kind)}" for kind in sorted({node.kind for node in graph.nodes})]
    return "\n".join(lines) + "\n"


def _node(key: str, node: Node) -> str:
    left, right = _SHAPES[node.kind]
    detail = f"<br/><small>{_escaped(node.detail)}</small>" if node.detail else ""
    return f'{key}{left}"{_escaped(node.label)}{detail}"{right}:::{node.kind}'


def _class(kind: Kind) -> str:
    fill, line, text = COLOURS[kind]
    return f"classDef {kind} fill:{fill},stroke:{line},color:{text}"


def _label(edge: Edge) -> str:
    return f"|{_quoted(edge.label)}|" if edge.label else ""


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Return text in which Mermaid's own characters are written as entities."""
    special = '"#&<>`|'
    return "".join(f"#{ord(char)};" if char in special else char for char in text.replace("\n", " "))
