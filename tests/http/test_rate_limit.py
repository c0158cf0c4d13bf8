from __future__ import annotations

from typing import Any

import httpx
import pytest

from raflow import Flow
from raflow.errors import InvalidOption
from raflow.http import RateLimit
from raflow.stores import OwnAllowances
from tests.http.hosts import serving


class Limited:
    """A service whose clock a test moves."""

    def __init__(self, **options: Any) -> None:
        self.now = 0.0
        self.app = Flow("limited")
        service = self.app.service()
        service.add_middleware(RateLimit, store=OwnAllowances(lambda: self.now), **options)

        @service.endpoint("/")
        async def root() -> str:
            return "ok"

        @self.app.service("/free").endpoint("/")
        async def free() -> str:
            return "ok"


def statuses(client: httpx.Client, count: int, **headers: str) -> list[int]:
    return [client.get("/", headers=headers).status_code for _ in range(count)]


def test_beyond_the_allowance_it_says_when_to_come_again() -> None:
    limited = Limited(requests=2, per_s=10)
    with serving(limited.app) as client:
        assert statuses(client, 3) == [200, 200, 429]
        refused = client.get("/")
        assert (refused.headers["retry-after"], refused.json()) == ("5", {"detail": "too many requests"})
        limited.now = 5.0
        assert statuses(client, 2) == [200, 429]
        assert client.get("/free/").status_code == 200


def test_each_key_has_its_own_allowance() -> None:
    limited = Limited(requests=1, per_s=60, key=lambda connection: connection.headers["x-user"])
    with serving(limited.app) as client:
        assert [statuses(client, 1, **{"x-user": user})[0] for user in "aab"] == [200, 429, 200]


def test_a_rate_that_is_none_is_refused_at_the_start() -> None:
    with pytest.raises(InvalidOption, match="requests is 0"):
        Limited(requests=0, per_s=1).app.asgi()
