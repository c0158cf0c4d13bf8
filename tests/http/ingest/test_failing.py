from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from raflow import Flow, FlowOptions
from raflow.batch import to_ipc
from raflow.connectors.files import ParquetFiles
from raflow.connectors.memory import MemorySink
from raflow.errors import InvalidOption
from raflow.http import HTTPException
from raflow.http.declared import HttpApp
from raflow.http.ingest.bodies import ARROW, LINES
from raflow.letters import DEAD_LETTERS
from tests.http.hosts import serving
from tests.http.sinks import HeldSink, RefusingSink
from tests.runtime.serving.conftest import until


@dataclass
class Reading:
    device: str
    celsius: float


sink, letters, shared = MemorySink(), HeldSink(), MemorySink()
app = Flow(flow_options=FlowOptions(on_error=shared))


@app.collector("/readings/{room}", sink=sink, on_error=letters)
def reading(record: Reading) -> dict[str, Any] | None:
    if record.device == "broken":
        msg = "no such place"
        raise LookupError(msg)
    if record.device == "unwanted":
        raise HTTPException(409, "no records of that device")
    return {"device": record.device, "celsius": "hot" if record.celsius > 99 else record.celsius}


@app.collector("/plain", sink=sink, on_error=letters, ack="accepted", linger_ms=0)
def plain(record: dict[str, Any]) -> dict[str, Any]:
    return {"device": record["device"], "celsius": record.get("celsius", 0.0)}


@app.collector("/batch", sink=sink, on_error=letters)
def batch(table: pa.Table) -> pa.Table:
    if 0 in table["n"].to_pylist():
        msg = "a zero"
        raise ZeroDivisionError(msg)
    return table


@app.collector("/exploded", sink=sink, on_error=letters)
def exploded(records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"part": part} for record in records for part in record["parts"]]


@app.collector("/nowhere")
def nowhere(text: str) -> None:
    raise ValueError(text)


@pytest.fixture(scope="module")
def host() -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


@pytest.fixture
def client(host: httpx.Client) -> httpx.Client:
    for one in (sink, letters, shared):
        one.__init__()  # type: ignore[misc]
    return host


def kept(found: MemorySink = letters) -> list[dict[str, Any]]:
    return found.records()


def test_failing_records_are_kept_as_dead_letters_before_the_reply_says_so(client: httpx.Client) -> None:
    records: list[Any] = [{"device": "a", "celsius": 1}, {"device": "b"}, {"device": "broken", "celsius": 1}, 7]
    reply = client.post("/readings/hall", json=records, headers={"X-Request-Id": "r1"})
    assert (reply.status_code, reply.json()["records"]) == (207, 1)
    assert [(one["index"], one["status"], one["kept"]) for one in reply.json()["errors"]] == [
        (1, 422, True), (2, 500, True), (3, 422, True),
    ]  # fmt: skip
    assert sink.records() == [{"device": "a", "celsius": 1.0}]
    missing, broken, number = kept()
    assert list(missing) == DEAD_LETTERS.names
    assert json.loads(missing["record"]) == {"device": "b", "room": "hall"}
    assert (missing["error_type"], missing["error"]) == ("RecordError", "field 'celsius': Field required")
    assert (missing["processor"], missing["attempt"], missing["traceback"]) == ("reading", 1, "")
    assert missing["position"] == "POST /readings/hall, request r1, record 1"
    assert (broken["error_type"], broken["error"]) == ("LookupError", "no such place")
    assert "in reading" in broken["traceback"]
    assert number["record"] == "7"


@pytest.mark.parametrize(
    ("record", "status", "error"),
    [
        ({"device": "a"}, 422, "RecordError"),
        ({"device": "unwanted", "celsius": 1}, 409, "HTTPException"),
        ({"device": "broken", "celsius": 1}, 500, "LookupError"),
    ],
)
def test_a_single_record_keeps_its_reply_and_is_kept(
    client: httpx.Client, record: dict[str, Any], status: int, error: str
) -> None:
    reply = client.post("/readings/hall", json=record)
    assert (reply.status_code, reply.json()["success"], reply.json()["kept"]) == (status, False, True)
    assert [one["error_type"] for one in kept()] == [error]


def test_a_result_that_does_not_fit_the_sink_takes_its_record_there(client: httpx.Client) -> None:
    assert client.post("/readings/hall", json={"device": "a", "celsius": 1}).status_code == 200
    reply = client.post("/readings/hall", json=[{"device": "b", "celsius": 100}, {"device": "c", "celsius": 2}])
    assert (reply.status_code, reply.json()["records"]) == (207, 1)
    assert reply.json()["errors"][0]["kept"]
    assert [row["device"] for row in sink.records()] == ["a", "c"]
    assert [json.loads(one["record"])["device"] for one in kept()] == ["b"]


def test_a_malformed_line_among_others_is_kept_as_it_is(client: httpx.Client) -> None:
    body = b'{"device": "a", "celsius": 1}\n{"device": \xff\n'
    reply = client.post("/readings/hall", content=body, headers={"Content-Type": LINES})
    assert reply.status_code == 207
    assert [one["record"] for one in kept()] == ['{"device": \\xff']


@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [(b'{"device": ', "application/json", 400), (b"ARROW1", ARROW, 400), (b"device=a", "text/csv", 415)],
)
def test_a_body_of_no_records_is_answered_only(
    client: httpx.Client, content: bytes, media_type: str, status: int
) -> None:
    reply = client.post("/readings/hall", content=content, headers={"Content-Type": media_type})
    assert (reply.status_code, "kept" in reply.json()) == (status, False)
    assert letters.units == []


def test_what_is_accepted_is_kept_soon(client: httpx.Client) -> None:
    assert client.post("/plain", json={"device": "a"}).status_code == 202
    reply = client.post("/plain", json=[{"device": "b"}, {"celsius": 1.0}])
    assert (reply.status_code, reply.json()["errors"][0]["kept"]) == (207, True)
    assert client.post("/plain", json={"device": "c", "celsius": "hot"}).status_code == 202  # told nowhere else
    until(lambda: len(kept()) == 2)  # by one flush or two
    assert [json.loads(one["record"]) for one in kept()] == [{"celsius": 1.0}, {"device": "c", "celsius": "hot"}]
    assert [one["error_type"] for one in kept()] == ["KeyError", "RecordError"]


def test_a_failing_batch_keeps_each_of_its_records(client: httpx.Client) -> None:
    assert client.post("/batch", json=[{"n": 0}, {"n": 1}]).status_code == 500
    table = pa.table({"n": [0, 3]})
    content = bytes(to_ipc(table.to_batches(), table.schema))
    assert client.post("/batch", content=content, headers={"Content-Type": ARROW}).status_code == 500
    assert [(one["record"], one["error"]) for one in kept()] == [
        ('{"n": 0}', "a zero"), ('{"n": 1}', "a zero"), ('{"n": 0}', "a zero"), ('{"n": 3}', "a zero"),
    ]  # fmt: skip


def test_a_batch_that_cannot_be_written_is_not_said_to_be(client: httpx.Client) -> None:
    assert client.post("/batch", json=[{"n": 1}, {"n": 2}]).json()["records"] == 2
    reply = client.post("/batch", json=[{"n": "one"}, {"n": "two"}])
    assert (reply.status_code, reply.json()["records"]) == (422, 0)
    assert [row["n"] for row in sink.records()] == [1, 2]
    assert [one["record"] for one in kept()] == ['{"n": "one"}', '{"n": "two"}']


def test_a_result_of_a_batch_that_does_not_fit_is_of_no_record_so_all_of_them_are_kept(client: httpx.Client) -> None:
    assert client.post("/exploded", json={"parts": [1]}).status_code == 200
    reply = client.post("/exploded", json=[{"parts": [2, 3]}, {"parts": []}, {"parts": ["four"]}])
    assert (reply.status_code, reply.json()["records"]) == (422, 0)
    assert [one["kept"] for one in reply.json()["errors"]] == [True] * 3
    assert [row["part"] for row in sink.records()] == [1]
    assert [one["record"] for one in kept()] == ['{"parts": [2, 3]}', '{"parts": []}', '{"parts": ["four"]}']
    assert "field 'part' is string 'four' where int64 is expected" in kept()[0]["error"]


def test_a_flows_sink_for_errors_is_that_of_its_collectors(client: httpx.Client) -> None:
    reply = client.post("/nowhere", content="a text", headers={"Content-Type": "text/plain"})
    assert (reply.status_code, reply.json()["kept"]) == (500, True)
    assert [(one["record"], one["error_type"]) for one in kept(shared)] == [("a text", "ValueError")]


def test_what_cannot_be_kept_is_refused_with_all_that_came_with_it(client: httpx.Client) -> None:
    letters.breaks = 1
    records = [{"device": "a", "celsius": 1}, {"device": "b"}]
    reply = client.post("/readings/hall", json=records)
    assert (reply.status_code, "retry-after" in reply.headers) == (503, True)
    assert sink.records() == []
    assert client.post("/readings/hall", json=records).status_code == 207
    assert ([row["device"] for row in sink.records()], len(kept())) == (["a"], 1)


def test_without_a_sink_for_errors_nothing_is_said_to_be_kept() -> None:
    plain = Flow(flow_options=FlowOptions(on_error="fail"))
    plain.collector("/readings", sink=MemorySink(), name="readings")(lambda record: record["n"])
    with serving(plain) as client:
        assert "kept" not in client.post("/readings", json={}).json()


@pytest.mark.parametrize("wrong", ["fail", "skp", 3])
def test_other_values_of_on_error_are_told_at_once(wrong: Any) -> None:
    with pytest.raises(InvalidOption, match="on_error of a collector is"):
        app.collector("/x", on_error=wrong)


def test_the_sink_for_errors_is_one_of_the_flow() -> None:
    assert [(name, one) for name, one in HttpApp.of(app).named_sinks() if one in (letters, shared)] == [
        ("reading", letters), ("plain", letters), ("batch", letters), ("exploded", letters), ("nowhere", shared),
    ]  # fmt: skip


def anything(path: Path, **options: Any) -> tuple[Flow, MemorySink]:
    """Return a Flow of one collector, whose sink can hold no struct without fields, and its dead letters."""
    flow, errors = Flow(), MemorySink()
    flow.collector("/any", sink=ParquetFiles(path), on_error=errors, **options)(same)
    return flow, errors


def same(record: dict[str, Any]) -> dict[str, Any]:
    return record


def test_what_a_sink_cannot_hold_is_kept_and_costs_no_other_request(tmp_path: Path) -> None:
    flow, errors = anything(tmp_path)
    with serving(flow) as client:
        assert client.post("/any", json={"n": 1}).status_code == 200
        reply = client.post("/any", json={"m": {}})
        assert (reply.status_code, reply.json()["detail"]) == (500, "a sink cannot hold it")
        assert (reply.json()["kept"], len(reply.json()["error_id"]) > 4) == (True, True)
        several = client.post("/any", json=[{"n": 2}, {"m": {}}])
        assert (several.status_code, [one["kept"] for one in several.json()["errors"]]) == (500, [True, True])
        assert client.post("/any", json={"n": 3}).status_code == 200
    assert sorted(pq.read_table(tmp_path)["n"].to_pylist()) == [1, 3]
    assert [one["record"] for one in kept(errors)] == ['{"m":{}}', '{"n": 2}', '{"m": {}}']


def test_an_accepted_record_that_a_sink_cannot_hold_is_kept(tmp_path: Path) -> None:
    flow, errors = anything(tmp_path, ack="accepted", linger_ms=100)
    with serving(flow) as client:
        for n in range(60):
            assert client.post("/any", json={"n": n} if n != 33 else {"n": n, "m": {}}).status_code == 202
    assert sorted(pq.read_table(tmp_path)["n"].to_pylist()) == [n for n in range(60) if n != 33]
    assert [one["record"] for one in kept(errors)] == ['{"n": 33, "m": {}}']
    assert kept(errors)[0]["position"] == "the result of an accepted record"


def test_what_the_function_dropped_is_not_among_what_a_sink_refused(tmp_path: Path) -> None:
    flow, errors = Flow(), MemorySink()

    @flow.collector("/some", sink=ParquetFiles(tmp_path), on_error=errors)
    def some(record: dict[str, Any]) -> list[dict[str, Any]] | None:
        return None if record.get("n") == 2 else [record] if record.get("n") != 3 else []

    with serving(flow) as client:
        reply = client.post("/some", json=[{"n": 2}, {"m": {}}, {"n": 3}])
    assert (reply.status_code, reply.json()["records"]) == (207, 2)
    assert [one["index"] for one in reply.json()["errors"]] == [1]
    assert [one["record"] for one in kept(errors)] == ['{"m": {}}']


def test_an_accepted_batch_that_cannot_even_be_shown_in_python_is_kept_and_holds_up_nobody(tmp_path: Path) -> None:
    flow, errors = Flow(), MemorySink()
    options = {"ack": "accepted", "linger_ms": 0}
    flow.collector("/batch", sink=ParquetFiles(tmp_path), on_error=errors, **options)(as_it_is)  # type: ignore[arg-type]
    days = pa.array([10_000_000], pa.int32()).cast(pa.date32())
    bad, good = pa.table({"day": days, "m": pa.array([{}], pa.struct([]))}), pa.table({"n": [1]})
    with serving(flow) as client:
        for table in (bad, good):
            content = bytes(to_ipc(table.to_batches(), table.schema))
            assert client.post("/batch", content=content, headers={"Content-Type": ARROW}).status_code == 202
    assert pq.read_table(tmp_path).to_pylist() == [{"n": 1}]
    assert ["29349-01-26" in one["record"] for one in kept(errors)] == [True]


def as_it_is(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def test_the_many_records_of_one_refusal_share_one_traceback(tmp_path: Path) -> None:
    flow, errors = anything(tmp_path)
    with serving(flow) as client:
        assert client.post("/any", json=[{"m": {}}, *[{"n": n} for n in range(500)]]).status_code == 500
    first, *others = kept(errors)
    assert (len(others), "ArrowNotImplementedError" in first["traceback"]) == (500, True)
    assert {one["traceback"] for one in others} == {""}


def test_dead_letters_that_cannot_be_kept_either_are_said_to_be_lost(tmp_path: Path) -> None:
    flow = Flow()
    flow.collector("/any", sink=ParquetFiles(tmp_path / "a"), on_error=RefusingSink())(same)
    with serving(flow) as client:
        reply = client.post("/any", json={"m": {}})
        assert (reply.status_code, "kept" in reply.json()) == (500, False)
        assert client.post("/any", json={"n": 3}).status_code == 200
