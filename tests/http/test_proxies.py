"""Who the client is behind a proxy, and that nobody else is believed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from raflow import Flow, FlowOptions
from raflow.errors import InvalidOption
from raflow.http import RateLimit, Request, WebSocket
from raflow.runtime.run import Run

WAIT_S = 60.0
HERE, BEHIND, SPOOFED = "127.0.0.1", "203.0.113.7", "1.1.1.1"


def client_of(request: Request) -> list[str | None]:
    return [request.client.host if request.client else None, request.url.scheme]


async def talk(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_text(websocket.client.host if websocket.client else "")


def free() -> str:
    return "ok"


Serve = Callable[..., Run]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Starts a Flow with such options on the local engine, and ends it after the test."""
    running: list[Run] = []

    def start(host: str | None = None, **options: Any) -> Run:
        flow = Flow("asking", FlowOptions(access_log=True, **options))
        service = flow.service()
        service.endpoint("/client")(client_of)
        service.endpoint("/talk", "WEBSOCKET")(talk)
        limited = flow.service("/limited")
        limited.add_middleware(RateLimit, requests=1, per_s=60)
        limited.endpoint("/")(free)
        running.append(flow.start(engine="local", host=host, port=None if host else 0))
        return running[-1]

    yield start
    for run in running:
        run.stop()
        run.settled(WAIT_S)


def asked(run: Run, path: str = "/client", **headers: str) -> httpx.Response:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(f"{run.url}{path}", headers=sent, timeout=WAIT_S)


@pytest.mark.parametrize(
    ("proxies", "forwarded", "client"),
    [
        ((), BEHIND, [HERE, "http"]),
        (("10.0.0.0/8", "::1"), BEHIND, [HERE, "http"]),
        ((HERE,), BEHIND, [BEHIND, "https"]),
        ((HERE,), f"{SPOOFED}, {BEHIND}", [BEHIND, "https"]),
        ((HERE, "10.0.0.0/8"), f"{SPOOFED}, {BEHIND}, 10.0.0.9", [BEHIND, "https"]),
        ((HERE,), "2001:db8::1", ["2001:db8::1", "https"]),
        ((HERE,), "", [HERE, "https"]),
        (("*",), f"{SPOOFED}, {BEHIND}", [SPOOFED, "https"]),
        (("10.0.0.1", "*"), BEHIND, [BEHIND, "https"]),
    ],
)
def test_only_a_trusted_proxy_says_who_the_client_is(
    serve: Serve, proxies: tuple[str, ...], forwarded: str, client: list[str]
) -> None:
    run = serve(trusted_proxies=proxies)
    assert asked(run, X_Forwarded_For=forwarded, X_Forwarded_Proto="https").json() == client


def test_the_access_log_and_rate_limits_are_about_the_client_behind_the_proxy(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    run = serve(trusted_proxies=[HERE])
    with caplog.at_level(logging.INFO, "raflow.access"):
        replies = [asked(run, "/limited/", X_Forwarded_For=one) for one in (BEHIND, BEHIND, "203.0.113.8")]
        asked(run, X_Forwarded_For="no address GET")
    assert [reply.status_code for reply in replies] == [200, 429, 200]
    lines = [record.getMessage().split()[:4] for record in caplog.records if record.name == "raflow.access"]
    assert lines[0] == [BEHIND, "GET", "/limited/", "200"]
    assert lines[3] == ["no%20address%20GET", "GET", "/client", "200"], "one field, whatever was said"


def test_without_trust_a_client_cannot_escape_its_rate_limit(serve: Serve) -> None:
    run = serve()
    replies = [asked(run, "/limited/", X_Forwarded_For=one) for one in (BEHIND, "203.0.113.8")]
    assert [reply.status_code for reply in replies] == [200, 429]


def test_websockets_and_unix_sockets_have_the_client_of_the_proxy(serve: Serve, tmp_path: Path) -> None:
    url = (serve(trusted_proxies=[HERE]).url or "").replace("http", "ws", 1)
    with connect(f"{url}/talk", additional_headers={"X-Forwarded-For": BEHIND}, proxy=None) as websocket:
        assert websocket.recv() == BEHIND
    path = str(tmp_path / "socket")
    serve(f"unix:{path}", trusted_proxies=["*"])
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://here") as client:
        assert client.get("/client", headers={"X-Forwarded-For": BEHIND}).json() == [BEHIND, "http"]


@pytest.mark.parametrize("wrong", ["proxy.example", "10.0.0.1/8", "10.0.0.0/33", ""])
def test_what_is_no_address_is_refused(wrong: str) -> None:
    with pytest.raises(InvalidOption, match=f"trusted_proxies has '{wrong}'; it can have addresses, networks"):
        FlowOptions(trusted_proxies=[HERE, wrong])
