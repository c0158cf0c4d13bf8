"""Which Ray, and how this process and its workers meet it.

The given address, else the Ray that this process has initialised, else `RAY_ADDRESS`, else an own local
one, kept until the process ends because a start costs seconds. Never an address file that another cluster
left behind.
"""

from __future__ import annotations

import logging
import os
import platform
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ray

import raflow
from raflow.errors import ClusterUnreachable, EngineError, InputLost, ReplicaLost, VersionMismatch
from raflow.runtime.engine import Capacity

if TYPE_CHECKING:  # workers of steps start sooner without the options and what these import
    from raflow.options import Resources

REACH_TIMEOUT_S = 10.0


def connect(address: str | None, working_dir: str | None) -> None:
    """Connect this process to a Ray, or start one of our own; see the module.

    Raises:
        ClusterUnreachable: Nothing answers at the address.
    """
    asked = address or (None if ray.is_initialized() else os.environ.get("RAY_ADDRESS"))
    if ray.is_initialized() and not address:
        return
    if ray.is_initialized():
        _check_same_cluster(asked)
        return
    _init(asked, working_dir)


def folder_of(working_dir: str | None) -> str:
    """Return the folder from which workers import the user's code."""
    return os.path.abspath(working_dir or sys.path[0] or os.getcwd())


def capacity() -> Capacity:
    """Return the cluster's resources as they are now."""
    alive = [node for node in ray.nodes() if node["Alive"]]
    resources = ray.cluster_resources()
    store = resources.get("object_store_memory", 0.0)
    return Capacity(plain(resources), nodes=len(alive), grows=not is_own(), store_bytes=store)


def options_of(needs: Resources) -> dict[str, Any]:
    """Return what a replica or a step needs, as options of its actor or task."""
    given: dict[str, Any] = {"num_cpus": needs.num_cpus, "num_gpus": needs.num_gpus}
    if needs.memory_bytes:
        given["memory"] = needs.memory_bytes
    if needs.resources:
        given["resources"] = needs.resources
    return given


def settle_in(versions: tuple[str, str], folder: str) -> None:
    """Make a worker's process ready for user code.

    Raises:
        VersionMismatch: It is not the driver's Python and raflow.
    """
    if versions != own_versions():
        here = f"node {socket.gethostname()} has Python {own_versions()[0]} and raflow {own_versions()[1]}"
        msg = f"{here}, the driver Python {versions[0]} and raflow {versions[1]}; install the same on all nodes"
        raise VersionMismatch(msg)
    if os.path.isdir(folder) and folder not in sys.path:
        sys.path.insert(0, folder)
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s", stream=sys.stderr)


def foreign(error: BaseException, name: str) -> BaseException:
    """Return Ray's error as one of ours; an error of the code inside is returned as it is.

    Args:
        error: As Ray raised it.
        name: What was lost, e.g. `replica tip_rate[0]`.
    """
    kinds = ray.exceptions
    if isinstance(error, kinds.RayTaskError) and isinstance(error.cause, kinds.RayError):
        return foreign(error.cause, name)  # its arguments have not come
    if isinstance(error, kinds.RayTaskError):
        return error.cause if isinstance(error.cause, BaseException) else EngineError(str(error))
    if isinstance(error, (kinds.ObjectLostError, kinds.ObjectFetchTimedOutError)):
        return InputLost(f"{name}: an object it needed is lost, probably with its node")
    for kind, what in _LOST.items():
        if isinstance(error, kind):
            return ReplicaLost(f"{name}: {what}")
    return EngineError(f"{name}: {type(error).__name__}: {error}")


_LOST: dict[type[BaseException], str] = {
    ray.exceptions.OutOfMemoryError: "its process was ended because the node ran out of memory",
    ray.exceptions.NodeDiedError: "its node died",
    ray.exceptions.OwnerDiedError: "the owner of an object it needed died",
    ray.exceptions.WorkerCrashedError: "its process crashed",
    ray.exceptions.ActorUnavailableError: "it cannot be reached",
    ray.exceptions.RayActorError: "its process died: it was killed, crashed in native code or called os._exit",
}


_own: set[str] = set()
"""Each Ray that this process has started, by its one node; such a Ray never grows."""


def is_own() -> bool:
    """Return whether this process has started the Ray that it uses, so that nobody else does."""
    return ray.is_initialized() and ray.get_runtime_context().get_node_id() in _own


def _init(address: str | None, working_dir: str | None) -> None:
    quiet: dict[str, Any] = {"logging_level": logging.ERROR, "log_to_driver": True}
    if address is None or address == "local":
        _start_own(quiet)
        _own.add(ray.get_runtime_context().get_node_id())
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


def _start_own(options: dict[str, Any]) -> None:
    """Start a Ray of our own. It gives itself 30 s, which a loaded machine may not keep: then once more."""
    try:
        ray.init(address="local", include_dashboard=False, **options)
    except Exception as error:
        if "timed out during startup" not in str(error):
            raise
        logging.getLogger("raflow").warning("Ray did not start in time; it is started again")
        ray.shutdown()
        ray.init(address="local", include_dashboard=False, **options)


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


def plain(resources: dict[str, float]) -> dict[str, float]:
    """Return resources without those that Ray adds for itself."""
    return {name: amount for name, amount in resources.items() if not name.startswith(("node:", "object_store"))}


def own_versions() -> tuple[str, str]:
    """Return the versions of Python and raflow here."""
    return ".".join(platform.python_version_tuple()[:2]), raflow.__version__
