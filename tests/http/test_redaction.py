from __future__ import annotations

import logging

import pytest

from raflow import Flow, FlowOptions
from raflow.http.redaction import redacted
from tests.http.hosts import serving


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
