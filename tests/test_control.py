"""A run that is looked at, resized and ended from outside of its process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner, Result

from raflow import Flow, FlowOptions
from raflow.cli import main
from raflow.connectors.files import JsonLinesFiles
from raflow.connectors.memory import MemorySource
from raflow.errors import CannotListen, InvalidOption
from raflow.metrics import Status
from raflow.runtime.run import CONTROL_TOKEN, Run
from tests.runtime.serving.conftest import until

WAIT_S, END_S = 90.0, 3.0


def same(record: dict[str, Any]) -> dict[str, Any]:
    return record


class Waits:
    """Keeps the run busy until the test opens the gate."""

    def __init__(self, gate: Path) -> None:
        self.gate = gate

    def __call__(self, record: dict[str, Any]) -> dict[str, Any]:
        self.gate.with_name("began").touch()
        until(self.gate.exists)
        return record


def answering() -> Flow:
    flow = Flow("answering", FlowOptions(num_cpus=0.5))
    flow.service(min_replicas=1, max_replicas=2, target_ongoing_requests=100.0).endpoint("/who")(os.getpid)
    return flow


def moving(folder: Path, gate: str = "gate") -> Flow:
    """A Flow without HTTP that goes on until its gate is there."""
    flow = Flow("moving", FlowOptions(batch_rows=1, shared_path=True))
    sink = JsonLinesFiles(folder / "out")
    flow.consumer(source=MemorySource([{"n": n} for n in range(4)]), sink=sink, name="wait", num_replicas=1)(
        Waits(folder / gate).__call__
    )
    return flow


@pytest.fixture(autouse=True)
def _no_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CONTROL_TOKEN, raising=False)


@pytest.fixture
def started(engine: str) -> Iterator[Callable[[Flow], tuple[Run, httpx.Client]]]:
    """Starts a Flow with a control port; returns the run and a client of its control routes."""
    running: list[tuple[Run, httpx.Client]] = []

    def start(flow: Flow) -> tuple[Run, httpx.Client]:
        options = {"port": 0} if flow.services else {}
        run = flow.start(engine=engine, control_port=0, **options)
        assert run.control
        token = {"Authorization": f"Bearer {run.control.token}"}
        running.append((run, httpx.Client(base_url=run.control.url, headers=token, timeout=WAIT_S, trust_env=False)))
        return running[-1]

    yield start
    for run, client in running:
        client.close()
        run.drain(0.0)  # unlike `stop` it leaves processes to the next test
        run.settled(END_S)
        run.stop()
        run.settled(WAIT_S)


Started = Callable[[Flow], tuple[Run, httpx.Client]]


def test_a_run_tells_what_it_does_and_how_large_it_is(started: Started) -> None:
    run, client = started(answering())
    until(lambda: client.get("/status").json()["http"]["replicas"] == 1)
    httpx.get(f"{run.url}/who", timeout=WAIT_S)
    until(lambda: client.get("/status").json()["http"]["total"] == 1)
    found = client.get("/status").json()
    assert (found["run_id"], found["flow_id"], found["status"], found["ending"]) == (
        run.id, "answering", "running", None,
    )  # fmt: skip
    assert (found["http"]["url"], found["stages"]) == (run.url, [])
    snapshot = client.get("/snapshot").json()
    assert snapshot["engine"] == run.stats().engine
    assert (snapshot["http"]["max_replicas"], snapshot["http"]["replicas_lost"]) == (run.stats().http.max_replicas, 0)  # type: ignore[union-attr]


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["ray"])
def test_http_replicas_are_scaled_within_their_bounds(started: Started, ray_session: None) -> None:
    run, client = started(answering())
    assert client.post("/scale", json={"replicas": 2}).json() == {"run_id": run.id, "replicas": 2}
    until(lambda: client.get("/status").json()["http"]["replicas"] == 2)
    refused = client.post("/scale", json={"replicas": 3})
    assert refused.status_code == 422
    assert "replicas is 3" in refused.json()["detail"]
    assert "may have 1 to 2" in refused.json()["detail"]


def test_a_run_of_data_drains_when_it_is_told_to(started: Started, tmp_path: Path) -> None:
    run, client = started(moving(tmp_path))
    until((tmp_path / "began").exists)
    assert client.get("/status").json()["stages"][0]["replicas"] == 1
    refused = client.post("/scale", json={"replicas": 2})
    assert (refused.status_code, refused.json()["detail"]) == (
        409, f"run {run.id} answers no HTTP: its pools are sized by their options",
    )  # fmt: skip
    reply = client.post("/drain", json={"timeout_s": WAIT_S})
    assert (reply.status_code, reply.json()) == (202, {"run_id": run.id, "ending": "drain"})
    assert client.get("/status").json()["ending"] == "drain"
    (tmp_path / "gate").touch()
    assert run.wait(WAIT_S)
    until(lambda: is_closed(client))


def is_closed(client: httpx.Client) -> bool:
    try:
        socket.create_connection((client.base_url.host, client.base_url.port or 0)).close()
    except ConnectionRefusedError:
        return True
    return False


def test_a_run_that_drains_can_still_be_stopped_and_not_be_scaled(started: Started, tmp_path: Path) -> None:
    run, client = started(moving(tmp_path))
    until((tmp_path / "began").exists)
    assert client.post("/drain").status_code == 202
    refused = client.post("/scale", json={"replicas": 1})
    assert (refused.status_code, refused.json()["detail"]) == (409, f"run {run.id} ends already: it was asked to drain")
    assert client.post("/stop").json() == {"run_id": run.id, "ending": "stop"}
    assert run.settled(WAIT_S)
    assert run.status() is Status.CANCELLED
    (tmp_path / "gate").touch()


@pytest.fixture
def held(tmp_path: Path) -> Iterator[tuple[Run, str]]:
    """A run on the local engine that goes on for the whole test, and where it is controlled."""
    run = moving(tmp_path).start(engine="local", control_port=0)
    assert run.control
    yield run, run.control.url
    run.stop()
    (tmp_path / "gate").touch()
    run.settled(WAIT_S)


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic {token}"}, {"Authorization": "Bearer"}],
)
@pytest.mark.parametrize(("method", "path"), [("GET", "/status"), ("POST", "/stop"), ("GET", "/nothing")])
def test_who_has_no_token_learns_nothing(
    held: tuple[Run, str], method: str, path: str, headers: dict[str, str]
) -> None:
    run, url = held
    assert run.control
    sent = {name: value.format(token=run.control.token) for name, value in headers.items()}
    reply = httpx.request(method, url + path, headers=sent, verify=False)
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert run.ending is None


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("GET", "/nothing", None, 404),
        ("GET", "/docs", None, 404),
        ("GET", "/stop", None, 405),
        ("POST", "/scale", None, 422),
        ("POST", "/scale", {"replicas": 0}, 422),
        ("POST", "/scale", {"replicas": "many"}, 422),
        ("POST", "/drain", {"timeout": 3}, 422),
        ("POST", "/drain", {"timeout_s": -1}, 422),
    ],
)
def test_what_makes_no_sense_is_refused_and_the_run_goes_on(
    held: tuple[Run, str], method: str, path: str, body: Any, status: int
) -> None:
    run, url = held
    assert run.control
    token = {"Authorization": f"Bearer {run.control.token}"}
    assert httpx.request(method, url + path, json=body, headers=token, verify=False).status_code == status
    assert run.ending is None


def test_it_listens_on_loopback_alone_and_shows_no_token(held: tuple[Run, str]) -> None:
    run, url = held
    assert url.startswith("http://127.0.0.1:")
    assert run.control
    assert run.control.token not in repr(run.control)


def test_a_port_in_use_is_told_before_anything_moves(held: tuple[Run, str], tmp_path: Path) -> None:
    taken = int(held[1].rpartition(":")[2])
    with pytest.raises(CannotListen, match=f"{taken}: it is in use"):
        moving(tmp_path, "other").start(engine="local", control_port=taken)
    with pytest.raises(InvalidOption, match="control_port is 70000"):
        moving(tmp_path, "other").start(engine="local", control_port=70000)


def test_a_run_that_cannot_start_frees_the_control_port(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    for _ in range(2):
        with pytest.raises(InvalidOption, match="limit is 0; it is a number of records"):
            moving(tmp_path).start(engine="local", control_port=port, limit=0)
    monkeypatch.setenv(CONTROL_TOKEN, " ")
    with pytest.raises(InvalidOption, match=f"{CONTROL_TOKEN} is empty"):
        moving(tmp_path).start(engine="local", control_port=port)


PROGRAM = """
from raflow import Flow

app = Flow("shop")

@app.service().endpoint("/")
def root() -> int:
    return 1
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[tuple[subprocess.Popen[str], int, str]]:
    """A Flow that the command line runs; its control port and the token that it has made."""
    (tmp_path / "program.py").write_text(PROGRAM)
    command = [sys.executable, "-m", "raflow", "run", "program.py", "--engine", "local", "--control-port", "0"]
    command += ["--host", f"unix:{tmp_path / 'socket'}"]
    environment = {**os.environ, "RAFLOW_LEDGER": str(tmp_path / "ledger")}
    with subprocess.Popen(command, cwd=tmp_path, env=environment, stderr=-1, text=True) as process:
        assert process.stderr
        line = next(line for line in process.stderr if line.startswith("control: "))
        url, _, token = line.removeprefix("control: ").strip().partition(f", {CONTROL_TOKEN}=")
        yield process, int(url.rpartition(":")[2]), token
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)


def command(*words: str, token: str = "", code: int = 0) -> Result:
    done = CliRunner().invoke(main, ["control", *words], env={CONTROL_TOKEN: token})
    assert done.exit_code == code, (done.stdout, done.stderr)
    return done


def test_the_command_line_looks_at_a_run_and_ends_it(program: tuple[subprocess.Popen[str], int, str]) -> None:
    process, port, token = program
    found = json.loads(command("status", "--port", str(port), token=token).stdout)
    assert (found["flow_id"], found["status"]) == ("shop", "running")
    assert json.loads(command("snapshot", "--port", str(port), token=token).stdout)["flow_id"] == "shop"
    refused = command("scale", "--port", str(port), "7", token=token, code=1)
    assert refused.stderr.startswith("422: replicas is 7; run")
    assert json.loads(command("drain", "--port", str(port), token=token).stdout)["ending"] == "drain"
    assert process.wait(60) == 0
    gone = command("status", "--port", str(port), token=token, code=1)
    assert f"no run answers at 127.0.0.1:{port}: " in gone.stderr


def test_many_signals_at_once_end_a_run(program: tuple[subprocess.Popen[str], int, str]) -> None:
    process, _, _ = program
    for _ in range(20):  # a handler interrupts another one
        process.send_signal(signal.SIGTERM)
        process.send_signal(signal.SIGINT)
    process.wait(60)


def test_the_command_line_says_which_token_it_wants(held: tuple[Run, str]) -> None:
    port = held[1].rpartition(":")[2]
    assert f"{CONTROL_TOKEN} is not set" in command("status", "--port", port, code=2).stderr
    assert command("stop", "--port", port, token="wrong", code=1).stderr.startswith("401: not authenticated")
    assert held[0].ending is None


def test_a_given_token_is_taken_and_not_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(CONTROL_TOKEN, "a-token-of-mine")
    run = moving(tmp_path).start(engine="local", control_port=0)
    assert run.control
    reply = httpx.get(f"{run.control.url}/status", headers={"Authorization": "bearer a-token-of-mine"})
    (tmp_path / "gate").touch()
    assert run.wait(WAIT_S)
    assert reply.json()["run_id"] == run.id
    assert "a-token-of-mine" not in "".join(capfd.readouterr())
