"""One picture of what a Flow or workflow does: nodes, edges and groups. `raflow.render` draws it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import Literal, TypeAlias, TypeVar

from raflow.errors import FlowError
from raflow.metrics import Status

Kind: TypeAlias = Literal["source", "processor", "sink", "step"]
"""What a node stands for; decides its colour and shape."""

Key = TypeVar("Key", bound=Hashable)


@dataclass(frozen=True)
class Node:
    """One box of a picture."""

    id: str
    """Unique in the graph; not shown."""
    label: str
    """The first line, e.g. the processor's name."""
    kind: Kind
    """What it stands for."""
    detail: str = ""
    """The second line, e.g. a path or types."""
    group: str | None = None
    """Id of the group that it belongs to."""
    status: Status | None = None
    """Where it stands; None: the picture is of a description, not of a run."""
    summary: str = ""
    """Said in place of the status, e.g. `98 succeeded, 2 failed`."""
    duration_s: float | None = None
    """How long it took, or has taken so far."""
    attempts: int = 0
    """Attempts that were begun."""
    error: str = ""
    """Why it failed, in one line."""


@dataclass(frozen=True)
class Edge:
    """An arrow between two nodes, by their ids."""

    start: str
    end: str
    label: str = ""
    """Shown on the arrow."""


@dataclass(frozen=True)
class Group:
    """A frame around nodes: a stage, whose nodes run in one replica."""

    id: str
    label: str


@dataclass(frozen=True)
class Graph:
    """Nodes, edges and groups that fit together.

    Raises:
        FlowError: An id is used twice, an edge or group leads nowhere, or there is a cycle (also one
            through a group: a stage cannot wait for itself).
    """

    name: str
    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...] = ()
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        nodes, groups = [node.id for node in self.nodes], [group.id for group in self.groups]
        _check_unique("nodes", nodes)
        _check_unique("groups", groups)
        _check_known("an edge", "node", nodes, (end for edge in self.edges for end in (edge.start, edge.end)))
        _check_known("a node", "group", groups, (node.group for node in self.nodes if node.group))
        depths([node.id for node in self.nodes], [(edge.start, edge.end) for edge in self.edges])
        self.outline()

    @cached_property
    def by_id(self) -> dict[str, Node]:
        """The nodes by their ids."""
        return {node.id: node for node in self.nodes}

    @cached_property
    def leaving(self) -> dict[str, list[Edge]]:
        """The edges by the ids of the nodes at which they start."""
        found: dict[str, list[Edge]] = defaultdict(list)
        for edge in self.edges:
            found[edge.start].append(edge)
        return dict(found)

    def members(self, group: str | None) -> list[Node]:
        """Return the nodes of one group, or those of none."""
        return [node for node in self.nodes if node.group == group]

    def layers(self) -> tuple[tuple[Node, ...], ...]:
        """Return the nodes in columns: each one right of everything that leads to it.

        A node's column is the length of the longest path that leads to it.
        """
        depth = depths([node.id for node in self.nodes], [(edge.start, edge.end) for edge in self.edges])
        columns: list[list[Node]] = [[] for _ in range(max(depth.values(), default=-1) + 1)]
        for node in self.nodes:
            columns[depth[node.id]].append(node)
        return tuple(map(tuple, columns))

    def owner(self, node: str) -> tuple[str, str]:
        """Return `("group", id)` of a node's group, or `("node", id)` if it has none."""
        group = self.by_id[node].group
        return ("node", node) if group is None else ("group", group)

    def outline(self) -> dict[tuple[str, str], int]:
        """Return groups and ungrouped nodes, as `owner` names them, with their columns."""
        pairs = [(self.owner(edge.start), self.owner(edge.end)) for edge in self.edges]
        owners = dict.fromkeys(self.owner(node.id) for node in self.nodes)
        return depths(owners, [(start, end) for start, end in pairs if start != end])

    def to_text(self) -> str:
        """Return it as trees for a terminal."""
        return self._drawn("text")

    def to_mermaid(self) -> str:
        """Return it as a Mermaid flowchart, for Markdown pages."""
        return self._drawn("mermaid")

    def to_dot(self) -> str:
        """Return it in Graphviz' language; the program itself is not needed."""
        return self._drawn("dot")

    def to_svg(self) -> str:
        """Return it as an SVG document, made without a browser or another program."""
        return self._drawn("svg")

    def _repr_html_(self) -> str:
        return self._drawn("svg")

    def _drawn(self, form: Literal["text", "mermaid", "dot", "svg"]) -> str:
        from raflow.render import render

        return render(self, form)


def depths(items: Collection[Key], edges: Iterable[tuple[Key, Key]]) -> dict[Key, int]:
    """Return the length of the longest path that leads to each item.

    Raises:
        FlowError: The edges make a cycle.
    """
    before: dict[Key, list[Key]] = {item: [] for item in items}
    for start, end in edges:
        before[end].append(start)
    depth: dict[Key, int] = {}
    try:
        for item in TopologicalSorter(before).static_order():
            depth[item] = 1 + max((depth[start] for start in before[item]), default=-1)
    except CycleError as error:
        around = " → ".join(str(item[1] if isinstance(item, tuple) else item) for item in error.args[1])
        msg = f"the graph has a cycle: {around}; remove one of its edges"
        raise FlowError(msg) from error
    return depth


def _check_unique(what: str, ids: list[str]) -> None:
    twice = [name for name, times in Counter(ids).items() if times > 1]
    if twice:
        msg = f"two {what} of the graph have the id {twice[0]!r}; give each its own"
        raise FlowError(msg)


def _check_known(what: str, kind: str, known: list[str], wanted: Iterable[str]) -> None:
    there = set(known)
    missing = [name for name in wanted if name not in there]
    if missing:
        msg = f"{what} of the graph names the {kind} {missing[0]!r}, which it does not have; it has {known}"
        raise FlowError(msg)
