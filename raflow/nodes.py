"""What a Flow is made of inside: each node is one thing that is done to records.

Processors and streams both come down to nodes; `raflow.plan` makes stages of them. A node knows the nodes
before it, never those after it, so nodes cannot make a circle.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raflow.code import Code
from raflow.decorated import name_of
from raflow.operators.contract import Narrow, Wide
from raflow.operators.passing import Union
from raflow.operators.sort import Sort
from raflow.sinks import Sink
from raflow.sources import Source


@dataclass(frozen=True, eq=False)
class Node:
    """One thing that is done to records. Compared by identity: two equal ones do their work twice."""

    work: Source | Code | Narrow | Wide
    inputs: tuple[Node, ...] = ()
    """Where its records come from: none for a source, one per input of a `Wide`; else their union."""
    sinks: tuple[Sink, ...] = ()
    """Each gets all its results."""
    name: str = ""
    """A processor's name; the plan names the others."""
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options that were given, without defaults."""


def ancestry(nodes: Iterable[Node]) -> Iterator[Node]:
    """Yield the nodes and all before them, each once, the earlier ones first."""
    seen: set[Node] = set()
    waiting = [(node, False) for node in reversed(list(nodes))]
    while waiting:
        node, visited = waiting.pop()
        if visited:
            yield node
        elif node not in seen:
            seen.add(node)
            waiting.append((node, True))
            waiting += [(one, False) for one in reversed(node.inputs)]


def united(nodes: Sequence[Node]) -> Node:
    """Return a node with all records of several; those of one that is there twice come twice."""
    if len(nodes) == 1:
        return nodes[0]
    inputs: dict[Node, None] = {}
    for node in nodes:
        inputs[Node(Union(), (node,)) if node in inputs else node] = None
    return Node(Union(), tuple(inputs))


def title_of(function: Any) -> str:
    """Return the name of a function that was given none."""
    return name_of(function).strip("<>")


def is_sorted(node: Node) -> bool:
    """Return whether nothing that changes the order comes after a sort."""
    while len(node.inputs) == 1 and not isinstance(node.work, Wide):
        node = node.inputs[0]
    return isinstance(node.work, Sort)


def label(work: Source | Code | Narrow | Wide) -> str:
    """Return what is done, in a few words."""
    if isinstance(work, Code):
        return title_of(work.function)
    return repr(work) if isinstance(work, Source) else work.label


def said(node: Node) -> str:
    """Return what is done up to a node, in a line."""
    return " → ".join(one.name or label(one.work) for one in ancestry([node]))
