from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import httpx
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import BaseModel, ConfigDict

from raflow import Flow
from raflow.batch import to_ipc
from raflow.connectors.memory import MemorySink
from raflow.http import HTTPException
from raflow.http.ingest.bodies import ARROW, LINES
from tests.http.hosts import serving


@dataclass
class Reading:
    device: str
    celsius: float


@dataclass
class Device:
    device: str
    rooms: list[Any]


class Strict(BaseModel):
    model_config = ConfigDict(strict=True)
    day: date
    n: int


class Named(BaseModel):
    name: str
    tags: list[str] = []


app = Flow()
sinks: dict[str, MemorySink] = {}


def sink(name: str) -> MemorySink:
    return sinks.setdefault(name, MemorySink())


@app.collector("/readings", sink=sink("readings"))
def reading(record: Reading) -> Reading | None:
    if record.device == "broken":
        msg = "a secret"
        raise ValueError(msg)
    if record.device == "unwanted":
        raise HTTPException(409, "no records of that device")
    return None if record.device == "ignored" else record


@app.collector("/strict", sink=sink("strict"))
def strict(record: Strict) -> Strict:
    return record


@app.collector("/named/{name}", "GET", sink=sink("named"))
async def named(record: Named) -> Named:
    return record


@app.collector("/plain", "PUT", sink=sink("plain"))
def plain(record: dict[str, Any]) -> dict[str, Any]:
    return record


@app.collector("/devices/{device}", sink=sink("devices"))
def of_device(record: Reading) -> Reading:
    return record


@app.collector("/many", sink=sink("many"))
async def many(record: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    for number in range(record["n"]):
        yield {"number": number}


@app.collector("/table", sink=sink("table"))
def table(found: pa.Table) -> pa.Table:
    return found.append_column("rows", pa.array([found.num_rows] * found.num_rows))


@app.collector("/frame", sink=sink("frame"))
def frame(found: pd.DataFrame) -> pd.DataFrame:
    return found[found["n"] > 1]


@app.collector("/list", sink=sink("list"))
def listed(found: list[Reading]) -> dict[str, Any]:
    return {"mean": sum(one.celsius for one in found) / len(found)}


@app.collector("/rooms", sink=sink("rooms"))
def rooms(found: list[Device]) -> list[dict[str, Any]]:
    return [{"device": one.device, "room": room} for one in found for room in one.rooms]


@app.collector("/raw", sink=sink("raw"))
def raw(body: bytes) -> dict[str, Any]:
    return {"size": len(body)}


@app.collector("/both", sink=[sink("left"), sink("right")])
def both(record: dict[str, Any]) -> dict[str, Any]:
    return record


@app.collector("/nowhere")
def nowhere(record: dict[str, Any]) -> dict[str, Any]:
    return record


@pytest.fixture(scope="module")
def host() -> Iterator[httpx.Client]:
    with serving(app) as client:
        yield client


@pytest.fixture
def client(host: httpx.Client) -> httpx.Client:
    for one in sinks.values():
        one.__init__()  # type: ignore[misc]
    return host


def lines(*records: Any) -> bytes:
    return b"\n".join(json.dumps(record).encode() for record in records) + b"\n"


def arrow(table: pa.Table) -> bytes:
    data: bytes = to_ipc(table.to_batches(), table.schema).to_pybytes()
    return data


def test_a_record_is_written_before_the_reply(client: httpx.Client) -> None:
    reply = client.post("/readings", json={"device": "a", "celsius": 20})
    assert (reply.status_code, reply.json()) == (200, {"success": True, "records": 1})
    assert sinks["readings"].records() == [{"device": "a", "celsius": 20.0}]


def test_a_get_collector_takes_its_record_from_path_and_query(client: httpx.Client) -> None:
    assert client.get("/named/ada?tags=x&name=lost").json()["records"] == 1
    assert client.get("/named/bob", params={"tags": ["x", "y"]}).json()["records"] == 1
    assert sinks["named"].records() == [{"name": "ada", "tags": ["x"]}, {"name": "bob", "tags": ["x", "y"]}]


def test_strict_types_take_the_same_from_one_record_and_from_many(client: httpx.Client) -> None:
    record = {"day": "2026-11-20", "n": 1}
    assert client.post("/strict", json=record).status_code == 200
    assert client.post("/strict", json=[record, record]).json()["records"] == 2
    assert client.post("/strict", content=lines(record), headers={"Content-Type": LINES}).json()["records"] == 1
    refused = client.post("/strict", json=[{**record, "day": 0}, {**record, "n": "1"}])
    assert [one["message"] for one in refused.json()["errors"]] == [
        "field 'day': Input should be a valid date", "field 'n': Input should be a valid integer",
    ]  # fmt: skip
    assert client.post("/strict", json={**record, "n": True}).status_code == 422


def test_parameters_of_the_path_are_fields_of_each_record(client: httpx.Client) -> None:
    client.post("/devices/d1", json=[{"celsius": 1}, {"celsius": 2, "device": "lost"}])
    client.post("/devices/d2", content=arrow(pa.table({"celsius": [3.0]})), headers={"Content-Type": ARROW})
    assert [(row["device"], row["celsius"]) for row in sinks["devices"].records()] == [
        ("d1", 1.0), ("d1", 2.0), ("d2", 3.0)
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (json.dumps([{"device": "a", "celsius": 1.0}, {"device": "b", "celsius": 2.0}]).encode(), "application/json"),
        (lines({"device": "a", "celsius": 1.0}, {"device": "b", "celsius": 2.0}), LINES),
        (arrow(pa.table({"device": ["a", "b"], "celsius": [1.0, 2.0]})), ARROW),
    ],
)
def test_bulk_comes_as_a_list_as_lines_and_as_arrow(client: httpx.Client, content: bytes, media_type: str) -> None:
    reply = client.post("/readings", content=content, headers={"Content-Type": f"{media_type}; charset=utf-8"})
    assert (reply.status_code, reply.json()) == (200, {"success": True, "records": 2})
    assert sinks["readings"].records() == [{"device": "a", "celsius": 1.0}, {"device": "b", "celsius": 2.0}]


def test_the_bad_records_of_bulk_are_told_and_the_good_ones_written(client: httpx.Client) -> None:
    records = [
        {"device": "a", "celsius": 1}, {"device": "b"}, {"device": "broken", "celsius": 1}, 7,
        {"device": "unwanted", "celsius": 1}, {"device": "ignored", "celsius": 1}, {"device": "c", "celsius": "2.5"},
    ]  # fmt: skip
    reply = client.post("/readings", json=records)
    assert (reply.status_code, reply.json()["success"], reply.json()["records"]) == (207, False, 3)
    errors = reply.json()["errors"]
    assert [(one["index"], one["status"]) for one in errors] == [(1, 422), (2, 500), (3, 422), (4, 409)]
    assert "field 'celsius'" in errors[0]["message"]
    assert errors[3]["message"] == "no records of that device"
    assert len(errors[1]["error_id"]) == 16
    assert "secret" not in reply.text
    assert [row["device"] for row in sinks["readings"].records()] == ["a", "c"]


def test_of_very_many_bad_records_a_thousand_are_told_and_the_others_counted(client: httpx.Client) -> None:
    reply = client.post("/readings", json=[7] * 1_002 + [{"device": "a", "celsius": 1}])
    found = reply.json()
    assert (reply.status_code, found["records"], found["more_errors"]) == (207, 1, 2)
    assert [one["index"] for one in found["errors"]] == list(range(1_000))


def test_an_arrow_stream_of_very_many_records_is_413(client: httpx.Client) -> None:
    table = pa.table({"n": pa.nulls(10**9)})
    body = to_ipc(table.to_batches(), table.schema).to_pybytes()
    reply = client.post("/table", content=body, headers={"Content-Type": ARROW})
    assert reply.status_code == 413
    assert "the body holds 1,000,000,000 records" in reply.json()["detail"]


@pytest.mark.parametrize(("count", "status"), [(3, 200), (4, 413)])
def test_records_of_a_request_are_as_many_as_the_collector_takes(count: int, status: int) -> None:
    own = Flow()
    own.collector("/few", max_records=3)(_same)
    with serving(own) as client:
        reply = client.post("/few", json=[{"n": 1}] * count)
    assert reply.status_code == status


def _same(record: dict[str, Any]) -> dict[str, Any]:
    return record


def test_bulk_without_a_good_record_is_an_error(client: httpx.Client) -> None:
    assert client.post("/readings", content=b"{}\nnope\n", headers={"Content-Type": LINES}).status_code == 422
    assert client.post("/readings", json=[{"device": "broken", "celsius": 1}]).status_code == 500
    assert client.post("/readings", json=[]).json() == {"success": True, "records": 0}


def test_one_bad_record_is_the_status_of_the_reply(client: httpx.Client) -> None:
    missing = client.post("/readings", json={"device": "a"})
    assert (missing.status_code, missing.json()["detail"][0]["loc"]) == (422, ["body", "celsius"])
    broken = client.post("/readings", json={"device": "broken", "celsius": 1})
    assert (broken.status_code, broken.json()["detail"]) == (500, "internal error")
    assert client.post("/readings", json={"device": "unwanted", "celsius": 1}).status_code == 409
    assert client.post("/readings", json={"device": "ignored", "celsius": 1}).json()["records"] == 1
    assert sinks["readings"].records() == []


@pytest.mark.parametrize(
    ("content", "media_type", "status", "says"),
    [
        (b'{"device": ', "application/json", 400, "line 1 column 11"),
        (b'[{"device": ', "application/json", 400, "line 1 column"),
        (b"", "application/json", 400, "malformed JSON"),
        (b'{"device": "\xff", "celsius": 1}', "application/json", 400, "malformed JSON"),
        (b"[" * 100_000, "application/json", 400, "malformed JSON"),
        (b"ARROW1", ARROW, 400, "malformed Arrow stream"),
        (b"device=a", "application/x-www-form-urlencoded", 415, "application/x-ndjson"),
    ],
)
def test_what_cannot_be_parsed_is_refused_with_the_place(
    client: httpx.Client, content: bytes, media_type: str, status: int, says: str
) -> None:
    reply = client.post("/readings", content=content, headers={"Content-Type": media_type})
    assert reply.status_code == status
    assert says in reply.json()["detail"]


def test_a_cut_arrow_stream_is_refused(client: httpx.Client) -> None:
    whole = arrow(pa.table({"device": ["a"] * 100, "celsius": [1.0] * 100}))
    reply = client.post("/readings", content=whole[: len(whole) // 2], headers={"Content-Type": ARROW})
    assert reply.status_code == 400
    assert sinks["readings"].records() == []


def test_a_value_of_another_kind_than_was_written_before_is_that_records_error(client: httpx.Client) -> None:
    assert client.put("/plain", json={"n": 1}).status_code == 200
    reply = client.put("/plain", json=[{"n": 2}, {"n": "two"}, {"n": 3}])
    assert (reply.status_code, reply.json()["records"]) == (207, 2)
    assert reply.json()["errors"][0]["index"] == 1
    assert "field 'n'" in reply.json()["errors"][0]["message"]
    assert [row["n"] for row in sinks["plain"].records()] == [1, 2, 3]


def test_generators_flatten(client: httpx.Client) -> None:
    assert client.post("/many", json=[{"n": 2}, {"n": 1}]).json()["records"] == 2
    assert [row["number"] for row in sinks["many"].records()] == [0, 1, 0]


def test_batch_functions_get_bulk_as_one_batch(client: httpx.Client) -> None:
    client.post("/table", content=lines({"n": 1}, {"n": 2}), headers={"Content-Type": LINES})
    client.post("/table", json={"n": 3})
    assert sinks["table"].records() == [{"n": 1, "rows": 2}, {"n": 2, "rows": 2}, {"n": 3, "rows": 1}]
    client.post("/frame", json=[{"n": 1}, {"n": 2}])
    assert sinks["frame"].records() == [{"n": 2}]
    client.post("/list", json=[{"device": "a", "celsius": 1}, {"device": "b", "celsius": 3}, {"device": "c"}])
    assert sinks["list"].records() == [{"mean": 2.0}]


def test_a_batch_function_gets_the_good_records_of_lines(client: httpx.Client) -> None:
    reply = client.post("/table", content=b'{"n": 1}\n{"n": \n7\n', headers={"Content-Type": LINES})
    assert (reply.status_code, [one["index"] for one in reply.json()["errors"]]) == (207, [1, 2])
    assert sinks["table"].records() == [{"n": 1, "rows": 1}]


@pytest.mark.parametrize(
    ("body", "records"),
    [
        ({"device": "b", "rooms": [2, "three", 4]}, None),
        ([{"device": "b", "rooms": []}, {"device": "c", "rooms": []}, {"device": "d", "rooms": [2, "three"]}], 0),
        ([{"device": "b", "rooms": [2, "three", "four", "five"]}], 0),
    ],
    ids=["one", "fewer results than records", "more results than records"],
)
def test_of_a_batch_with_a_result_that_does_not_fit_nothing_is_written(
    client: httpx.Client, body: Any, records: int | None
) -> None:
    assert client.post("/rooms", json={"device": "a", "rooms": [1]}).status_code == 200
    reply = client.post("/rooms", json=body)
    found = reply.json()
    assert (reply.status_code, found.get("records")) == (422, records)
    said = [one["message"] for one in found["errors"]] if isinstance(body, list) else [found["detail"]]
    assert said == [
        "what the function made of this batch does not fit, so nothing of it is written: "
        "field 'room' is string 'three' where int64 is expected"
    ] * (len(body) if isinstance(body, list) else 1)
    assert sinks["rooms"].records() == [{"device": "a", "room": 1}]


def test_the_records_that_never_reached_a_batch_are_told_beside_it(client: httpx.Client) -> None:
    assert client.post("/rooms", json={"device": "a", "rooms": [1]}).status_code == 200
    reply = client.post("/rooms", json=[{"device": "b"}, {"device": "c", "rooms": ["two"]}])
    assert [(one["index"], one["message"][:24]) for one in reply.json()["errors"]] == [
        (0, "field 'rooms': Field req"), (1, "what the function made o"),
    ]  # fmt: skip


def test_bytes_are_the_body_as_it_is(client: httpx.Client) -> None:
    client.post("/raw", content=b"\xff\x00\xff", headers={"Content-Type": "image/png"})
    assert sinks["raw"].records() == [{"size": 3}]


def test_several_sinks_each_get_all_and_none_gets_nothing(client: httpx.Client) -> None:
    assert client.post("/both", json={"n": 1}).status_code == 200
    assert sinks["left"].records() == sinks["right"].records() == [{"n": 1}]
    assert client.post("/nowhere", json={"n": 1}).json() == {"success": True, "records": 1}


def test_a_repeated_idempotency_key_is_answered_alike_and_done_once(client: httpx.Client) -> None:
    headers = {"Idempotency-Key": "k1"}
    first = client.post("/both", json={"n": 1}, headers=headers)
    again = client.post("/both", json={"n": 1}, headers=headers)
    other = client.post("/both", json={"n": 2}, headers=headers)
    assert (first.json(), "idempotent-replayed" in first.headers) == (again.json(), False)
    assert again.headers["idempotent-replayed"] == "true"
    assert again.headers["x-request-id"] != first.headers["x-request-id"]
    assert other.status_code == 422
    assert sinks["left"].records() == [{"n": 1}]


def test_what_is_asked_at_once_is_written_whole(client: httpx.Client) -> None:
    async def ask() -> list[int]:
        async with httpx.AsyncClient(base_url=client.base_url) as many:
            asked = (many.post("/both", json={"n": number}) for number in range(50))
            return [reply.status_code for reply in await asyncio.gather(*asked)]

    assert asyncio.run(ask()) == [200] * 50
    assert sorted(row["n"] for row in sinks["right"].records()) == list(range(50))
