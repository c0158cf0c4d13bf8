"""What is answered over HTTP as a picture, beside the data side."""

from __future__ import annotations

from typing import Any

from raflow import Flow
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.drawing import _of_flow
from raflow.http.declared import HttpApp
from raflow.http.picture import picture


def same(record: dict[str, Any]) -> dict[str, Any]:
    return record


def who() -> str:
    return "me"


def served() -> Flow:
    flow = Flow("served")
    flow.collector("/records", sink=MemorySink(), name="records")(same)
    for base in ("/a", "/b"):
        flow.service(base).endpoint("/who")(who)
    return flow


def test_requests_lead_to_functions_and_these_to_sinks() -> None:
    graph = picture(HttpApp.of(served()))
    labels = {node.id: node.label for node in graph.nodes}
    assert [(labels[edge.start], labels[edge.end]) for edge in graph.edges] == [
        ("POST /records", "records"),
        ("records", "MemorySink"),
        ("GET /a/who", "who"),
        ("GET /b/who", "who"),
    ]
    assert [node.label for node in graph.members("http:")] == ["records", "who", "who"]


def test_the_sink_for_errors_is_there_too() -> None:
    flow = Flow()
    flow.collector("/records", sink=MemorySink(), on_error=MemorySink())(same)
    assert [node.label for node in picture(HttpApp.of(flow)).nodes].count("MemorySink") == 2


def test_a_flow_that_also_moves_data_is_one_picture() -> None:
    flow = served()
    flow.consumer(source=MemorySource([]), sink=MemorySink(), name="moved")(same)
    assert {"moved", "records", "GET /a/who"} <= {node.label for node in _of_flow(flow).nodes}
