"""Replicas that answer on one address, on both engines: kept, replaced, more and fewer of them."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from raflow.errors import CannotListen, InvalidOption, RunFailed
from raflow.metrics import Status
from raflow.options import ConnectionOptions
from raflow.runtime.serving.address import Address
from raflow.runtime.serving.server import Tls
from raflow.runtime.serving.serving import Serving
from tests.runtime.serving.apps import App
from tests.runtime.serving.clients import Clients
from tests.runtime.serving.conftest import READY_S, Serve, scaling, until
from tests.runtime.serving.wire import WHO

TWO = scaling(1, 2, target_ongoing_requests=1000)


def url(serving: Serving, path: str = "/who") -> str:
    return f"http://{serving.address}{path}"


def process(who: str) -> int:
    return int(who.split(maxsplit=1)[0])


def test_a_pool_answers_until_it_has_drained(serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raflow.engines.ray.actors._FREE_S", 0.1)
    serving = serve(App(tmp_path))
    with httpx.Client() as client:
        assert client.post(url(serving, "/echo"), content=b"x" * 100_000).json() == {"bytes": 100_000}
        pid = process(client.get(url(serving)).json()["who"])
        serving.drain()
    assert (tmp_path / "shut down").exists()
    stats = serving.stats()
    assert (stats.status, stats.replicas, stats.total, stats.cut) == (Status.SUCCEEDED, 0, 2, 0)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((serving.address.host, serving.address.port))
    until(lambda: pid == os.getpid() or not psutil.pid_exists(pid))


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["ray"])
def test_a_process_serves_the_next_pool_unless_something_is_still_under_way_in_it(
    serve: Serve, ray_session: None, tmp_path: Path
) -> None:
    pids = []
    for cut in (False, True, False):
        serving = serve(App(tmp_path))
        with ThreadPoolExecutor(1) as pool:
            pids.append(process(httpx.get(url(serving), timeout=READY_S).json()["who"]))
            if cut:
                pool.submit(httpx.get, url(serving, "/wait?name=a"), timeout=READY_S)
                until((tmp_path / "a began").exists)
            serving.drain(0.0)
        assert serving.stats().cut == cut
    assert pids[0] == pids[1] != pids[2]


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["ray"])
def test_a_replica_that_is_killed_costs_only_its_requests_and_is_replaced(serve: Serve, ray_session: None) -> None:
    serving = serve(App(), replicas=2)
    with Clients(url(serving)) as clients:
        until(lambda: len(clients.answered_by) == 2)
        with pytest.raises(httpx.HTTPError), httpx.Client(timeout=5) as client:
            client.get(url(serving, "/die"))
        until(lambda: serving.stats().replicas_lost == 1 and serving.stats().replicas == 2)
        until(lambda: len(clients.answered_by) == 3)
    assert max(len(client.lost) + client.raced for client in clients.all) <= 1, "one request each, of those on it"
    serving.drain()


def test_clients_move_to_a_new_replica_and_lose_nothing_when_it_leaves(serve: Serve) -> None:
    serving = serve(App(), scaling=TWO, connections=ConnectionOptions(leave_s=2.0))
    with Clients(url(serving)) as clients:
        until(lambda: len(clients.answered_by) == 1)
        serving.scale(2)
        until(lambda: len(clients.answered_by) == 2)
        serving.scale(1)
        until(lambda: len(serving.stats().resized) == 2 and serving.stats().leaving == 0)
    assert clients.lost == []
    assert clients.raced == 0, "their clients are told to leave, in time"
    assert [(one.before, one.after) for one in serving.stats().resized] == [(1, 2), (2, 1)]


def test_the_pool_grows_when_requests_pile_up(serve: Serve, tmp_path: Path) -> None:
    serving = serve(App(tmp_path), scaling=scaling(1, 2, target_ongoing_requests=2))
    with ThreadPoolExecutor(8) as pool:
        answers = [pool.submit(httpx.get, url(serving, "/wait?name=a"), timeout=READY_S) for _ in range(8)]
        until(lambda: serving.stats().replicas == 2)
        (tmp_path / "a").touch()
        assert [one.result().status_code for one in answers] == [200] * 8
    assert "requests ongoing, 2 for each replica" in serving.stats().resized[0].reason


@pytest.mark.parametrize(("fails", "error"), [("make", LookupError), ("start", ConnectionRefusedError)])
def test_an_application_that_does_not_start_ends_the_pool_with_its_error(
    serve: Serve, fails: str, error: type[Exception]
) -> None:
    serving = serve(App(fails=fails), ready=False)
    with pytest.raises(RunFailed, match=r"'api' failed in setup: .*: (no such setting|the database)") as failed:
        serving.wait_ready(READY_S)
    assert isinstance(failed.value.__cause__, error)
    assert failed.value.traceback.rstrip().splitlines()[1].strip().startswith("File ")
    assert "apps.py" in failed.value.traceback.splitlines()[1]
    assert serving.ended.wait(READY_S)


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["ray"])
def test_replicas_that_die_in_set_up_end_the_pool(serve: Serve, ray_session: None) -> None:
    serving = serve(App(fails="die"), ready=False)
    with pytest.raises(RunFailed, match="3 replicas of 'api' did not come up, one after the other"):
        serving.wait_ready(READY_S)


def test_a_failing_shutdown_is_told(serve: Serve) -> None:
    serving = serve(App(fails="end"))
    with pytest.raises(RunFailed, match="failed in teardown: ConnectionRefusedError"):
        serving.drain()


@pytest.mark.parametrize("engine", ["local"])
def test_a_replica_that_cannot_drain_fails_the_end_of_the_pool(
    serve: Serve, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raflow.runtime.serving.replica._LATE_S", 0.1)
    serving = serve(App(tmp_path))
    with ThreadPoolExecutor(1) as pool:
        blocking = pool.submit(httpx.get, url(serving, "/block?name=a"), timeout=READY_S)
        until((tmp_path / "a began").exists)
        with pytest.raises(RunFailed, match="something blocks its event loop; .* may have lost records") as failed:
            serving.drain(0.1)
        (tmp_path / "a").touch()
        blocking.exception()
    assert failed.value.replica == "api[0]"
    assert (serving.status, serving.stats().replicas_lost) == (Status.FAILED, 1)


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["ray"])
def test_a_replica_that_is_killed_while_all_leave_fails_the_end_of_the_pool(
    serve: Serve, ray_session: None, tmp_path: Path
) -> None:
    serving = serve(App(tmp_path))
    with ThreadPoolExecutor(2) as pool:
        waiting = pool.submit(httpx.get, url(serving, "/wait?name=a"), timeout=READY_S)
        until((tmp_path / "a began").exists)
        draining = pool.submit(serving.drain)
        until(lambda: serving.stats().leaving)
        os.kill(int((tmp_path / "a began").read_text()), signal.SIGKILL)
        with pytest.raises(RunFailed, match="may have lost records"):
            draining.result()
        assert isinstance(waiting.exception(), httpx.HTTPError)
    assert serving.stats().status is Status.FAILED


@pytest.mark.ray
@pytest.mark.parametrize("engine", ["ray"])
def test_a_replica_that_is_killed_while_only_it_leaves_is_told_and_the_other_one_answers_on(
    serve: Serve, ray_session: None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    serving = serve(App(tmp_path), scaling=TWO)
    serving.scale(2)
    until(lambda: serving.stats().replicas == 2)
    with ThreadPoolExecutor(64) as pool:
        names = iter(range(1_000_000))

        def both_wait() -> bool:
            pool.submit(httpx.get, url(serving, f"/wait?name={next(names)}"), timeout=READY_S)
            found = {int(one.read_text() or 0) for one in tmp_path.glob("* began")}
            return len(found - {0}) == 2

        until(both_wait)
        serving.scale(1)
        until(lambda: serving.stats().leaving)
        until(lambda: len({httpx.get(url(serving)).json()["who"] for _ in range(20)}) == 1)
        stays = process(httpx.get(url(serving)).json()["who"])
        (leaves,) = {int(one.read_text()) for one in tmp_path.glob("* began")} - {stays}
        os.kill(leaves, signal.SIGKILL)
        until(lambda: serving.stats().replicas_lost)
        for name in range(next(names)):
            (tmp_path / str(name)).touch()
    assert sum("may have lost records" in record.getMessage() for record in caplog.records) == 1
    assert process(httpx.get(url(serving)).json()["who"]) == stays
    serving.drain()
    assert serving.stats().status is Status.SUCCEEDED


def test_a_port_in_use_is_refused_before_anything_starts_and_free_after_the_end(serve: Serve) -> None:
    serving = serve(App())
    with pytest.raises(CannotListen, match=rf":{serving.address.port}: it is in use by process \d+ \("):
        serve(App(), address=serving.address, ready=False)
    serving.stop()
    assert serve(App(), address=serving.address, ready=False).address == serving.address


@pytest.mark.parametrize("engine", ["local"])
def test_a_replica_whose_event_loop_is_blocked_is_replaced(serve: Serve, tmp_path: Path) -> None:
    serving = serve(App(tmp_path), hung_after_s=0.3)
    with ThreadPoolExecutor(1) as pool:
        blocking = pool.submit(httpx.get, url(serving, "/block?name=a"), timeout=READY_S)
        until(lambda: serving.stats().replicas_lost == 1 and serving.stats().replicas == 1)
        assert "api[1]" in httpx.get(url(serving)).json()["who"]
        (tmp_path / "a").touch()
        blocking.exception()


def test_a_unix_socket_is_answered_and_removed(serve: Serve, tmp_path: Path) -> None:
    path = tmp_path / "http"
    serving = serve(App(), address=Address(path=str(path)))
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
        assert client.get("http://localhost/who").status_code == 200
    with pytest.raises(CannotListen, match="it is in use"):
        serve(App(), address=Address(path=str(path)), ready=False)
    serving.drain()
    assert not path.exists()


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    folder = tmp_path_factory.mktemp("tls")
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost"
    made = [*command.split(), "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(made, check=True, capture_output=True)
    return Tls(str(certificate), str(key))


def test_connections_are_encrypted(serve: Serve, tls: Tls) -> None:
    serving = serve(App(), tls=tls)
    trusted = ssl.create_default_context(cafile=tls.certificate)
    with httpx.Client(verify=trusted) as client:
        assert client.get(f"https://{serving.address}/who").status_code == 200
        serving.drain()


def answered(connected: socket.socket, trusted: ssl.SSLContext | None) -> bytes:
    """What comes on a connection that has waited."""
    connected.settimeout(READY_S)
    with trusted.wrap_socket(connected, server_hostname="127.0.0.1") if trusted else connected as peer:
        peer.sendall(WHO)
        return b"".join(iter(lambda: peer.recv(65536), b""))


@pytest.mark.parametrize("secure", [False, True])
def test_who_waits_while_the_whole_pool_leaves_is_answered(
    serve: Serve, tls: Tls, secure: bool, tmp_path: Path
) -> None:
    serving = serve(App(tmp_path), tls=tls if secure else None)
    trusted = ssl.create_default_context(cafile=tls.certificate)
    blocking = f"{'https' if secure else 'http'}://{serving.address}/block?name=a"
    with ThreadPoolExecutor(12) as pool:
        pool.submit(httpx.get, blocking, timeout=READY_S, verify=trusted)
        until((tmp_path / "a began").exists)  # from now on nothing is accepted
        waiting = [socket.create_connection((serving.address.host, serving.address.port)) for _ in range(10)]
        answers = [pool.submit(answered, one, trusted if secure else None) for one in waiting]
        draining = pool.submit(serving.drain)
        until(lambda: serving.stats().leaving)
        (tmp_path / "a").touch()
        assert [one.result()[:15] for one in answers] == [b"HTTP/1.1 200 OK"] * 10
        draining.result()
    assert (tmp_path / "shut down").exists()


@pytest.mark.parametrize("engine", ["local"])
def test_a_certificate_that_is_not_there_is_told(serve: Serve, tls: Tls, tmp_path: Path) -> None:
    serving = serve(App(), tls=Tls(str(tmp_path / "none.pem"), tls.key), ready=False)
    with pytest.raises(RunFailed, match=r"connections cannot be encrypted with Tls\(.*none.pem") as failed:
        serving.wait_ready(READY_S)
    assert isinstance(failed.value.__cause__, InvalidOption)


@pytest.mark.parametrize("engine", ["local"])
def test_stopping_leaves_no_thread(serve: Serve, tmp_path: Path) -> None:
    serving = serve(App(tmp_path), replicas=2)
    with ThreadPoolExecutor(1) as pool:
        cut = pool.submit(httpx.get, url(serving, "/wait?name=a"), timeout=READY_S)
        until((tmp_path / "a began").exists)
        serving.stop()
        with pytest.raises(httpx.HTTPError):
            cut.result()
    until(lambda: not any(one.name.startswith("api[") for one in threading.enumerate()))
    assert serving.stats().status is Status.CANCELLED
