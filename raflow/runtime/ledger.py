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
import secrets
from collections.abc import Iterable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from typing import Any

from raflow.credentials import Credentials, redact
from raflow.errors import ConnectorError, ResumeError, SinkError, SourceError
from raflow.foreign import foreign_errors
from raflow.metrics import Status
from raflow.places import Location
from raflow.runtime.owner import is_alive, this_process
from raflow.runtime.records import OpRecord

_FORGOTTEN = timedelta(days=7)

log = logging.getLogger("raflow")


class Ledger:
    """The ledger of one run; written by one thread of the driver.

    Its methods raise SourceError where it cannot be read, SinkError where it cannot be written.

    Args:
        root: Folder of all ledgers: a path or any fsspec URL.
        run_id: Of the run.
        credentials: The Flow's, for `s3://` and `gs://`.
    """

    def __init__(self, root: str, run_id: str, credentials: Credentials | None = None) -> None:
        self.run_id = run_id
        self._root = replace(Location.of(root), credentials=credentials)
        self._segment = 0

    def _of(self, run_id: str) -> Ledger:
        return Ledger(self._root.url, run_id, self._root.credentials)

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
    def create(cls, root: str, flow_id: str, credentials: Credentials | None = None) -> Ledger:
        """Begin the ledger of a new run.

        Raises:
            SinkError: The folder cannot be written.
        """
        ledger = cls(root, new_run_id(), credentials)
        ledger._write("run.json", {"flow_id": flow_id, "run_id": ledger.run_id, "owner": this_process()})
        return ledger

    @classmethod
    def reopen(cls, root: str, run_id: str, flow_id: str, credentials: Credentials | None = None) -> Ledger:
        """Continue the ledger of an earlier run.

        Args:
            root: Folder of all ledgers.
            run_id: The run, or "last" for the newest one of the Flow.
            flow_id: The Flow that is being run.
            credentials: The Flow's.

        Raises:
            ResumeError: There is no such run, it is of another Flow, has succeeded, or is still alive.
            SourceError: The folder cannot be read.
        """
        ledger = cls(root, run_id, credentials)
        if run_id == "last":
            ledger = ledger._newest(flow_id)
        header = ledger._resumable(flow_id)
        ledger._forget_end()
        ledger._write("run.json", {**header, "owner": this_process()})
        return ledger

    def _newest(self, flow_id: str) -> Ledger:
        """Return the newest run of a Flow; those that ended before they knew what to do do not count."""
        runs = (one for one in map(self._of, reversed(self._listed())) if one._counts_for(flow_id))
        newest = next(runs, None)
        if newest is None:
            msg = f"flow {flow_id!r} has no run in {self._root.shown} that can be resumed"
            raise ResumeError(msg)
        # Perhaps it was another program with the same `flow_id`: which one is meant is the user's to say.
        older = next((one for one in runs if not one._has_succeeded()), None) if newest._has_succeeded() else None
        if older is not None:
            msg = (
                f"run {newest.run_id}, the last of flow {flow_id!r}, has succeeded; there is nothing to resume. "
                f"The last one that is unfinished is {older.run_id}: name it to resume it"
            )
            raise ResumeError(msg)
        return newest

    def _counts_for(self, flow_id: str) -> bool:
        header = self._read("run.json")
        is_its_run = header is not None and header["flow_id"] == flow_id
        return is_its_run and (self._has_succeeded() or self._goes_on(header) or bool(self._segments()))

    def _has_succeeded(self) -> bool:
        end = self._read("end.json")
        return end is not None and end["status"] == Status.SUCCEEDED.value

    def _goes_on(self, header: dict[str, Any]) -> bool:
        return self._read("end.json") is None and is_alive(header["owner"])

    def _resumable(self, flow_id: str) -> dict[str, Any]:
        """Return what the ledger says of the run, which must be one that can be continued."""
        header = self._read("run.json")
        if header is None:
            there = ", ".join(self._listed()[-5:]) or "none"
            msg = f"there is no run {self.run_id!r} in {self._root.shown}; runs there: {there}"
        elif header["flow_id"] != flow_id:
            msg = f"run {self.run_id} is of flow {header['flow_id']!r}, not of {flow_id!r}"
        elif self._has_succeeded():
            msg = f"run {self.run_id} has succeeded; there is nothing to resume"
        elif self._goes_on(header):
            owner = header["owner"]
            msg = f"run {self.run_id} is still alive: process {owner['pid']} on {owner['host']}; stop it first"
        else:
            return dict(header)
        raise ResumeError(msg)

    def record(self, events: Iterable[dict[str, Any]]) -> None:
        """Write events durably, as one segment."""
        lines = "".join(json.dumps(event, separators=(",", ":")) + "\n" for event in events)
        if lines:
            self._put(f"log/{self._segment:08d}.jsonl", lines)
            self._segment += 1

    def replay(self) -> dict[str, OpRecord]:
        """Return what the segments say, by op."""
        ops: dict[str, OpRecord] = {}
        names = self._segments()
        with self._reaching("read", SourceError):
            for name in names:
                for line in self._root.fs.cat_file(self._path(self.run_id, "log", name)).decode().splitlines():
                    event = json.loads(line)
                    ops.setdefault(event["op"], OpRecord()).apply(event)
        self._segment = int(names[-1].split(".")[0]) + 1 if names else 0
        return ops

    def _segments(self) -> list[str]:
        found = self._listed(self.run_id, "log")
        return [name for name in found if name.endswith(".jsonl")]  # others were cut short by a kill

    def end(self, status: Status) -> None:
        """Say how the run ended; the log of a run that succeeded is not needed any more."""
        self._write("end.json", {"status": status.value})
        if status is Status.SUCCEEDED:
            with self._reaching("written", SinkError):
                fs, path = self._root.fs, self._path(self.run_id, "log")
                if fs.exists(path):
                    fs.rm(path, recursive=True)

    def fail(self) -> None:
        """Say that the run could not even start."""
        self.end(Status.FAILED)

    def is_dead(self, run_id: str) -> bool:
        """Return whether a run has ended or died, so that what it staged may be swept."""
        if run_id == self.run_id:
            return False
        if self._of(run_id)._read("run.json") is None:
            return _began(run_id) < datetime.now(timezone.utc) - _FORGOTTEN
        return not self.is_alive(run_id)

    def is_alive(self, run_id: str) -> bool:
        """Return whether a run is known to go on."""
        other = self._of(run_id)
        header = other._read("run.json")
        return header is not None and other._goes_on(header)

    def _forget_end(self) -> None:
        if self._read("end.json") is not None:
            with self._reaching("written", SinkError):
                self._root.fs.rm_file(self._path(self.run_id, "end.json"))

    def _write(self, name: str, value: Any) -> None:
        self._put(name, json.dumps(value, indent=1))

    def _put(self, name: str, text: str) -> None:
        with self._reaching("written", SinkError):
            # Private: the tokens of staged uploads let their holder finish them.
            self._root.write(self._path(self.run_id, name), text.encode(), folder_mode=0o700)

    def _read(self, name: str) -> Any:
        with self._reaching("read", SourceError):
            try:
                return json.loads(self._root.fs.cat_file(self._path(self.run_id, name)))
            except FileNotFoundError:
                return None

    def _listed(self, *folders: str) -> list[str]:
        """Return the names in a folder, sorted; none where it is not there."""
        found: list[str] = []
        with self._reaching("read", SourceError):
            self._root.fs.invalidate_cache()
            with suppress(FileNotFoundError):
                found = self._root.fs.ls(self._path(*folders), detail=False)
            if not found:
                self._root.require_bucket()
        return sorted(name.rstrip("/").rpartition("/")[2] for name in found)

    def _path(self, *names: str) -> str:
        return "/".join((self._root.path.rstrip("/"), *names))

    def _reaching(self, how: str, error: type[ConnectorError]) -> AbstractContextManager[None]:
        what = f"the ledger of run {self.run_id} at {self._root.shown} cannot be {how}"
        return foreign_errors(f"{what} (see RAFLOW_LEDGER and FlowOptions.ledger_url)", error, self._root)


def new_run_id() -> str:
    """Return a new run id; ids sort by time."""
    return f"{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def _began(run_id: str) -> datetime:
    try:
        return datetime.strptime(run_id[:15], "%Y%m%d-%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        return datetime.now(timezone.utc)
