"""Flows that answer HTTP: started, mixed with data, drained, failed."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import ray

from raflow import Flow, FlowOptions, Service, collector, dependency, endpoint
from raflow.connectors.files import JsonLinesFiles, ParquetFiles
from raflow.connectors.memory import MemorySink, MemorySource
from raflow.dependencies.shared import Shared
from raflow.ends import check_one_node
from raflow.engines.local import LocalEngine
from raflow.errors import CannotListen, EngineError, InvalidOption, NoCapacity, OutputExists, RunFailed
from raflow.http.declared import HttpApp
from raflow.metrics import Status
from raflow.options import Resources
from raflow.runtime.engine import Capacity
from raflow.runtime.run import Run
from raflow.serve import HttpSide, address_of, needs, serving_options
from raflow.stores import SqlReplies
from tests.runtime.serving.conftest import until

WAIT_S, END_S = 90.0, 3.0


@dataclass
class Reading:
    station: str
    celsius: float = 20.0


def warm(reading: Reading) -> dict[str, Any] | None:
    return {"station": reading.station, "celsius": reading.celsius} if reading.celsius > 0 else None


def who(name: str) -> dict[str, Any]:
    return {"hello": name, "pid": os.getpid()}


def double(record: dict[str, Any]) -> dict[str, Any]:
    return {"n": record["n"] * 2}


def broken(record: dict[str, Any]) -> dict[str, Any]:
    raise ValueError(f"no such luck with {record}")


def answering(**options: Any) -> Flow:
    flow = Flow("answering", FlowOptions(num_cpus=0.5, shared_path=True))
    service = Service("/hello", **options)
    service.add_endpoint(endpoint("/{name}")(who))
    flow.add_service(service)
    return flow


@pytest.fixture
def started(engine: str) -> Iterator[Callable[..., Run]]:
    """Starts a Flow on a free port, and ends it after the test whatever it did."""
    running: list[Run] = []

    def start(flow: Flow, **options: Any) -> Run:
        running.append(flow.start(engine=engine, port=0, **options))
        return running[-1]

    yield start
    for run in running:
        run.drain(0.0)  # unlike `stop` it leaves processes to the next test
        run.settled(END_S)
        run.stop()
        run.settled(WAIT_S)


def ended(run: Run) -> Run:
    run.drain()
    assert run.wait(WAIT_S)
    return run


def test_what_a_collector_acknowledged_is_in_its_sink_when_the_run_has_drained(
    started: Callable[..., Run], tmp_path: Path
) -> None:
    flow = answering()
    flow.add_collector(collector("/readings", sink=ParquetFiles(tmp_path / "out"))(warm))
    run = started(flow)
    with httpx.Client(base_url=run.url or "", timeout=WAIT_S) as client:
        assert client.get("/hello/Ada").json()["hello"] == "Ada"
        replies = [client.post("/readings", json={"station": f"s{n}"}) for n in range(5)]
        refused = client.post("/readings", json={"celsius": 1.0})
    assert [reply.status_code for reply in replies] == [200] * 5
    assert (refused.status_code, refused.json()["detail"][0]["loc"][-1]) == (422, "station")
    stats = ended(run).stats()
    assert sorted(pq.read_table(tmp_path / "out")["station"].to_pylist()) == [f"s{n}" for n in range(5)]
    assert (stats.status, stats.stages) == (Status.SUCCEEDED, ())
    assert stats.http is not None
    assert (stats.http.total, stats.http.replicas_lost) == (7, 0)


@pytest.mark.parametrize(
    ("end", "status", "left"), [(Run.stop, Status.CANCELLED, ["Ada", "Old"]), (Run.drain, Status.SUCCEEDED, ["Ada"])]
)
def test_only_a_run_that_was_not_stopped_deletes_what_it_replaces(
    started: Callable[..., Run], tmp_path: Path, end: Callable[[Run], None], status: Status, left: list[str]
) -> None:
    pq.write_table(pa.table({"station": ["Old"]}), tmp_path / "old.parquet")
    flow = answering()
    flow.add_collector(collector("/readings", sink=ParquetFiles(tmp_path, if_exists="overwrite"))(warm))
    run = started(flow)
    assert httpx.post(f"{run.url}/readings", json={"station": "Ada"}, timeout=WAIT_S).status_code == 200
    end(run)
    assert run.settled(WAIT_S)
    found = [one for file in tmp_path.glob("*.parquet") for one in pq.read_table(file)["station"].to_pylist()]
    assert (sorted(found), run.status()) == (left, status)
    said = json.loads((Path(os.environ["RAFLOW_LEDGER"]) / run.id / "end.json").read_text())
    assert said == {"status": status.value}


def test_records_that_fail_are_kept_where_the_collector_says(started: Callable[..., Run], tmp_path: Path) -> None:
    flow = answering()
    bad = JsonLinesFiles(tmp_path / "bad")
    flow.add_collector(collector("/readings", sink=ParquetFiles(tmp_path / "out"), on_error=bad)(warm))
    run = started(flow)
    reply = httpx.post(f"{run.url}/readings", json=[{"station": "Ada"}, {"celsius": 1.0}], timeout=WAIT_S)
    assert (reply.status_code, reply.json()["errors"][0]["kept"]) == (207, True)
    outputs = ended(run).stats().outputs
    assert [line.rpartition(": ")[2] for line in outputs] == ["1 row", "1 row"]
    assert ["out" in line for line in outputs] == [True, False]
    assert pq.read_table(tmp_path / "out")["station"].to_pylist() == ["Ada"]
    (letter,) = [
        json.loads(line) for file in (tmp_path / "bad").glob("*.jsonl") for line in file.read_text().splitlines()
    ]
    assert (letter["processor"], letter["record"]) == ("warm", '{"celsius": 1.0}')


def test_data_moves_while_http_is_answered_and_both_are_one_run(started: Callable[..., Run], tmp_path: Path) -> None:
    flow = answering()
    source = MemorySource([{"n": n} for n in range(100)])
    flow.consumer(source=source, sink=ParquetFiles(tmp_path / "out"), name="double")(double)
    accepted = JsonLinesFiles(tmp_path / "accepted")
    flow.add_collector(collector("/readings", sink=accepted, ack="accepted")(warm))
    run = started(flow)
    until(lambda: all(stage.status is Status.SUCCEEDED for stage in run.stats().stages))
    assert sorted(pq.read_table(tmp_path / "out")["n"].to_pylist()) == list(range(0, 200, 2))
    assert run.status() is Status.RUNNING
    assert httpx.get(f"{run.url}/hello/Ada", timeout=WAIT_S).json()["hello"] == "Ada"
    assert run.stats().outputs[1].endswith("accepted'): 0 rows")
    bulk = httpx.post(f"{run.url}/readings", json=[{"station": "Ada"}, {"station": "Bob"}], timeout=WAIT_S)
    assert bulk.status_code == 202
    stats = ended(run).stats()
    assert stats.outputs[0].startswith("ParquetFiles(")
    assert stats.outputs[1].endswith(": 2 rows"), "what was in the buffer is written at the end, and counted"
    assert stats.stages[0].counts.rows_out == 100
    assert stats.http is not None
    assert stats.http.total == 2


def test_an_error_of_the_data_side_ends_the_run_with_it(started: Callable[..., Run]) -> None:
    flow = answering()
    flow.consumer(source=MemorySource([{"n": 1}]), name="broken")(broken)
    with pytest.raises(RunFailed, match="no such luck with {'n': 1}") as caught:
        started(flow).wait(WAIT_S)
    assert isinstance(caught.value.__cause__, ValueError)


class Fails:
    def setup(self) -> None:
        raise ValueError("no model here")

    def process(self) -> str:
        return ""


def test_a_setup_that_fails_ends_the_run_with_the_users_error(started: Callable[..., Run]) -> None:
    flow = answering()
    flow.service("/fails").add_endpoint(endpoint("/")(Fails))
    with pytest.raises(RunFailed, match="no model here"):
        started(flow).wait(WAIT_S)


def test_a_port_in_use_is_told_before_anything_starts(started: Callable[..., Run]) -> None:
    run = started(answering())
    taken = int((run.url or "").rsplit(":", 1)[1])
    with pytest.raises(CannotListen, match=f"{taken}: it is in use"):
        answering().start(engine="local", port=taken)
    flow = answering()
    flow.consumer(source=MemorySource([{"n": 1}]), name="double")(double)
    with pytest.raises(CannotListen, match=f"{taken}: it is in use"):
        flow.start(engine="local", port=taken)
    ledgers = [path for path in Path(os.environ["RAFLOW_LEDGER"]).iterdir() if not (path / "end.json").exists()]
    assert [path.name for path in ledgers if path.name != run.id] == []


def test_an_output_that_holds_data_is_refused_before_the_port_is_opened(tmp_path: Path) -> None:
    (tmp_path / "old.jsonl").write_text("{}\n")
    flow = Flow("collecting")
    flow.add_collector(collector("/", sink=JsonLinesFiles(tmp_path))(warm))
    with pytest.raises(OutputExists, match="already holds 1 file"):
        flow.start(engine="local", port=0)


def test_what_makes_no_sense_for_http_is_refused() -> None:
    with pytest.raises(InvalidOption, match="limit is for sources"):
        answering().run(engine="local", limit=3)
    with pytest.raises(InvalidOption, match="nothing to resume"):
        answering().run(engine="local", resume="last")
    flow = answering()
    flow.add_collector(collector("/readings", sink=MemorySink())(warm))
    with pytest.raises(InvalidOption, match=r"MemorySink.* of 'warm' lives in the memory of one process"):
        flow.run(engine="ray")
    kept = answering()
    kept.add_collector(collector("/readings", on_error=MemorySink())(warm))
    with pytest.raises(InvalidOption, match=r"MemorySink.* of 'warm' lives in the memory of one process"):
        kept.run(engine="ray")
    with pytest.raises(InvalidOption, match="unix:/tmp/x has no port"):
        address_of("unix:/tmp/x", 80)
    with pytest.raises(InvalidOption, match="the unix socket has no path"):
        address_of("unix:", None)
    with pytest.raises(InvalidOption, match="tls_certificate and tls_key go together"):
        FlowOptions(tls_certificate="cert.pem")


def never() -> None:
    threading.Event().wait()


def test_a_replica_whose_threads_are_held_for_good_is_replaced_where_that_frees_them(
    engine: str, started: Callable[..., Run], caplog: pytest.LogCaptureFixture
) -> None:
    flow = Flow("stuck", FlowOptions(num_cpus=0.5, max_abandoned_calls=2))
    flow.service("/held", num_replicas=1, request_timeout_s=0.1).endpoint("/never")(never)
    flow.service().endpoint("/who")(os.getpid)
    run = started(flow)
    with caplog.at_level(logging.WARNING, "raflow"):
        before = httpx.get(f"{run.url}/who", timeout=WAIT_S).json()
        assert [httpx.get(f"{run.url}/held/never", timeout=WAIT_S).status_code for _ in range(2)] == [504, 504]
        until(lambda: any("2 synchronous calls that were given up" in record.getMessage() for record in caplog.records))
        after = httpx.get(f"{run.url}/who", timeout=WAIT_S).json()
        if engine == "ray":
            until(lambda: not psutil.pid_exists(before))
            until(lambda: (http := run.stats().http) is not None and http.replicas == 1)
            after = httpx.get(f"{run.url}/who", timeout=WAIT_S).json()
    assert (after != before) == (engine == "ray")
    said = "another replica takes its place" if engine == "ray" else "on the local engine they hold their threads"
    assert sum(said in record.getMessage() for record in caplog.records) == 1
    http = ended(run).stats().http
    assert http is not None
    assert (http.replicas_lost, http.cut) == (0, 0)


def test_a_unix_socket_can_be_answered(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    run = answering().start(engine="local", host=f"unix:{path}")
    with httpx.Client(transport=httpx.HTTPTransport(uds=path), base_url="http://here") as client:
        assert client.get("/hello/Ada").json()["hello"] == "Ada"
    assert run.url == f"unix:{path}"
    ended(run)
    assert not os.path.exists(path)


PROGRAM = """
from __future__ import annotations
from dataclasses import dataclass
from datetime import date
from raflow import Flow
from raflow.connectors.files import JsonLinesFiles

app = Flow()

@dataclass
class Visit:
    who: str
    day: date = date(2024, 1, 1)

@app.collector("/visits", sink=JsonLinesFiles("out"))
def visit(visit: Visit) -> dict:
    return {"who": visit.who, "year": visit.day.year}

@app.service().endpoint("/plus/{number}")
def plus(number: int, more: int = 1) -> int:
    return number + more
"""


def test_a_program_answers_from_the_command_line_until_it_is_interrupted(engine: str, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    path = tmp_path / "socket"
    command = [sys.executable, "-m", "raflow", "run", "program.py", "--engine", engine, "--host", f"unix:{path}"]
    environment = {**os.environ, "RAFLOW_LEDGER": str(tmp_path / "ledger")}
    if engine == "ray":
        environment["RAY_ADDRESS"] = ray.get_runtime_context().gcs_address  # a cluster's, not a Ray of its own
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=-1, text=True) as process:
        assert process.stderr
        assert next(line for line in process.stderr if "answers at" in line)
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path)), base_url="http://here", timeout=60) as client:
            assert client.get("/plus/2", params={"more": 3}).json() == 5
            assert client.post("/visits", json={"who": "Ada", "day": "2023-05-06"}).json() == {
                "success": True, "records": 1,
            }  # fmt: skip
        process.send_signal(signal.SIGINT)
        _, printed = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    assert f"unix:{path}: 2 requests" in printed
    assert [file.read_text() for file in (tmp_path / "out").glob("[!.]*")] == ['{"who":"Ada","year":2023}\n']


def capacity(cpus: float, **given: Any) -> Capacity:
    return Capacity({"CPU": cpus}, **given)


@pytest.mark.parametrize(
    ("options", "room", "beside", "expected"),
    [
        ({}, capacity(4), False, (1, 4)),
        ({}, capacity(4), True, (1, 3)),
        ({}, capacity(1), True, (1, 1)),
        ({}, capacity(4, shared=True), False, (1, 1)),
        ({"autoscale": False}, capacity(4), False, (1, 1)),
        ({"autoscale": False, "max_replicas": 3}, capacity(4), False, (1, 1)),
        ({"num_replicas": 3}, capacity(4), True, (3, 3)),
        ({"min_replicas": 2, "max_replicas": 3}, capacity(8), False, (2, 3)),
        ({"min_replicas": 2}, capacity(1), False, (2, 2)),
        ({"num_cpus": 0}, capacity(4), False, (1, 4)),
    ],
)
def test_the_pool_has_room_for_what_is_asked(
    options: dict[str, Any], room: Capacity, beside: bool, expected: tuple[int, int]
) -> None:
    flow = Flow()
    flow.service(**options).add_endpoint(endpoint("/")(who))
    http = HttpApp.of(flow)
    scaling = serving_options(http, needs(http.all_options().values()), room, beside=beside).scaling
    assert (scaling.min_replicas, scaling.max_replicas) == expected


def test_all_that_is_served_together_has_the_strongest_wishes_of_each() -> None:
    flow = Flow()
    flow.service("/a", num_cpus=0.5, resources={"disk": 1.0}, min_replicas=2, target_ongoing_requests=4)
    flow.service("/b", num_gpus=1.0, max_replicas=5)
    http = HttpApp.of(flow, {"/b": {"max_replicas": 7}})
    held = needs(http.all_options().values())
    assert held == Resources(num_cpus=1.0, num_gpus=1.0, resources={"disk": 1.0})
    room = Capacity({"CPU": 9, "GPU": 9, "disk": 9})
    scaling = serving_options(http, held, room, beside=False).scaling
    assert (scaling.target_ongoing_requests, scaling.min_replicas, scaling.max_replicas) == (4.0, 2, 9)
    with pytest.raises(NoCapacity, match=r"no HTTP replica of 'raflow-app' fits: one needs .*GPU"):
        serving_options(http, held, Capacity({"CPU": 9}), beside=False)


def test_a_global_dependency_is_made_once_in_the_driver(started: Callable[..., Run]) -> None:
    flow = Flow("global", FlowOptions(num_cpus=0.5))
    service = flow.service()
    service.add_endpoint(endpoint("/made")(where_made))
    run = started(flow)
    assert httpx.get(f"{run.url}/made", timeout=WAIT_S).json() == os.getpid()


@dependency(scope="GLOBAL")
class Made:
    def __init__(self) -> None:
        self.pid = os.getpid()


def where_made(made: Made) -> int:
    return made.pid


def test_replicas_of_one_run_answer_a_repeated_key_alike(started: Callable[..., Run], tmp_path: Path) -> None:
    flow = answering(num_replicas=2)
    store = SqlReplies(f"sqlite:///{tmp_path}/replies.db")
    sink = JsonLinesFiles(tmp_path / "out")
    flow.add_collector(collector("/readings", sink=sink, idempotency_store=store)(warm))
    run = started(flow)
    until(lambda: (http := run.stats().http) and http.replicas and not http.starting)
    with ThreadPoolExecutor(8) as threads:
        replies = list(threads.map(lambda _: once(f"{run.url}/readings"), range(24)))
    assert {(reply.status_code, reply.text) for reply in replies} == {(200, '{"success":true,"records":1}')}
    ended(run)
    lines = [line for file in (tmp_path / "out").glob("*.jsonl") for line in file.read_text().splitlines()]
    assert lines == ['{"station":"Ada","celsius":20.0}']


def once(url: str) -> httpx.Response:
    """A request on a connection of its own, so that any replica may get it."""
    return httpx.post(url, json={"station": "Ada"}, headers={"Idempotency-Key": "7"}, timeout=WAIT_S, verify=False)


class TwoNodes(LocalEngine):
    """Says what a cluster would."""

    def capacity(self) -> Capacity:
        return replace(super().capacity(), nodes=2)


def test_collectors_of_several_nodes_do_not_scatter_what_they_acknowledge(tmp_path: Path) -> None:
    flow = Flow("scattering")
    flow.add_collector(collector("/readings", on_error=JsonLinesFiles(tmp_path / "bad"))(warm))
    http, engine = HttpApp.of(flow), TwoNodes()
    side = HttpSide(http, engine, address_of(None, 0), Shared([], flow.options.credentials()))
    with pytest.raises(EngineError, match="of 'warm' is a local path, but the cluster has 2 nodes"):
        side.start(None, time.monotonic())
    assert not (tmp_path / "bad").exists()
    (end,) = Path(os.environ["RAFLOW_LEDGER"]).glob("*/end.json")
    assert json.loads(end.read_text()) == {"status": "failed"}
    check_one_node(http.named_sinks(), engine, FlowOptions(shared_path=True))
