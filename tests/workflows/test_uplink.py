from __future__ import annotations

import json
import logging
import queue
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from raflow.errors import InvalidOption
from raflow.workflows.updates import FlowUpdateDTO, flow_update
from raflow.workflows.uplink import FINAL_S, UplinkClient, UplinkConfig

WAIT_S = 20
"""For what must come; nothing waits so long if all is well."""
SPARE_S = 1.5
"""What a busy machine may add to a deadline."""


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("no_proxy", "*")


# -- real servers -----------------------------------------------------------------------------------------


@dataclass
class Got:
    """A request, as the server has seen it."""

    method: str
    path: str
    headers: dict[str, str]
    text: str
    at: float

    @property
    def body(self) -> Any:
        return json.loads(self.text)

    @property
    def status(self) -> str:
        """The status of the first node."""
        return str(self.body["pipeline_graph"]["nodes"][0]["status"])


class Server:
    """Answers each request with what `answer` returns, after it has returned."""

    def __init__(self, answer: Callable[[int], int]) -> None:
        self.requests: queue.SimpleQueue[Got] = queue.SimpleQueue()
        self.location = "/"
        self._numbers = iter(range(1_000_000))
        self._answer = answer
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://127.0.0.1:{self._http.server_address[1]}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.01,))
        self._thread.start()

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(WAIT_S)

    def next(self) -> Got:
        return self.requests.get(timeout=WAIT_S)

    def others(self) -> list[str]:
        """The first node's status in each request that was not looked at yet."""
        return [self.requests.get().status for _ in range(self.requests.qsize())]

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self) -> None:
                at = time.monotonic()
                text = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                server.requests.put(Got(self.command, self.path, dict(self.headers), text, at))
                self.send_response(server._answer(next(server._numbers)))
                self.send_header("Location", server.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            do_POST = do_GET = do_PUT

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Nothing to say."""

        return Handler


@contextmanager
def serving(answer: Callable[[int], int] = lambda _: 200) -> Iterator[Server]:
    server = Server(answer)
    try:
        yield server
    finally:
        server.close()


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as it:
        yield it


@pytest.fixture
def silent() -> Iterator[str]:
    """The url of a server that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


def dead() -> str:
    """A url at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"http://127.0.0.1:{listening.getsockname()[1]}"


def state(status: str) -> FlowUpdateDTO:
    return flow_update([{"id": "a"}], [{"id": "a_0", "parent_id": "a", "status": status}])


def threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "raflow uplink"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# -- where it is sent ---------------------------------------------------------------------------------------


def test_with_both_ids_states_are_put_to_the_run(server: Server) -> None:
    uplink = UplinkClient(UplinkConfig(server.url + "/", "my app", "a/b", token="s3cret"))
    uplink.run_async()
    uplink.submit_update(state("running"))
    got = server.next()
    uplink.terminate()
    assert (got.method, got.path) == ("PUT", "/v1/internal/applications/my%20app/runs/a%2Fb/flow")
    assert got.headers["Authorization"] == "Bearer s3cret"
    assert got.headers["Content-Type"] == "application/json"
    assert got.status == "running"


@pytest.mark.parametrize("ids", [(None, None), ("app", None), (None, "run")])
def test_without_both_ids_states_are_posted_to_the_url_itself(
    server: Server, ids: tuple[str | None, str | None]
) -> None:
    uplink = UplinkClient(UplinkConfig(f"{server.url}/hook?x=1", *ids))
    uplink.run_async()
    uplink.submit_update(state("running"))
    got = server.next()
    uplink.terminate()
    assert (got.method, got.path) == ("POST", "/hook?x=1")
    assert "Authorization" not in got.headers


@pytest.mark.parametrize("config", [None, UplinkConfig(None), UplinkConfig("", "app", "run", "token")])
def test_without_config_or_url_there_is_no_thread(config: UplinkConfig | None) -> None:
    uplink = UplinkClient(config)
    uplink.submit_update(state("pending"))
    uplink.run_async()
    uplink.submit_update(state("running"))
    assert not uplink.is_active
    assert threads() == []
    uplink.terminate()


def test_the_token_is_never_shown() -> None:
    config = UplinkConfig("https://example.org", token="s3cret")
    assert "s3cret" not in f"{config!r} {config} {UplinkClient(config)!r}"
    with pytest.raises(InvalidOption) as refused:
        UplinkConfig("https://example.org", token="s3cret\n")
    assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize(
    ("url", "interval_s", "message"),
    [
        ("example.org/flow", 5, "url is 'example.org/flow'; it must begin with http://"),
        ("file:///etc/passwd", 5, "must begin with http://"),
        ("http://", 5, "must begin with http://"),
        ("http://[::1", 5, "must begin with http://"),
        ("https://me:pass@example.org", 5, "give a token"),
        ("https://example.org", -1, "interval_s is -1"),
        ("https://example.org", float("nan"), "interval_s is nan"),
    ],
)
def test_what_cannot_be_used_is_refused(url: str, interval_s: float, message: str) -> None:
    with pytest.raises(InvalidOption, match=message):
        UplinkConfig(url, interval_s=interval_s)


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_a_redirect_is_not_followed_for_the_token_is_for_one_server(
    server: Server, code: int, caplog: pytest.LogCaptureFixture
) -> None:
    with serving(lambda _: code) as first:
        first.location = server.url
        uplink = UplinkClient(UplinkConfig(first.url, token="s3cret"))
        uplink.submit_update(state("running"))
        uplink.run_async()
        first.next()
        uplink.terminate()
    assert server.requests.empty()
    assert len(warnings(caplog)) == 1


# -- when it is sent ----------------------------------------------------------------------------------------


def test_the_newest_state_alone_is_sent_and_the_last_one_does_not_wait(server: Server) -> None:
    uplink = UplinkClient(UplinkConfig(server.url, interval_s=60))
    uplink.run_async()
    uplink.submit_update(state("first"))
    assert server.next().status == "first"
    for number in range(1000):
        uplink.submit_update(state(str(number)))
    began = time.monotonic()
    uplink.terminate()
    assert time.monotonic() - began < FINAL_S
    assert server.others() == ["999"]
    assert threads() == []


def test_a_state_that_was_submitted_before_the_start_is_sent(server: Server) -> None:
    uplink = UplinkClient(UplinkConfig(server.url))
    uplink.submit_update(state("pending"))
    assert threads() == []
    uplink.run_async()
    uplink.run_async()
    assert len(threads()) == 1
    assert server.next().status == "pending"
    uplink.terminate()


def test_nothing_is_sent_while_nothing_changes(server: Server) -> None:
    uplink = UplinkClient(UplinkConfig(server.url, interval_s=0))
    uplink.run_async()
    for number in range(3):
        uplink.submit_update(state(str(number)))
        assert server.next().status == str(number)
    uplink.terminate()
    assert server.others() == []


def test_requests_keep_their_distance(server: Server) -> None:
    uplink = UplinkClient(UplinkConfig(server.url, interval_s=0.3))
    uplink.run_async()
    at = []
    for number in range(3):
        uplink.submit_update(state(str(number)))
        at.append(server.next().at)
    uplink.terminate()
    assert at[1] - at[0] > 0.2  # they may come with some delay each
    assert at[2] - at[1] > 0.2


def test_a_function_is_called_only_for_a_state_that_is_sent(server: Server) -> None:
    made: list[int] = []

    def make(number: int) -> Callable[[], FlowUpdateDTO]:
        return lambda: made.append(number) or state(str(number))  # type: ignore[func-returns-value]

    uplink = UplinkClient(UplinkConfig(server.url, interval_s=60))
    uplink.run_async()
    uplink.submit_update(make(-1))
    assert server.next().status == "-1"
    for number in range(1000):
        uplink.submit_update(make(number))
    uplink.terminate()
    assert made == [-1, 999]
    assert server.others() == ["999"]


def test_it_can_begin_again(server: Server) -> None:
    uplink = UplinkClient(UplinkConfig(server.url))
    for run in ("one", "two"):
        uplink.run_async()
        uplink.submit_update(state(run))
        uplink.terminate()
        uplink.terminate()
        uplink.submit_update(state("late"))
        assert server.others() == [run]


# -- servers that are not well ------------------------------------------------------------------------------


def test_a_dead_server_costs_nothing_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    uplink = UplinkClient(UplinkConfig(dead(), token="s3cret", interval_s=0))
    began = time.monotonic()
    uplink.run_async()
    for number in range(1000):
        uplink.submit_update(state(str(number)))
    uplink.terminate()
    assert time.monotonic() - began < FINAL_S + SPARE_S
    (warning,) = warnings(caplog)
    assert "Connection refused" in warning
    assert "s3cret" not in caplog.text


def test_a_server_that_never_answers_costs_the_deadline_alone(silent: str, caplog: pytest.LogCaptureFixture) -> None:
    uplink = UplinkClient(UplinkConfig(silent))
    uplink.run_async()
    began = time.monotonic()
    uplink.submit_update(state("running"))
    uplink.submit_update(state("succeeded"))
    assert time.monotonic() - began < SPARE_S, "submitting does not wait"
    began = time.monotonic()
    uplink.terminate()
    assert time.monotonic() - began < FINAL_S + SPARE_S
    assert len(warnings(caplog)) == 1


def test_a_slow_server_gets_the_last_state_if_it_answers_within_the_deadline() -> None:
    answer = threading.Event()
    with serving(lambda number: 200 if number or answer.wait(WAIT_S) else 500) as server:
        uplink = UplinkClient(UplinkConfig(server.url, interval_s=0))
        uplink.run_async()
        uplink.submit_update(state("running"))
        assert server.next().status == "running"
        uplink.submit_update(state("succeeded"))
        ending = threading.Thread(target=uplink.terminate)
        ending.start()
        answer.set()
        ending.join(WAIT_S)
        assert server.others() == ["succeeded"]


def test_a_server_that_is_too_slow_gets_nothing_after_the_end(caplog: pytest.LogCaptureFixture) -> None:
    answer = threading.Event()
    with serving(lambda _: 200 if answer.wait(WAIT_S) else 500) as server:
        uplink = UplinkClient(UplinkConfig(server.url, interval_s=0))
        uplink.run_async()
        uplink.submit_update(state("running"))
        assert server.next().status == "running"
        (thread,) = (thread for thread in threading.enumerate() if thread.name == "raflow uplink")
        uplink.submit_update(state("succeeded"))
        began = time.monotonic()
        uplink.terminate()
        assert time.monotonic() - began < FINAL_S + SPARE_S
        answer.set()
        thread.join(WAIT_S)
        assert not thread.is_alive()
        assert server.others() == []
    assert len(warnings(caplog)) == 1


def test_errors_of_a_server_are_logged_once_and_the_state_is_sent_again(caplog: pytest.LogCaptureFixture) -> None:
    with serving(lambda number: 500 if number < 2 else 200) as server:
        uplink = UplinkClient(UplinkConfig(server.url, interval_s=0))
        uplink.run_async()
        uplink.submit_update(state("running"))
        assert [server.next().status for _ in range(3)] == ["running"] * 3
        uplink.terminate()
        assert server.others() == []
    (warning,) = warnings(caplog)
    assert "500" in warning


def test_a_server_that_always_fails_does_not_hold_up_the_end(caplog: pytest.LogCaptureFixture) -> None:
    with serving(lambda _: 500) as server:
        uplink = UplinkClient(UplinkConfig(server.url))
        uplink.run_async()
        uplink.submit_update(state("running"))
        server.next()
        uplink.submit_update(state("failed"))
        began = time.monotonic()
        uplink.terminate()
        assert time.monotonic() - began < FINAL_S
        assert server.others() == ["failed"]
    assert len(warnings(caplog)) == 1


def test_a_function_that_raises_is_logged_and_the_next_state_is_sent(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    tried = threading.Event()

    def fail() -> FlowUpdateDTO:
        tried.set()
        msg = "no state"
        raise ValueError(msg)

    uplink = UplinkClient(UplinkConfig(server.url))
    uplink.run_async()
    uplink.submit_update(fail)
    assert tried.wait(WAIT_S)
    uplink.submit_update(state("succeeded"))
    uplink.terminate()
    assert server.others() == ["succeeded"]
    assert "no state" in warnings(caplog)[0]


def test_a_process_that_raises_before_the_end_exits_at_once(silent: str) -> None:
    program = (
        "from raflow.workflows.updates import flow_update\n"
        "from raflow.workflows.uplink import UplinkClient, UplinkConfig\n"
        f"uplink = UplinkClient(UplinkConfig({silent!r}))\n"
        "uplink.run_async()\n"
        "uplink.submit_update(flow_update([{'id': 'a'}]))\n"
        "raise SystemExit(3)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (3, "")
