"""Replicas as Ray actors."""

from __future__ import annotations

import gc
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import pyarrow as pa
import ray
from ray import cloudpickle
from ray.autoscaler.sdk import request_resources

from raflow.engines.ray.cluster import capacity, connect, folder_of, foreign, own_versions, plain, settle_in
from raflow.engines.ray.listener import RayListener
from raflow.errors import NotPicklable
from raflow.options import Resources
from raflow.runtime.engine import Capacity, Listener, ReplicaHandle
from raflow.runtime.serving.address import Address
from raflow.runtime.steps.values import by_value
from raflow.runtime.work import portable_answer

_NAME_LINE = ":actor_name:"
"""What Ray reads in the output of a worker as the name to put before the lines that follow."""
_LOOK_S = 1.0
"""What is in this process is found at once; what is not found in this time is gone."""


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
        self._asked = False
        self._idle: list[tuple[_Kind, Any]] = []
        """Actors of replicas that have ended: a process takes a second to start."""

    def start(self) -> None:
        """Connect, or start a Ray of our own.

        Raises:
            ClusterUnreachable: Nothing answers at the address.
        """
        connect(self._address, self._working_dir)

    def capacity(self) -> Capacity:
        """Return the cluster's resources as they are now."""
        return capacity()

    def ask(self, bundles: Sequence[Mapping[str, float]]) -> None:
        """Tell Ray's autoscaler what all pools need together."""
        self._asked = True
        request_resources(bundles=[dict(one) for one in bundles])

    def available(self) -> dict[str, float]:
        """Return what no actor or task holds now."""
        nothing = dict.fromkeys(ray.cluster_resources(), 0.0)  # Ray leaves out what is used up
        return plain({**nothing, **ray.available_resources()})

    def pack(self, make: Callable[..., Any], *args: Any) -> Any:
        """Put the pickled code into the object store, once for all replicas."""
        try:
            with by_value(self._by_value, cloudpickle):
                code = cloudpickle.dumps((make, args))
        except Exception as error:
            raise _not_picklable(args, error) from error
        return ray.put(code)

    def listen(self, address: Address) -> Listener:
        """Hold the address in an actor of its own, so that it outlives replicas."""
        return RayListener(address)

    def spawn(
        self, name: str, packed: Any, needs: Resources, *, anonymous: bool = False, listener: Listener | None = None
    ) -> ReplicaHandle:
        """Start an actor, or take the one of a like replica that has ended."""
        kind = _Kind(anonymous, needs.needs())
        idle = next((one for one in self._idle if one[0] == kind and listener is None), None)
        if idle is not None:
            self._idle.remove(idle)
            return _RayReplica(name, idle[1], packed, self._working_dir, kind, self._keep)
        self._end_idle()  # they hold what this one may need
        place = listener.place() if isinstance(listener, RayListener) else None
        options: dict[str, Any] = {
            "num_cpus": needs.num_cpus,
            "num_gpus": needs.num_gpus,
            "resources": needs.resources or None,
            "memory": needs.memory_bytes,
            "max_restarts": 0,  # the driver replaces it and repeats its work
            "max_task_retries": 0,
            "max_concurrency": 16,
            "scheduling_strategy": place,
        }
        given = {key: value for key, value in options.items() if value is not None}
        actor = _Actor.options(**given).remote("raflow operators" if anonymous else name)
        if isinstance(listener, RayListener):
            listener.joined(actor, place)
            return _ServingReplica(name, actor, packed, self._working_dir, kind, listener)
        return _RayReplica(name, actor, packed, self._working_dir, kind, self._keep)

    def _keep(self, kind: _Kind, actor: Any) -> None:
        if kind.needs.get("GPU"):
            ray.kill(actor, no_restart=True)  # what libraries keep on a device goes with the process only
        else:
            self._idle.append((kind, actor))

    def _end_idle(self) -> None:
        idle, self._idle = self._idle, []
        for _, actor in idle:
            ray.kill(actor, no_restart=True)

    def gone(self, references: Sequence[Any]) -> list[bool]:
        """Return which payloads have no place in the cluster any more."""
        places = ray.experimental.get_object_locations(list(references)) if references else {}
        others = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - {ray.get_runtime_context().get_node_id()}
        unsure = [one for one in references if not others & set(places[one]["node_ids"])]
        gone = set(unsure) - set(_here(unsure))
        return [one in gone for one in references]

    def close(self) -> None:
        """Keep Ray: the next run of this process needs it."""
        self._end_idle()
        if self._asked:
            request_resources(bundles=[])


def _here(references: list[Any]) -> Iterator[Any]:
    """Yield those of payloads that are on this node or, if they are small, in this process.

    In the place of one that is lost Ray keeps an error here, or waits for it in vain.
    """
    if references:
        for one in ray.wait(references, num_returns=len(references), timeout=_LOOK_S, fetch_local=False)[0]:
            with suppress(ray.exceptions.RayError):
                ray.get(one, timeout=_LOOK_S)
                yield one


@dataclass(frozen=True)
class _Kind:
    """What replicas have in common of which one may take over the process of another."""

    anonymous: bool
    """Whether they run no user code; such processes hide pandas."""
    needs: dict[str, float]


class _RayReplica:
    def __init__(
        self, name: str, actor: Any, packed: Any, folder: str, kind: _Kind, keep: Callable[[_Kind, Any], None]
    ) -> None:
        self.name = name
        self._actor = actor
        self._kind = kind
        self._keep = keep
        self._loaded = actor.load.remote(name, packed, own_versions(), folder, kind.anonymous)

    def call(self, method: str, *args: Any) -> Future[Any]:
        return self._future(self._actor.call.remote(self._loaded, method, *args))

    def produce(self, method: str, *args: Any, count: int) -> tuple[Future[Any], list[Any]]:
        # Each argument is pickled, and waited for, by itself: all but the references travel as one.
        plain = tuple(arg for arg in args if not isinstance(arg, ray.ObjectRef))
        call = self._actor.produce.options(num_returns=1 + count)
        found = call.remote(self._loaded, (count, method, plain), *args[len(plain) :])
        answer, *payloads = found if count else [found]
        return self._future(answer), payloads

    def _future(self, reference: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        reference.future().add_done_callback(lambda done: self._settle(done, answer))
        return answer

    def kill(self) -> None:
        ray.kill(self._actor, no_restart=True)

    def release(self) -> None:
        self._keep(self._kind, self._actor)

    def _settle(self, done: Future[Any], answer: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            self._loaded = None  # it is: later calls need not wait for that
            answer.set_result(done.result())
        else:
            answer.set_exception(foreign(error, f"replica {self.name}"))


class _ServingReplica(_RayReplica):
    def __init__(self, name: str, actor: Any, packed: Any, folder: str, kind: _Kind, listener: RayListener) -> None:
        super().__init__(name, actor, packed, folder, kind, _end)
        self.actor = actor
        self._listener = listener

    def node(self) -> Future[str]:
        return self._future(self.actor.node.remote(self._loaded))

    def kill(self) -> None:
        self._listener.left(self.actor)
        super().kill()

    def release(self) -> None:
        self._listener.left(self.actor, for_good=True)
        super().kill()


def _end(kind: _Kind, actor: Any) -> None:
    del kind
    ray.kill(actor, no_restart=True)


class _Process:
    """The process around a replica, or around several of one run, one after the other."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._replica: Any = None

    def __repr__(self) -> str:
        return self._name

    def load(self, name: str, code: bytes, versions: tuple[str, str], folder: str, anonymous: bool) -> None:
        """Make the replica; not done in the constructor, where an error would look like a crash."""
        if self._replica is not None and not anonymous:
            self._rename(name)
        settle_in(versions, folder)
        pa.set_cpu_count(1)
        if anonymous:
            _without_pandas()
        make, args = cloudpickle.loads(code)
        self._replica = make(*args, self._name, True)

    def _rename(self, name: str) -> None:
        """Forget the replica before, and have Ray put the new one's name before what is printed."""
        self._name = name
        self._replica = None
        gc.unfreeze()
        gc.collect()
        for stream in (sys.stdout, sys.stderr):
            print(f"{_NAME_LINE}{name}", file=stream, flush=True)

    def node(self, loaded: None) -> str:
        """Return where it is."""
        del loaded
        return str(ray.get_runtime_context().get_node_id())

    def call(self, loaded: None, method: str, *args: Any) -> Any:
        """Call the replica; `loaded` makes it wait until there is one, and fail as that has failed."""
        del loaded
        return portable_answer(getattr(self._replica, method)(*args), cloudpickle)

    def produce(self, loaded: None, asked: tuple[int, str, tuple[Any, ...]], *references: Any) -> Any:
        """Call the replica; returns its answer and each payload as objects of their own."""
        del loaded
        count, method, plain = asked
        answer, payloads = getattr(self._replica, method)(*plain, *references)
        answer = portable_answer(answer, cloudpickle)
        return (answer, *payloads, *[None] * (count - len(payloads))) if count else answer


_Actor: Any = ray.remote(_Process)


class _Hidden:
    """Finds no pandas."""

    def find_spec(self, name: str, *_: Any) -> None:
        """Refuse to look for it."""
        if name == "pandas":
            raise ImportError(name)


def _without_pandas() -> None:
    """Have Arrow settle that there is no pandas: it imports it, for most of a second, to make an array of a list."""
    finder: Any = _Hidden()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


def _not_picklable(args: tuple[Any, ...], error: Exception) -> NotPicklable:
    stage = getattr(args[0], "stage", None)
    found = {op.name: _culprits(op.work) for op in getattr(stage, "ops", ())}
    name = next((name for name in found if found[name]), getattr(stage, "name", "?"))
    culprits = ", ".join(found.get(name) or _culprits(args)) or str(error)
    msg = (
        f"processor {name!r} cannot be sent to a replica: it captures {culprits}. "
        "Make it inside the function, or in setup() of a class processor"
    )
    return NotPicklable(msg)


def _culprits(work: Any) -> list[str]:
    code = getattr(work, "function", work)
    with open(os.devnull, "w") as nowhere:
        _, failures = ray.util.inspect_serializability(code, name=getattr(code, "__name__", "code"), print_file=nowhere)
    found = [f"{_last(one)} ({type(one.obj).__name__})" for one in failures if not inspect.isroutine(one.obj)]
    return sorted(set(found))


def _last(failure: Any) -> str:
    """Return the name of the captured object; older Rays had `name`, newer ones a path."""
    return str(failure.path[-1] if hasattr(failure, "path") else failure.name)
