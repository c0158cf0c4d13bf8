"""Replicas that answer on one address, on both engines."""

from __future__ import annotations

import httpx

from tests.runtime.serving.apps import App
from tests.runtime.serving.conftest import Serve


def test_requests_are_answered(serve: Serve) -> None:
    serving = serve(App())
    with httpx.Client(base_url=f"http://{serving.address}") as client:
        assert client.post("/echo", content=b"x" * 100_000).json() == {"bytes": 100_000}
        assert client.get("/nowhere").status_code == 404
