from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import fsspec.config
import pytest
from pydantic import SecretStr

from raflow.credentials import Credentials
from raflow.errors import ResumeError, SinkError, SourceError
from raflow.metrics import Counts, Status
from raflow.runtime.ledger import Ledger, new_run_id
from raflow.runtime.records import UnitRecord, prepared_event, splits_event
from raflow.sinks import Part
from raflow.sources import Input, Split
from tests.stores import Bucket

SPLITS = [Split("a.csv", [0, 10], 10, 100, (Input("a.csv", 100, "etag"),)), Split("b.csv", {"x": None})]
RECORD = UnitRecord(
    2, ((Part("out/a", 10, 99, {"id": 1}),), ()), {"p": "c2NoZW1h"}, {"p": Counts(rows_in=10, rows_out=9)}
)


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path) if request.param == "folder" else f"memory://ledger/{tmp_path.name}"


def died(ledger: Ledger) -> None:
    """Make the ledger say that its process has gone."""
    header = ledger._read("run.json")
    ledger._write("run.json", {**header, "owner": {**header["owner"], "started": "another process"}})


def test_the_flows_keys_reach_a_ledger_in_an_object_store(s3: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    root, keys = f"s3://{s3.name}/ledgers", Credentials("test", SecretStr("test"))
    ledger = Ledger.create(root, "flow", keys)
    ledger.record([splits_event("p", SPLITS)])
    ledger.end(Status.FAILED)
    again = Ledger.reopen(root, "last", "flow", keys)
    assert again.replay()["p"].splits == SPLITS
    assert not again.is_dead(ledger.run_id)


def test_what_was_recorded_is_replayed(root: str) -> None:
    ledger = Ledger.create(root, "flow")
    ledger.record([splits_event("p", SPLITS), {"event": "agreed", "op": "p", "value": "x"}])
    ledger.record([prepared_event("p", 0, RECORD), prepared_event("p", 1, RECORD)])
    ledger.record([{"event": "committed", "op": "p", "unit": 0}])
    stage = Ledger(root, ledger.run_id).replay()["p"]
    assert stage.splits == SPLITS
    assert stage.agreed == "x"
    assert (stage.units[0].committed, stage.units[1].committed) == (True, False)
    assert (stage.units[1].parts, stage.units[1].counts, stage.units[1].attempt) == (RECORD.parts, RECORD.counts, 2)


def test_a_unit_that_is_to_be_repeated_is_not_committed(root: str) -> None:
    ledger = Ledger.create(root, "flow")
    done = [prepared_event("p", 0, RECORD), {"event": "committed", "op": "p", "unit": 0}]
    ledger.record([*done, {"event": "repeat", "op": "p", "unit": 0}])
    assert not ledger.replay()["p"].units[0].committed


def elsewhere(ledger: Ledger) -> None:
    """Make the ledger say that its process is on another host."""
    header = ledger._read("run.json")
    ledger._write("run.json", {**header, "owner": {**header["owner"], "host": "another"}})


def test_a_run_of_another_host_is_dead_ten_minutes_after_its_last_beat(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = 1_000_000.0
    monkeypatch.setattr("time.time", lambda: clock)
    ledger, other = Ledger.create(root, "flow"), Ledger.create(root, "flow")
    clock += 3600
    ledger.beat()
    elsewhere(ledger)
    clock += 599
    assert not other.is_dead(ledger.run_id)
    clock += 2
    assert other.is_dead(ledger.run_id)


def test_a_run_that_another_process_has_taken_over_says_nothing(root: str) -> None:
    ledger = Ledger.create(root, "flow")
    elsewhere(ledger)
    taken = ledger._read("run.json")
    ledger.beat()
    assert ledger._read("run.json") == taken


def test_a_beat_that_cannot_be_written_does_not_fail_the_run(
    root: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ledger = Ledger.create(root, "flow")
    monkeypatch.setattr(ledger, "_put", lambda *_: 1 / 0)
    ledger.beat()
    assert f"run {ledger.run_id} could not say that it is alive" in caplog.text


def test_a_continued_ledger_appends(root: str) -> None:
    ledger = Ledger.create(root, "flow")
    ledger.record([splits_event("p", SPLITS)])
    died(ledger)
    again = Ledger.reopen(root, "last", "flow")
    again.replay()
    again.record([prepared_event("p", 0, RECORD)])
    assert Ledger(root, ledger.run_id).replay()["p"].splits == SPLITS
    assert 0 in Ledger(root, ledger.run_id).replay()["p"].units


def runs(root: str, monkeypatch: pytest.MonkeyPatch, *flows: str) -> list[Ledger]:
    """Begin runs that know what to do, one after the other."""
    ids = iter(f"20260101-00000{number}-ab" for number in range(len(flows)))
    monkeypatch.setattr("raflow.runtime.ledger.new_run_id", lambda: next(ids))
    made = [Ledger.create(root, flow) for flow in flows]
    for ledger in made:
        ledger.record([splits_event("p", SPLITS)])
    return made


def test_last_is_the_newest_run_of_the_flow(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second, _ = runs(root, monkeypatch, "flow", "flow", "other")
    for ledger in (first, second):
        ledger.end(Status.CANCELLED)
    assert Ledger.reopen(root, "last", "flow").run_id == second.run_id


def test_last_passes_over_runs_that_ended_before_they_knew_what_to_do(root: str) -> None:
    begun = Ledger.create(root, "flow")
    begun.record([splits_event("p", SPLITS)])
    died(begun)
    later = [Ledger(root, f"29991231-00000{number}-ab") for number in range(2)]
    for ledger in later:
        ledger._write("run.json", begun._read("run.json"))
    later[0].end(Status.FAILED)
    assert Ledger.reopen(root, "last", "flow").run_id == begun.run_id
    begun.end(Status.SUCCEEDED)
    with pytest.raises(ResumeError, match=f"run {begun.run_id} has succeeded; there is nothing to resume$"):
        Ledger.reopen(root, "last", "flow")


def test_last_is_a_living_run_though_it_does_not_know_yet_what_to_do(root: str) -> None:
    Ledger.create(root, "flow")
    with pytest.raises(ResumeError, match="still alive"):
        Ledger.reopen(root, "last", "flow")


def test_where_the_last_run_has_succeeded_the_newest_unfinished_one_is_named(
    root: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancelled, unfinished, other, *done = runs(root, monkeypatch, "flow", "flow", "other", "flow", "flow")
    cancelled.end(Status.CANCELLED)
    for ledger in (unfinished, other):
        died(ledger)
    for ledger in done:
        ledger.end(Status.SUCCEEDED)
    told = f"run {done[1].run_id}, .*has succeeded; there is nothing to .* unfinished is {unfinished.run_id}: name it"
    with pytest.raises(ResumeError, match=told):
        Ledger.reopen(root, "last", "flow")
    assert Ledger.reopen(root, unfinished.run_id, "flow").run_id == unfinished.run_id


def test_runs_that_cannot_be_resumed_say_why(root: str) -> None:
    alive, done, other = (Ledger.create(root, flow) for flow in ("flow", "flow", "other"))
    done.end(Status.SUCCEEDED)
    for run_id, text in [
        (alive.run_id, f"still alive: process {os.getpid()}"),
        (done.run_id, "nothing to resume"),
        (other.run_id, "is of flow 'other'"),
        ("nonesuch", "no run 'nonesuch'"),
    ]:
        with pytest.raises(ResumeError, match=text):
            Ledger.reopen(root, run_id, "flow")
    with pytest.raises(ResumeError, match="no run"):
        Ledger.reopen(root, "last", "unheard-of")


def test_a_run_is_dead_when_it_has_ended_or_its_process_is_gone(root: str) -> None:
    me, ended, gone, alive = (Ledger.create(root, "flow") for _ in range(4))
    ended.end(Status.FAILED)
    died(gone)
    assert [me.is_dead(one.run_id) for one in (me, ended, gone, alive)] == [False, True, True, False]
    assert me.is_dead("20200101-000000-abcdef")
    assert not me.is_dead(new_run_id())


def test_the_log_of_a_run_that_succeeded_is_removed(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path), "flow")
    ledger.record([splits_event("p", SPLITS)])
    ledger.end(Status.SUCCEEDED)
    assert sorted(path.name for path in (tmp_path / ledger.run_id).iterdir()) == ["end.json", "run.json"]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SinkError, match="file.*RAFLOW_LEDGER"):
        Ledger.create(str(tmp_path / "file"), "flow")


def test_the_folder_of_a_run_is_its_owners_alone(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path), "flow")
    ledger.record([splits_event("p", SPLITS)])
    folders = (tmp_path / ledger.run_id, tmp_path / ledger.run_id / "log")
    assert [folder.stat().st_mode & 0o777 for folder in folders] == [0o700, 0o700]


def test_a_failed_write_leaves_nothing_behind(tmp_path: Path) -> None:
    ledger = Ledger.create(str(tmp_path), "flow")
    (tmp_path / ledger.run_id / "end.json").mkdir()
    with pytest.raises(SinkError, match=f"the ledger of run {ledger.run_id} at {tmp_path} cannot be written"):
        ledger.end(Status.FAILED)
    assert sorted(path.name for path in (tmp_path / ledger.run_id).iterdir()) == ["end.json", "run.json"]


KEYS = Credentials("AKIA", SecretStr("hunter2"))
USES: list[Callable[[str], Any]] = [
    lambda root: Ledger.reopen(root, "last", "flow", KEYS),
    lambda root: Ledger.reopen(root, "a-run", "flow", KEYS),
    lambda root: Ledger(root, "a-run", KEYS).replay(),
]


@pytest.mark.parametrize("kind", ["s3", "gcs"])
@pytest.mark.parametrize("use", USES)
def test_a_missing_bucket_is_named_with_the_run(
    kind: str, use: Callable[[str], Any], request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket: Bucket = request.getfixturevalue(kind)
    monkeypatch.setitem(fsspec.config.conf, bucket.protocol, bucket.storage_options)
    root = f"{bucket.protocol}://no-such-bucket/ledgers"
    told = rf"the ledger of run (last|a-run) at {root} cannot be read .*: the bucket 'no-such-bucket' does not exist"
    with pytest.raises(SourceError, match=told):
        use(root)
    with pytest.raises(SinkError, match=r"the ledger of run \S+ at .* cannot be written .* 'no-such-bucket' does not"):
        Ledger.create(root, "flow", KEYS)


class Refusing(BaseHTTPRequestHandler):
    """A store that lets nobody in, and repeats the key."""

    def do_GET(self) -> None:
        said = b"<Error><Code>AccessDenied</Code><Message>the key hunter2 is refused</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(said)))
        self.end_headers()
        self.wfile.write(b"" if self.command == "HEAD" else said)

    do_HEAD = do_GET

    def log_message(self, *_: Any) -> None: ...


@pytest.fixture
def refusing() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("protocol", ["s3", "gs"])
@pytest.mark.parametrize("use", USES)
def test_a_store_that_refuses_the_keys_is_named_with_the_run_and_without_them(
    protocol: str, use: Callable[[str], Any], refusing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"s3": {"client_kwargs": {"endpoint_url": refusing}}, "gs": {"token": "anon", "endpoint_url": refusing}}
    monkeypatch.setitem(fsspec.config.conf, protocol, options[protocol])
    root = f"{protocol}://bucket/ledgers"
    told = rf"the ledger of run (last|a-run) at {root} cannot be read .*: no permission; check the rights"
    with pytest.raises(SourceError, match=told) as caught:
        use(root)
    assert "hunter2" not in str(caught.value)


def test_run_ids_sort_by_time() -> None:
    assert new_run_id()[:15] <= new_run_id()[:15]
    assert len({new_run_id() for _ in range(100)}) == 100
