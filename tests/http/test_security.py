from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import SecretStr
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from raflow import Flow, Scope, dependency
from raflow.errors import InvalidOption
from raflow.http import ApiKey, BearerCredentials, WebSocket
from tests.http.hosts import address, serving

key = ApiKey({"shop": "k-shop", "ops": SecretStr("k-ops")})
Caller = Annotated[str, key]


@dependency(scope=Scope.PROCESS)
class Admin:
    def __init__(self, credentials: BearerCredentials) -> None:
        credentials.check("t-admin", SecretStr("t-other"))
        self.shown = repr(credentials)


def guarded() -> Flow:
    app = Flow("guarded")
    service = app.service()

    @service.endpoint("/open")
    async def open_to_all() -> str:
        return "open"

    @service.endpoint("/caller")
    async def caller(caller: Caller) -> str:
        return caller

    @service.endpoint("/admin")
    async def admin(admin: Admin) -> str:
        return admin.shown

    @service.endpoint("/echo")
    async def echo(credentials: BearerCredentials) -> str:
        return credentials.token

    @service.endpoint("/talk", method="WEBSOCKET")
    async def talk(websocket: WebSocket, caller: Caller) -> None:
        raise AssertionError

    @app.collector("/events")
    async def events(record: dict, caller: Caller) -> None:  # type: ignore[type-arg]
        assert caller == "shop"

    return app


def test_a_key_tells_who_calls_and_none_or_another_is_401() -> None:
    with serving(guarded()) as client:
        assert client.get("/caller", headers={"X-API-Key": "k-ops"}).json() == "ops"
        for headers in ({}, {"X-API-Key": "k-shopp"}, {"X-API-Key": ""}):
            reply = client.get("/caller", headers=headers)
            assert (reply.status_code, reply.json()) == (401, {"detail": "not authenticated"})
            assert reply.headers["www-authenticate"] == 'ApiKey header="X-API-Key"'


def test_bearer_tokens_are_taken_and_compared() -> None:
    with serving(guarded()) as client:
        assert client.get("/echo", headers={"Authorization": "bearer any"}).json() == "any"
        assert client.get("/admin", headers={"Authorization": "Bearer t-other"}).json() == "BearerCredentials()"
        wrong = client.get("/admin", headers={"Authorization": "Bearer t-oth"})
        assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
        for value in ("Basic t-admin", "Bearer", "t-admin"):
            missing = client.get("/admin", headers={"Authorization": value})
            assert (missing.status_code, missing.headers["www-authenticate"]) == (401, "Bearer")


def test_collectors_are_guarded_before_their_body_is_looked_at() -> None:
    with serving(guarded()) as client:
        assert client.post("/events", content=b"{").status_code == 401
        assert client.post("/events", json={}, headers={"X-API-Key": "k-shop"}).status_code == 200


def test_websockets_without_a_key_are_not_opened() -> None:
    with serving(guarded()) as client, pytest.raises(InvalidStatus, match="401"):
        connect("ws://{}:{}/talk".format(*address(client)))


def test_openapi_shows_each_scheme_for_just_what_uses_it() -> None:
    described = guarded().asgi().openapi()
    methods = {path: next(iter(one.values())) for path, one in described["paths"].items()}
    assert {path: one.get("security") for path, one in methods.items()} == {
        "/open": None,
        "/caller": [{"ApiKey-X-API-Key": []}],
        "/admin": [{"BearerCredentials": []}],
        "/echo": [{"BearerCredentials": []}],
        "/events": [{"ApiKey-X-API-Key": []}],
    }
    assert described["components"]["securitySchemes"]["ApiKey-X-API-Key"]["name"] == "X-API-Key"


def test_no_key_shows() -> None:
    assert repr(key) == "ApiKey(shop, ops; header='X-API-Key')"
    assert "k-shop" not in str(vars(key))


@pytest.mark.parametrize("keys", ["", {}, {"shop": SecretStr("")}])
def test_a_key_that_is_missing_is_told_at_once(keys: str | dict[str, str]) -> None:
    with pytest.raises(InvalidOption, match="not empty|no keys"):
        ApiKey(keys)
