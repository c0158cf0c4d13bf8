"""The collectors, services and endpoints of the page about Flows, filled in, answer requests."""

from __future__ import annotations

import json
import runpy
from pathlib import Path
from typing import Any

import pytest

from raflow import Flow
from tests.http.hosts import serving

SEEDS = Path(__file__).parent


def program(name: str) -> Flow:
    flow: Flow = runpy.run_path(str(SEEDS / name))["app"]
    return flow


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for path in sorted(folder.glob("*.jsonl")) for line in path.read_text().splitlines()]


def test_decorated_processors_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(program("flow_http_decorators.py")) as client:
        assert client.get("/collect/home", params={"seconds": 1.5}).json() == {"success": True, "records": 1}
        assert client.get("/collect/about").status_code == 200
        assert client.get("/serve").json() == {"hello": "you"}
        assert client.get("/serve", params={"name": "Ada"}).json() == {"hello": "Ada"}
    visits = sorted(rows(tmp_path / "visits"), key=lambda row: row["page"])
    assert visits == [{"page": "about", "seconds": 0.0}, {"page": "home", "seconds": 1.5}]


def test_added_processors_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with serving(program("flow_http_added.py")) as client:
        assert client.post("/collect", json={"name": "a", "value": 2}).json() == {"success": True, "records": 1}
        assert client.post("/collect", json={"name": "a", "value": "many"}).status_code == 422
        assert client.get("/api/serve", params={"number": 21}).json() == {"twice": 42}
    assert rows(tmp_path / "events") == [{"name": "a", "value": 2}] * 2
