"""A graph as a Mermaid flowchart, for Markdown pages."""

from __future__ import annotations

import json

from raflow.graph import Edge, Graph, Node
from raflow.render.colours import colours
from raflow.render.state import lines

_SHAPES = {"source": ("[(", ")]"), "processor": ("[", "]"), "sink": ("[(", ")]"), "step": ("([", "])")}


def draw(graph: Graph) -> str:
    """Return the text of a left-to-right flowchart."""
    keys = {node.id: f"n{number}" for number, node in enumerate(graph.nodes)}
    text = ["---", f"title: {json.dumps(graph.name)}", "---", "flowchart LR"]
    for number, group in enumerate(graph.groups):
        text.append(f"  subgraph g{number}[{_quoted(group.label)}]")
        text += [f"    {_node(keys[node.id], node)}" for node in graph.members(group.id)]
        text.append("  end")
    text += [f"  {_node(keys[node.id], node)}" for node in graph.members(None)]
    text += [f"  {keys[edge.start]} -->{_label(edge)} {keys[edge.end]}" for edge in graph.edges]
    text += sorted({f"  {_class(node)}" for node in graph.nodes})
    return "\n".join(text) + "\n"


def _node(key: str, node: Node) -> str:
    left, right = _SHAPES[node.kind]
    below = "".join(f"<br/><small>{_escaped(line)}</small>" for line in lines(node))
    return f'{key}{left}"{_escaped(node.label)}{below}"{right}:::{_look(node)}'


def _look(node: Node) -> str:
    return node.kind if node.status is None else node.status.value


def _class(node: Node) -> str:
    fill, line, text = colours(node)
    return f"classDef {_look(node)} fill:{fill},stroke:{line},color:{text}"


def _label(edge: Edge) -> str:
    return f"|{_quoted(edge.label)}|" if edge.label else ""


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Return text in which Mermaid's own characters are written as entities."""
    special = '"#&<>`|'
    return "".join(f"#{ord(char)};" if char in special else char for char in text.replace("\n", " "))
