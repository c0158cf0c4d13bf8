"""A graph in Graphviz' language, for documents."""

from __future__ import annotations

from raflow.graph import Edge, Graph, Node
from raflow.render.colours import colours
from raflow.render.state import lines


def draw(graph: Graph) -> str:
    """Return the text of a digraph with one cluster per group."""
    lines = [f"digraph {_quoted(graph.name)} {{", "  rankdir=LR", '  fontname="sans-serif"']
    lines.append('  node [shape=box style="rounded,filled" fontname="sans-serif"]')
    lines.append('  edge [color="#64748b" fontname="sans-serif" fontsize=10]')
    for number, group in enumerate(graph.groups):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f'    label={_quoted(group.label)} style=rounded color="#94a3b8"')
        lines += [f"    {_node(node)}" for node in graph.members(group.id)]
        lines.append("  }")
    lines += [f"  {_node(node)}" for node in graph.members(None)]
    lines += [f"  {_edge(edge)}" for edge in graph.edges]
    return "\n".join([*lines, "}"]) + "\n"


def _node(node: Node) -> str:
    fill, line, text = colours(node)
    label = "\n".join([node.label, *lines(node)])
    return f'{_quoted(node.id)} [label={_quoted(label)} fillcolor="{fill}" color="{line}" fontcolor="{text}"]'


def _edge(edge: Edge) -> str:
    label = f" [label={_quoted(edge.label)}]" if edge.label else ""
    return f"{_quoted(edge.start)} -> {_quoted(edge.end)}{label}"


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
