"""The examples of collectors and services, served by a real host."""

from __future__ import annotations

import runpy
from datetime import datetime, timezone
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from websockets.sync.client import connect

from examples import http_service
from raflow import Flow
from raflow.http.ingest.bodies import LINES
from tests.http.hosts import address, serving

EXAMPLES = Path(__file__).parents[1] / "examples"


def test_readings_are_in_parquet_files_when_they_are_acknowledged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    flow: Flow = runpy.run_path(str(EXAMPLES / "http_ingest.py"))["app"]
    folder = tmp_path / "demo-output" / "readings"
    began = datetime.now(timezone.utc)
    for _ in range(2):  # the second time there are files already
        with serving(flow) as client:
            assert client.post("/readings", json={"station": "EWR", "fahrenheit": 50}).status_code == 200
            table = pq.read_table(folder)
            lines = b'{"station": "JFK", "fahrenheit": 212}\n{"station": "LGA", "fahrenheit": -500}\n'
            mixed = client.post("/readings", content=lines, headers={"Content-Type": LINES})
            assert (mixed.status_code, mixed.json()["errors"][0]["message"]) == (207, "that is below absolute zero")
            assert pq.read_table(folder).num_rows == table.num_rows + 1
    rows = pq.read_table(folder).to_pylist()
    assert sorted((row["station"], row["celsius"]) for row in rows) == [("EWR", 10.0)] * 2 + [("JFK", 100.0)] * 2
    assert all(began <= row["at"] <= datetime.now(timezone.utc) for row in rows)


def test_words_are_guessed_counted_and_talked_about() -> None:
    with serving(http_service.app) as client:
        guess = client.post("/words/guess", json={"text": "The cat is in the house"})
        assert guess.json() == {"language": "english"}
        assert client.post("/words/guess", json={"text": "42"}).status_code == 422
        assert client.get("/words/letters/length").json() == 7
        host, port = address(client)
        with connect(f"ws://{host}:{port}/words/talk") as socket:
            socket.send("one two")
            socket.send("three")
            assert [socket.recv(), socket.recv()] == ["2 words so far", "3 words so far"]
        assert "Guess the language" in client.get("/openapi.json").text
