"""The process around replicas: an actor that makes the replica, and calls it."""

from __future__ import annotations

import gc
import sys
from typing import Any

import pyarrow as pa
import ray
from ray import cloudpickle

from raflow.engines.ray.cluster import settle_in
from raflow.engines.ray.late_pandas import without_pandas
from raflow.runtime.work import portable_answer

_NAME_LINE = ":actor_name:"
"""What Ray reads in the output of a worker as the name to put before the lines that follow."""


class Process:
    """The process around a replica, or around several of one run, one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._replica: Any = None
        self._key = ""

    def __repr__(self) -> str:
        return self._name

    def load(self, name: str, key: str, code: bytes, versions: tuple[str, str], folder: str, anonymous: bool) -> None:
        """Make the replica that is called by `key`; not in the constructor, where an error would look like a crash."""
        if self._replica is not None and not anonymous:
            self._rename(name)
        settle_in(versions, folder)
        pa.set_cpu_count(max(1, int(ray.get_runtime_context().get_assigned_resources().get("CPU", 1))))
        without_pandas()
        make, args = cloudpickle.loads(code)
        self._replica, self._key = make(*args, self._name, True), key

    def _rename(self, name: str) -> None:
        """Forget the replica before, and have Ray put the new one's name before what is printed."""
        self._name = name
        self._replica, self._key = None, ""
        gc.unfreeze()
        gc.collect()
        for stream in (sys.stdout, sys.stderr):
            print(f"{_NAME_LINE}{name}", file=stream, flush=True)

    def node(self, loaded: None) -> str:
        """Return where it is."""
        del loaded
        return str(ray.get_runtime_context().get_node_id())

    def call(self, loaded: None, key: str, method: str, *args: Any) -> Any:
        """Call the replica; `loaded` makes it wait until there is one, and fail as that has failed."""
        del loaded
        return portable_answer(getattr(self._called(key), method)(*args), cloudpickle)

    def produce(self, loaded: None, key: str, asked: tuple[int, str, tuple[Any, ...]], *references: Any) -> Any:
        """Call the replica; returns its answer and each payload as objects of their own."""
        del loaded
        count, method, plain = asked
        answer, payloads = getattr(self._called(key), method)(*plain, *references)
        answer = portable_answer(answer, cloudpickle)
        return (answer, *payloads, *[None] * (count - len(payloads))) if count else answer

    def _called(self, key: str) -> Any:
        """Return the replica, unless a call was meant for one before it: that would take what is not its own.

        Calls run in threads, so that one may come late; nobody waits for its answer any more.
        """
        if key != self._key:
            msg = "the replica for which this call was meant has ended"
            raise RuntimeError(msg)
        return self._replica


Actor: Any = ray.remote(Process)
