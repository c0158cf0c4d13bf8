from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from raflow import Flow, FlowOptions
from raflow.http import StreamingResponse, WebSocket
from raflow.http.application.redaction import redacted
from tests.http.hosts import address, serving


def leaking(**options: object) -> Flow:
    app = Flow("leaking", FlowOptions(**options))

    @app.service().endpoint("/{name:path}")
    async def leak(name: str) -> None:
        where = "postgres://ada:hush@db/x"
        raise ConnectionError(f"cannot reach {where} with password=hush")

    return app


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("{'api_key': 'hush', 'n': 1}", "{'api_key': *** 'n': 1}".replace("*** ", "***, ")),
        ("connect(password='hu sh', host='db')", "connect(password=***, host='db')"),
        ("s3://key:hush@bucket/a?token=hush&b=1", "s3://***@bucket/a?token=***&b=1"),
        ("if token == other: a bearer of news", "if token == other: a bearer of news"),
    ],
)
def test_secrets_are_found_by_where_they_stand(text: str, shown: str) -> None:
    assert redacted(text) == shown


def test_of_a_text_that_a_client_made_very_long_the_beginning_is_logged() -> None:
    shown = redacted(f"KeyError: '{'token' * 40_000}'")
    assert shown == f"KeyError: '{'token' * 13_105} … (134,476 more characters are not logged)"


@pytest.mark.parametrize("secret", ["password='hu sh'", "postgres://ada:hush@db/x", "Bearer hush-hush-hush"])
@pytest.mark.parametrize("before", range(65_510, 65_540))
def test_a_text_is_not_cut_so_that_half_a_secret_shows(secret: str, before: int) -> None:
    assert "hu" not in redacted(f"{'x' * 65_000} {'x' * (before - 65_001)} {secret} {'x' * 1_000}")


def test_tracebacks_in_the_log_have_none(caplog: pytest.LogCaptureFixture) -> None:
    with serving(leaking()) as client:
        error_id = client.get("/a").json()["error_id"]
    assert error_id in caplog.text
    assert "ConnectionError: cannot reach postgres://***@db/x with password=***" in caplog.text
    assert "hush" not in caplog.text


def test_what_is_raised_after_a_reply_has_begun_does_not_reach_the_log_of_the_server(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    app = Flow("begun")

    @app.service().endpoint("/begun")
    def begun() -> StreamingResponse:
        def parts() -> Iterator[bytes]:
            yield b"begun"
            raise ConnectionError("no database with password=hush")

        return StreamingResponse(parts())

    @app.services[0].endpoint("/ended", "WEBSOCKET")
    async def ended(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close()
        raise ConnectionError("no database with password=hush")

    with serving(app) as client:
        with pytest.raises(httpx.RemoteProtocolError):
            client.get("/begun")
        host, port = address(client)
        with connect(f"ws://{host}:{port}/ended") as websocket, pytest.raises(ConnectionClosed):
            websocket.recv()
    said = capsys.readouterr().err
    for record in caplog.records:
        assert "password=***" in (record.exc_text or "")
    (first, _) = [record.getMessage().split()[1] for record in caplog.records]
    assert f"the reply broke off; why is in the log under error {first}" in said
    assert "hush" not in said + caplog.text


def test_an_access_log_is_one_line_without_query_and_headers(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raflow.access")
    with serving(leaking(access_log=True)) as client:
        client.get("/a%0Ab?token=hush", headers={"X-Request-Id": "r-1", "X-Key": "hush"})
    (line,) = [one.getMessage() for one in caplog.records if one.name == "raflow.access"]
    assert line.startswith("127.0.0.1 GET /a%0Ab 404 ")
    assert line.endswith(" ms r-1")
    assert "hush" not in caplog.text


def test_there_is_no_access_log_unless_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "raflow.access")
    with serving(leaking()) as client:
        client.get("/a")
    assert [one for one in caplog.records if one.name == "raflow.access"] == []


def test_every_reply_says_that_its_type_is_not_to_be_guessed() -> None:
    with serving(leaking()) as client:
        for path in ("/a", "/healthz"):
            assert client.get(path).headers["x-content-type-options"] == "nosniff"
