"""The ledger of a run: what is to do, what was prepared, what is committed.

Theory. A ledger is a folder at any fsspec URL. `run.json` says whose it is, `log/` holds numbered
segments of JSON lines that are written once and never changed, `end.json` says how the run ended.
"prepared" is durable before a part is published, "committed" follows some time later. So after any
death a unit is either committed, or its line names every file it may have published: these are
deleted, and the unit is done again.
"""

from __future__ import annotations

import json
import logging
import os
import secrets
from collections.abc import Iterable
from datetime import datetime, timedelta, timezone
from typing import Any

import fsspec
from fsspec.utils import get_protocol

from raflow.credentials import Credentials, redact
from raflow.errors import ResumeError, SinkError
from raflow.metrics import Status
from raflow.runtime.owner import is_alive, this_process
from raflow.runtime.records import OpRecord

_NO_KEYS = Credentials()
_FORGOTTEN = timedelta(days=7)

log = logging.getLogger("raflow")


class Ledger:
    """The ledger of one run; written by one thread of the driver.

    Args:
        root: Folder of all ledgers: a path or any fsspec URL.
        run_id: Of the run.
        credentials: The Flow's, for `s3://` and `gs://`.
    """

    def __init__(self, root: str, run_id: str, credentials: Credentials = _NO_KEYS) -> None:
        self.root = root
        self.run_id = run_id
        self._credentials = credentials
        self.fs, path = _files(root, credentials)
        self.path = f"{path.rstrip('/')}/{run_id}"
        self._segment = 0

    def beat(self) -> None:
        """Say that the run is alive, to other hosts, which cannot see its process; an error is only logged."""
        try:
            header = self._read("run.json")
            # Another process that took the run for dead may have gone on with it: it is the owner then.
            if header and {**header["owner"], "time": 0} == {**this_process(), "time": 0}:
                self._write("run.json", {**header, "owner": this_process()})
        except Exception as error:  # the next beat may get through
            log.warning("run %s could not say that it is alive: %s", self.run_id, redact(str(error)))

    @classmethod
    def create(cls, root: str, flow_id: str, credentials: Credentials = _NO_KEYS) -> Ledger:
        """Begin the ledger of a new run.

        Raises:
            SinkError: The folder cannot be written.
        """
        ledger = cls(root, new_run_id(), credentials)
        ledger._write("run.json", {"flow_id": flow_id, "run_id": ledger.run_id, "owner": this_process()})
        return ledger

    @classmethod
    def reopen(cls, root: str, run_id: str, flow_id: str, credentials: Credentials = _NO_KEYS) -> Ledger:
        """Continue the ledger of an earlier run.

        Args:
            root: Folder of all ledgers.
            run_id: The run, or "last" for the newest one of the Flow.
            flow_id: The Flow that is being run.
            credentials: The Flow's.

        Raises:
            ResumeError: There is no such run, it is of another Flow, has succeeded, or is still alive.
        """
        ledger = cls(root, _last(root, flow_id, credentials) if run_id == "last" else run_id, credentials)
        header = ledger._read("run.json")
        if header is None:
            there = ", ".join(_runs(root, credentials)[-5:]) or "none"
            msg = f"there is no run {run_id!r} in {redact(root)}; runs there: {there}"
            raise ResumeError(msg)
        if header["flow_id"] != flow_id:
            msg = f"run {run_id} is of flow {header['flow_id']!r}, not of {flow_id!r}"
            raise ResumeError(msg)
        end = ledger._read("end.json")
        if end and end["status"] == Status.SUCCEEDED.value:
            msg = f"run {ledger.run_id} has succeeded; there is nothing to resume"
            raise ResumeError(msg)
        if not end and is_alive(header["owner"]):
            owner = header["owner"]
            msg = f"run {ledger.run_id} is still alive: process {owner['pid']} on {owner['host']}; stop it first"
            raise ResumeError(msg)
        ledger._forget_end()
        ledger._write("run.json", {**header, "owner": this_process()})
        return ledger

    def record(self, events: Iterable[dict[str, Any]]) -> None:
        """Write events durably, as one segment."""
        lines = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        if lines:
            self._put(f"log/{self._segment:08d}.jsonl", lines)
            self._segment += 1

    def replay(self) -> dict[str, OpRecord]:
        """Return what the segments say, by op."""
        ops: dict[str, OpRecord] = {}
        self.fs.invalidate_cache()
        found = self.fs.ls(f"{self.path}/log", detail=False) if self.fs.exists(f"{self.path}/log") else []
        names = sorted(name for name in found if name.endswith(".jsonl"))  # others were cut short by a full disk
        for name in names:
            for line in self.fs.cat_file(name).decode().splitlines():
                event = json.loads(line)
                ops.setdefault(event["op"], OpRecord()).apply(event)
        self._segment = int(names[-1].rsplit("/", 1)[-1].split(".")[0]) + 1 if names else 0
        return ops

    def end(self, status: Status) -> None:
        """Say how the run ended; the log of a run that succeeded is not needed any more."""
        self._write("end.json", {"status": status.value})
        if status is Status.SUCCEEDED and self.fs.exists(f"{self.path}/log"):
            self.fs.rm(f"{self.path}/log", recursive=True)

    def fail(self) -> None:
        """Say that the run could not even start."""
        self.end(Status.FAILED)

    def is_dead(self, run_id: str) -> bool:
        """Return whether a run has ended or died, so that what it staged may be swept."""
        if run_id == self.run_id:
            return False
        other = Ledger(self.root, run_id, self._credentials)
        header = other._read("run.json")
        if header is None:
            return _began(run_id) < datetime.now(timezone.utc) - _FORGOTTEN
        return other._read("end.json") is not None or not is_alive(header["owner"])

    def _write(self, name: str, value: Any) -> None:
        self._put(name, json.dumps(value, indent=1))

    def _put(self, name: str, text: str) -> None:
        try:
            if _is_local(self.fs):
                _write_durably(f"{self.path}/{name}", text.encode())
            else:
                self.fs.pipe_file(f"{self.path}/{name}", text.encode())
        except Exception as error:
            hint = "set RAFLOW_LEDGER or FlowOptions(ledger_url=...)"
            msg = f"the ledger at {redact(self.root)} cannot be written: {redact(str(error))}; {hint}"
            raise SinkError(msg) from error

    def _read(self, name: str) -> Any:
        try:
            return json.loads(self.fs.cat_file(f"{self.path}/{name}"))
        except FileNotFoundError:
            return None

    def _forget_end(self) -> None:
        if self.fs.exists(f"{self.path}/end.json"):
            self.fs.rm_file(f"{self.path}/end.json")


def new_run_id() -> str:
    """Return a new run id; ids sort by time."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _began(run_id: str) -> datetime:
    try:
        return datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime.now(timezone.utc)


def _files(root: str, credentials: Credentials) -> tuple[Any, str]:
    """Return the file system of a folder, and its path there."""
    url = os.path.expanduser(root)
    files, path = fsspec.core.url_to_fs(url, **credentials.storage_options(get_protocol(url)))
    return files, str(path)


def _runs(root: str, credentials: Credentials) -> list[str]:
    fs, path = _files(root, credentials)
    fs.invalidate_cache()
    return sorted(name.rstrip("/").rsplit("/", 1)[-1] for name in fs.ls(path, detail=False)) if fs.exists(path) else []


def _last(root: str, flow_id: str, credentials: Credentials) -> str:
    for run_id in reversed(_runs(root, credentials)):
        header = Ledger(root, run_id, credentials)._read("run.json")
        if header and header["flow_id"] == flow_id:
            return run_id
    msg = f"flow {flow_id!r} has no run in {redact(root)}"
    raise ResumeError(msg)


def _is_local(fs: Any) -> bool:
    return "file" in (fs.protocol if isinstance(fs.protocol, tuple) else (fs.protocol,))


def _write_durably(path: str, data: bytes) -> None:
    # Private: the tokens of staged uploads let their holder finish them.
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(f"{path}.tmp", "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)
