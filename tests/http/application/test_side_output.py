from __future__ import annotations

from typing import Annotated

from raflow import Flow
from raflow.connectors.memory import MemorySink
from raflow.http import SideOutput, SinkDependency
from tests.http.hosts import serving
from tests.http.sinks import HeldSink

sink = HeldSink()
audits = SinkDependency(sink)
Audit = Annotated[SideOutput, audits]


def audited() -> Flow:
    app = Flow("shop")
    service = app.service()

    @service.endpoint("/one/{n}", method="POST")
    async def one(n: int, audit: Audit) -> int:
        await audit.push({"n": n})
        return len(sink.ns())

    @service.endpoint("/several", method="POST")
    def several(audit: Audit) -> None:
        audit.put({"n": 8}, {"n": 9})

    @service.endpoint("/wrong", method="POST")
    async def wrong(audit: audits) -> None:  # type: ignore[valid-type]
        await audit.push({"n": "text"})  # type: ignore[attr-defined]

    @app.collector("/orders", sink=MemorySink())
    async def orders(record: dict, audit: Audit) -> dict:  # type: ignore[type-arg]
        await audit.push({"n": record["n"]})
        return record

    return app


def test_records_are_in_the_sink_when_push_returns() -> None:
    sink.units.clear()
    with serving(audited()) as client:
        assert client.post("/one/1").json() == 1
        assert client.post("/several").status_code == 200
        assert client.post("/orders", json={"n": 5}).status_code == 200
        assert client.post("/wrong").status_code == 500
        assert sorted(sink.ns()) == [1, 5, 8, 9]


def test_one_that_the_sink_refuses_is_an_error_of_the_request() -> None:
    with serving(audited()) as client:
        sink.breaks = 1
        reply = client.post("/one/1")
        assert (reply.status_code, reply.json()["detail"]) == (500, "internal error")
        assert client.post("/one/2").status_code == 200


def test_openapi_knows_nothing_of_it() -> None:
    assert "audit" not in str(audited().asgi().openapi())
