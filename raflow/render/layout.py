"""Where things stand in a picture: boxes in columns, frames around groups, routes between them.

The columns are made twice: inside each group, where edges that leave or enter end at ports on the frame,
and then for the frames and the boxes without one. Nothing here knows SVG.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from raflow.graph import Edge, Graph, depths
from raflow.render.columns import BEND, PAD, Key, Link, Placed, Point, Rect, Size, place

TITLE = 26.0
"""What a frame's title needs at the top."""


@dataclass(frozen=True)
class Layout:
    """A picture without its looks; its upper left corner is at 0, 0."""

    width: float
    height: float
    boxes: dict[str, Rect]
    """By node id."""
    frames: dict[str, Rect]
    """By group id."""
    routes: list[list[Point]]
    """One per edge, in the graph's order, from the start's right side to the end's left side."""


def lay_out(graph: Graph, sizes: Mapping[str, Size], titles: Mapping[str, float], gap: float) -> Layout:
    """Return where everything stands.

    Args:
        graph: What to place.
        sizes: Width and height of each node's box.
        titles: Width that each group's title needs.
        gap: Between two columns.
    """
    sizes = _even(graph, sizes)
    inner = {group.id: _inside(graph, group.id, sizes, gap) for group in graph.groups if graph.members(group.id)}
    frames = {group: _frame(placed, titles[group]) for group, placed in inner.items()}
    outer = _outside(graph, sizes, inner, frames, gap)
    at = {group: outer.rects["group", group] for group in inner}
    moves = {group: (at[group].x - frame.x, at[group].y - frame.y) for group, frame in frames.items()}
    boxes = {node.id: outer.rects["node", node.id] for node in graph.members(None)}
    for group, placed in inner.items():
        boxes |= {node.id: placed.rects[node.id].moved(*moves[group]) for node in graph.members(group)}
    routes = [_route(graph, number, inner, moves, outer) for number in range(len(graph.edges))]
    width = max((rect.right for rect in outer.rects.values()), default=0.0)
    height = max((rect.bottom for rect in outer.rects.values()), default=0.0)
    return Layout(width, height, boxes, at, routes)


def _even(graph: Graph, sizes: Mapping[str, Size]) -> dict[str, Size]:
    """Return the sizes with one width per column, inside each group and outside of all."""
    column = {key[1]: number for key, number in graph.outline().items() if key[0] == "node"}
    for group in graph.groups:
        column |= depths(*_part(graph, group.id))
    place = {node.id: (node.group, column[node.id]) for node in graph.nodes}
    widest: dict[tuple[str | None, int], float] = {}
    for node, (width, _) in sizes.items():
        widest[place[node]] = max(width, widest.get(place[node], 0))
    return {node: (widest[place[node]], height) for node, (_, height) in sizes.items()}


def _part(graph: Graph, group: str) -> tuple[list[str], list[tuple[str, str]]]:
    """Return a group's nodes, and the edges between them."""
    members = [node.id for node in graph.members(group)]
    pairs = [(edge.start, edge.end) for edge in graph.edges if edge.start in members and edge.end in members]
    return members, pairs


def _inside(graph: Graph, group: str, sizes: Mapping[str, Size], gap: float) -> Placed:
    """Place the nodes of a group, with a port for each edge that enters or leaves it."""
    members, inner = _part(graph, group)
    columns: dict[Key, int] = {**depths(members, inner)}
    places: dict[Key, Size] = {node: sizes[node] for node in members}
    last = max(columns.values())
    links = []
    for number, edge in enumerate(graph.edges):
        start, end = ports = _ends(edge, number, members)
        if ports != (("in", number), ("out", number)):
            columns |= {port: -1 if port[0] == "in" else last + 1 for port in ports if isinstance(port, tuple)}
            places |= {port: (0.0, BEND) for port in ports if isinstance(port, tuple)}
            links.append(Link(number, start, end))
    return place(places, columns, links, gap)


def _ends(edge: Edge, number: int, members: Collection[str]) -> tuple[Key, Key]:
    """Return the ends of an edge as a group sees them: ports in place of what is outside."""
    start = edge.start if edge.start in members else ("in", number)
    end = edge.end if edge.end in members else ("out", number)
    return start, end


def _frame(placed: Placed, title: float) -> Rect:
    """Return the frame around a group's boxes; its ports are on its sides."""
    boxes = [rect for rect in placed.rects.values() if rect.width]
    left, right = min(rect.x for rect in boxes) - PAD, max(rect.right for rect in boxes) + PAD
    bottom = max(rect.bottom for rect in placed.rects.values()) + PAD
    return Rect(left, -TITLE - PAD / 2, max(right - left, title + 2 * PAD), bottom + TITLE + PAD / 2)


def _outside(
    graph: Graph,
    sizes: Mapping[str, Size],
    inner: Mapping[str, Placed],
    frames: Mapping[str, Rect],
    gap: float,
) -> Placed:
    """Place the frames, and the boxes without one."""
    places: dict[Key, Size] = {("group", group): (rect.width, rect.height) for group, rect in frames.items()}
    places |= {("node", node.id): sizes[node.id] for node in graph.members(None)}
    columns: dict[Key, int] = dict(graph.outline().items())
    links = []
    for number, edge in enumerate(graph.edges):
        start, end = graph.owner(edge.start), graph.owner(edge.end)
        if start != end:
            below = [
                inner[owner[1]].rects[port, number].middle - frames[owner[1]].middle if owner[0] == "group" else 0.0
                for owner, port in ((start, "out"), (end, "in"))
            ]
            links.append(Link(number, start, end, *below))
    return place(places, columns, links, gap)


def _route(
    graph: Graph, number: int, inner: Mapping[str, Placed], moves: Mapping[str, Point], outer: Placed
) -> list[Point]:
    """Return the points of an edge: out of its first group, between groups, into its last."""
    edge = graph.edges[number]
    first, last = graph.by_id[edge.start].group, graph.by_id[edge.end].group
    points: list[Point] = []
    if first is not None:
        points += _moved(inner[first].routes[number], moves[first])
    points += outer.routes.get(number, [])
    if last is not None and last != first:
        points += _moved(inner[last].routes[number], moves[last])
    return points


def _moved(points: list[Point], move: Point) -> list[Point]:
    return [(x + move[0], y + move[1]) for x, y in points]
