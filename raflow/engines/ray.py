"""Replicas as Ray actors. The only module that imports ray.

Which Ray: the given address, else the one that this process has initialised, else `RAY_ADDRESS`, else
an own local one, kept until the process ends because a start costs seconds. Never an address file that
another cluster left behind.
"""

from __future__ import annotations

import importlib
import inspect
import logging
import os
import platform
import socket
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import pyarrow as pa

import raflow
from raflow.errors import ClusterUnreachable, EngineError, NotPicklable, ReplicaLost, VersionMismatch
from raflow.options import Resources
from raflow.runtime.engine import Capacity, ReplicaHandle
from raflow.runtime.work import portable

# Ray starts workers at niceness 15, where any other load of the machine starves them.
os.environ.setdefault("RAY_worker_niceness", "0")
# A future version's default, and the end of a warning: CUDA_VISIBLE_DEVICES stays as it is for 0 GPUs.
os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")

import ray
from ray import cloudpickle

REACH_TIMEOUT_S = 10.0


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
        self._working_dir = os.path.abspath(working_dir or sys.path[0] or os.getcwd())
        self._by_value = by_value

    def start(self) -> None:
        """Connect, or start a Ray of our own.

        Raises:
            ClusterUnreachable: Nothing answers at the address.
        """
        asked = self._address or (None if ray.is_initialized() else os.environ.get("RAY_ADDRESS"))
        if ray.is_initialized() and not self._address:
            return
        if ray.is_initialized():
            _check_same_cluster(asked)
            return
        _init(asked, self._working_dir)

    def capacity(self) -> Capacity:
        """Return the cluster's resources as they are now."""
        alive = [node for node in ray.nodes() if node["Alive"]]
        return Capacity(_plain(ray.cluster_resources()), nodes=len(alive), grows=True)

    def available(self) -> dict[str, float]:
        """Return what no actor or task holds now."""
        return _plain(ray.available_resources())

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
        self._loaded = actor.load.remote(packed, _versions(), folder)

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
            answer.set_exception(foreign(error, self.name))


class _Process:
    """The process around a replica."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __repr__(self) -> str:
        return self._name

    def load(self, code: bytes, versions: tuple[str, str], folder: str) -> None:
        """Make the replica; not done in the constructor, where an error would look like a crash."""
        if versions != _versions():
            here = f"node {socket.gethostname()} has Python {_versions()[0]} and raflow {_versions()[1]}"
            msg = f"{here}, the driver Python {versions[0]} and raflow {versions[1]}; install the same on all nodes"
            raise VersionMismatch(msg)
        if os.path.isdir(folder) and folder not in sys.path:
            sys.path.insert(0, folder)
        pa.set_cpu_count(1)
        importlib.import_module("pandas")  # Arrow would import it in the middle of the first batch
        logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)
        make, args = cloudpickle.loads(code)
        self._replica = make(*args, self._name, True)

    def call(self, loaded: None, method: str, *args: Any) -> Any:
        """Call the replica; `loaded` makes it wait until there is one, and fail as that has failed."""
        del loaded
        return portable(getattr(self._replica, method)(*args), cloudpickle)


_Actor: Any = ray.remote(_Process)


def foreign(error: BaseException, name: str) -> BaseException:
    """Return Ray's error as one of ours; an error of the code inside is returned as it is."""
    kinds = ray.exceptions
    if isinstance(error, kinds.RayTaskError):
        return error.cause if isinstance(error.cause, BaseException) else EngineError(str(error))
    for kind, what in _LOST.items():
        if isinstance(error, kind):
            return ReplicaLost(f"replica {name}: {what}")
    return EngineError(f"replica {name}: {type(error).__name__}: {error}")


_LOST: dict[type[BaseException], str] = {
    ray.exceptions.OutOfMemoryError: "its process was ended because the node ran out of memory",
    ray.exceptions.NodeDiedError: "its node died",
    ray.exceptions.OwnerDiedError: "the owner of an object it needed died",
    ray.exceptions.WorkerCrashedError: "its process crashed",
    ray.exceptions.ActorUnavailableError: "it cannot be reached",
    ray.exceptions.RayActorError: "its process died: it was killed, crashed in native code or called os._exit",
    ray.exceptions.ObjectLostError: "an object it needed is lost",
}


def _init(address: str | None, working_dir: str | None) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": True}
    if address is None or address == "local":
        ray.init(address="local", include_dashboard=False, **quiet)
        return
    if "://" in address:
        kind = "a Ray Client address" if address.startswith("ray://") else "the address of Ray's dashboard"
        inside = "run the driver inside the cluster: ray job submit -- raflow run ..., or give host:port of its head"
        msg = f"{address} is {kind}; {inside}"
        raise ClusterUnreachable(msg)
    _check_reachable(address)
    inside_job = "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ
    env = {"working_dir": working_dir} if working_dir and not inside_job else None
    try:
        with _hurried():
            ray.init(address=address, runtime_env=env, **quiet)
    except (ConnectionError, RuntimeError, ValueError) as error:
        msg = f"no Ray cluster answers at {address}: {error}"
        raise ClusterUnreachable(msg) from error


@contextmanager
def _hurried() -> Iterator[None]:
    """Let Ray give up in time where something answers that is no Ray; by default it tries for 20 s."""
    name = "RAY_gcs_server_port_wait_time_s"
    before = os.environ.get(name)
    os.environ.setdefault(name, f"{REACH_TIMEOUT_S * 0.7:.0f}")
    try:
        yield
    finally:
        if before is None:
            del os.environ[name]


def _check_reachable(address: str) -> None:
    host, _, port = address.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=REACH_TIMEOUT_S).close()
    except OSError as error:
        msg = f"no Ray cluster answers at {address}: {error}; start one, or unset RAY_ADDRESS for a local Ray"
        raise ClusterUnreachable(msg) from error


def _check_same_cluster(address: str | None) -> None:
    current = ray.get_runtime_context().gcs_address
    if address not in ("auto", "local", current):
        msg = f"this process is connected to the Ray at {current}; call ray.shutdown() before using {address}"
        raise ClusterUnreachable(msg)


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


def _plain(resources: dict[str, float]) -> dict[str, float]:
    return {name: amount for name, amount in resources.items() if not name.startswith(("node:", "object_store"))}


def _versions() -> tuple[str, str]:
    return ".".join(platform.python_version_tuple()[:2]), raflow.__version__
