"""The HTTP side of a Flow as a graph: a frame around what its replicas answer together."""

from __future__ import annotations

from collections.abc import Iterator

from raflow.graph import Edge, Graph, Group, Node
from raflow.http.declared import HttpApp
from raflow.http.routes import joined

_FRAME = "http:"


def picture(http: HttpApp) -> Graph:
    """Return requests, functions and sinks as nodes."""
    nodes: list[Node] = []
    edges: list[Edge] = []
    for name, request, detail, sinks in _answered(http):
        own = f"{_FRAME}{request} function"
        nodes += [Node(f"{_FRAME}{request}", request, "source"), Node(own, name, "processor", detail, group=_FRAME)]
        edges.append(Edge(f"{_FRAME}{request}", own))
        for number, sink in enumerate(sinks):
            nodes.append(Node(f"{own} sink {number}", sink.partition("(")[0], "sink", sink))
            edges.append(Edge(own, f"{own} sink {number}"))
    return Graph(http.flow_id, tuple(nodes), tuple(edges), (Group(_FRAME, "HTTP replicas"),))


def _answered(http: HttpApp) -> Iterator[tuple[str, str, str, list[str]]]:
    """Yield name, request, detail and sinks of each collector and endpoint."""
    for each in http.collectors:
        yield each.name, f"{each.method} {each.route}", "collector", [repr(sink) for sink in http.all_sinks(each)]
    for service in http.services:
        for one in service.endpoints:
            path = joined(service.base_route, one.route)
            yield one.name, f"{one.method} {path}", f"service {service.service_id}", []
