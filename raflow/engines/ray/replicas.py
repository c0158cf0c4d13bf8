"""Replicas as Ray actors."""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pyarrow as pa
import ray
from ray import cloudpickle

from raflow.engines.ray.cluster import capacity, connect, folder_of, foreign, own_versions, plain, settle_in
from raflow.errors import NotPicklable
from raflow.options import Resources
from raflow.runtime.engine import Capacity, ReplicaHandle
from raflow.runtime.work import portable_answer


class RayEngine:
    """Runs replicas as actors of a Ray cluster.

    Args:
        address: `host:port` of a cluster, "auto" for the one on this machine, or None; see the module.
        working_dir: Folder of the user's code, sent to a cluster that is not of our own; replicas import from it.
        by_value: Module whose functions and classes travel as they are, because replicas cannot import it.
    """

    name = "ray"

    def __init__(
        self, address: str | None = None, working_dir: str | None = None, by_value: ModuleType | None = None
    ) -> None:
        self._address = address
        self._working_dir = folder_of(working_dir)
        self._by_value = by_value

    def start(self) -> None:
        """Connect, or start a Ray of our own.

        Raises:
            ClusterUnreachable: Nothing answers at the address.
        """
        connect(self._address, self._working_dir)

    def capacity(self) -> Capacity:
        """Return the cluster's resources as they are now."""
        return capacity()

    def available(self) -> dict[str, float]:
        """Return what no actor or task holds now."""
        return plain(ray.available_resources())

    def pack(self, make: Callable[..., Any], *args: Any) -> Any:
        """Put the pickled code into the object store, once for all replicas."""
        try:
            with _by_value(self._by_value):
                code = cloudpickle.dumps((make, args))
        except Exception as error:
            raise _not_picklable(args, error) from error
        return ray.put(code)

    def spawn(self, name: str, packed: Any, needs: Resources) -> ReplicaHandle:
        """Start an actor."""
        options: dict[str, Any] = {
            "num_cpus": needs.num_cpus,
            "num_gpus": needs.num_gpus,
            "resources": needs.resources or None,
            "memory": needs.memory_bytes,
            "max_restarts": 0,  # the driver replaces it and repeats its work
            "max_task_retries": 0,
            "max_concurrency": 16,
        }
        given = {key: value for key, value in options.items() if value is not None}
        return _RayReplica(name, _Actor.options(**given).remote(name), packed, self._working_dir)

    def close(self) -> None:
        """Keep Ray: the next run of this process needs it."""


class _RayReplica:
    def __init__(self, name: str, actor: Any, packed: Any, folder: str) -> None:
        self.name = name
        self._actor = actor
        self._loaded = actor.load.remote(packed, own_versions(), folder)

    def call(self, method: str, *args: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        reference = self._actor.call.remote(self._loaded, method, *args)
        reference.future().add_done_callback(lambda done: self._settle(done, answer))
        return answer

    def kill(self) -> None:
        ray.kill(self._actor, no_restart=True)

    def _settle(self, done: Future[Any], answer: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            answer.set_result(done.result())
        else:
            answer.set_exception(foreign(error, f"replica {self.name}"))


class _Process:
    """The process around a replica."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def load(self, code: bytes, versions: tuple[str, str], folder: str) -> None:
        """Make the replica; not done in the constructor, where an error would look like a crash."""
        settle_in(versions, folder)
        pa.set_cpu_count(1)
        importlib.import_module("pandas")  # Arrow would import it in the middle of the first batch
        make, args = cloudpickle.loads(code)
        self._replica = make(*args, self._name, True)

    def call(self, loaded: None, method: str, *args: Any) -> Any:
        """Call the replica; `loaded` makes it wait until there is one, and fail as that has failed."""
        del loaded
        return portable_answer(getattr(self._replica, method)(*args), cloudpickle)


_Actor: Any = ray.remote(_Process)


@contextmanager
def _by_value(module: ModuleType | None) -> Iterator[None]:
    if module is None:
        yield
        return
    cloudpickle.register_pickle_by_value(module)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(module)


def _not_picklable(args: tuple[Any, ...], error: Exception) -> NotPicklable:
    stage = getattr(args[0], "stage", None)
    code = getattr(stage, "code", args)
    name = getattr(stage, "name", "?")
    culprits = ", ".join(_culprits(code)) or str(error)
    msg = (
        f"processor {name!r} cannot be sent to a replica: it captures {culprits}. "
        "Make it inside the function, or in setup() of a class processor"
    )
    return NotPicklable(msg)


def _culprits(code: Any) -> list[str]:
    with open(os.devnull, "w") as nowhere:
        _, failures = ray.util.inspect_serializability(code, name=getattr(code, "__name__", "code"), print_file=nowhere)
    found = [f"{_last(one)} ({type(one.obj).__name__})" for one in failures if not inspect.isroutine(one.obj)]
    return sorted(set(found))


def _last(failure: Any) -> str:
    """Return the name of the captured object; older Rays had `name`, newer ones a path."""
    return str(failure.path[-1] if hasattr(failure, "path") else failure.name)
