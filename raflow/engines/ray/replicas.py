"""Replicas as Ray actors."""

from __future__ import annotations

import inspect
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from types import ModuleType
from typing import Any

import ray
from ray import cloudpickle
from ray.autoscaler.sdk import request_resources

from raflow.engines.ray.actors import Actors
from raflow.engines.ray.cluster import capacity, connect, folder_of, foreign, is_own, own_versions, plain
from raflow.engines.ray.listener import RayListener
from raflow.engines.ray.spare import Held
from raflow.errors import NotPicklable
from raflow.options import Resources
from raflow.runtime.engine import Capacity, Listener, ReplicaHandle
from raflow.runtime.serving.address import Address
from raflow.runtime.steps.values import by_value

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
        self._actors = Actors(self._working_dir)

    def start(self) -> None:
        """Connect, or start a Ray of our own.

        Raises:
            ClusterUnreachable: Nothing answers at the address.
        """
        connect(self._address, self._working_dir)

    def capacity(self) -> Capacity:
        """Return the cluster's resources as they are now."""
        found = capacity()
        return replace(found, others=self._actors.others(found.resources, self.available(), time.monotonic()))

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
        found = None
        if listener is None or is_own():
            found = self._actors.take(needs, anonymous=anonymous)
        else:
            self._actors.end_free()  # they hold what this one may need, and are perhaps not where it is to go
        place = listener.place() if isinstance(listener, RayListener) else None
        if found is None:
            shown = "raflow operators" if anonymous else name
            found = self._actors.start(shown, needs, anonymous=anonymous, place=place)
        if isinstance(listener, RayListener):
            listener.joined(found.actor, place)
            return _ServingReplica(name, found, packed, self._working_dir, self._actors, listener)
        return _RayReplica(name, found, packed, self._working_dir, self._actors)

    def gone(self, references: Sequence[Any]) -> list[bool]:
        """Return which payloads have no place in the cluster any more."""
        places = ray.experimental.get_object_locations(list(references)) if references else {}
        others = {node["NodeID"] for node in ray.nodes() if node["Alive"]} - {ray.get_runtime_context().get_node_id()}
        unsure = [one for one in references if not others & set(places[one]["node_ids"])]
        gone = set(unsure) - set(_here(unsure))
        return [one in gone for one in references]

    def close(self) -> None:
        """Keep Ray, and for a moment free processes of one of our own: the next run of this process needs them."""
        if is_own():
            self._actors.leave()
        else:
            self._actors.end_free()
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


class _RayReplica:
    def __init__(self, name: str, held: Held, packed: Any, folder: str, actors: Actors) -> None:
        self.name = name
        self._held = held
        self._actor = held.actor
        self._actors = actors
        self._key = secrets.token_hex(8)
        self._loaded = held.actor.load.remote(name, self._key, packed, own_versions(), folder, held.anonymous)

    def call(self, method: str, *args: Any) -> Future[Any]:
        return self._future(self._actor.call.remote(self._loaded, self._key, method, *args))

    def produce(self, method: str, *args: Any, count: int) -> tuple[Future[Any], list[Any]]:
        # Each argument is pickled, and waited for, by itself: all but the references travel as one.
        plain = tuple(arg for arg in args if not isinstance(arg, ray.ObjectRef))
        call = self._actor.produce.options(num_returns=1 + count)
        found = call.remote(self._loaded, self._key, (count, method, plain), *args[len(plain) :])
        answer, *payloads = found if count else [found]
        return self._future(answer), payloads

    def _future(self, reference: Any) -> Future[Any]:
        answer: Future[Any] = Future()
        reference.future().add_done_callback(lambda done: self._settle(done, answer))
        return answer

    def node(self) -> Future[str]:
        return self._future(self._actor.node.remote(self._loaded))

    def kill(self) -> None:
        self._actors.end(self._held)

    def release(self, *, worn: bool = False) -> None:
        (self._actors.end if worn else self._actors.keep)(self._held)

    def _settle(self, done: Future[Any], answer: Future[Any]) -> None:
        error = done.exception()
        if error is None:
            self._loaded = None  # it is: later calls need not wait for that
            answer.set_result(done.result())
        else:
            answer.set_exception(foreign(error, f"replica {self.name}"))


class _ServingReplica(_RayReplica):
    def __init__(self, name: str, held: Held, packed: Any, folder: str, actors: Actors, listener: RayListener) -> None:
        super().__init__(name, held, packed, folder, actors)
        self.actor = held.actor
        self._listener = listener

    def kill(self) -> None:
        self._listener.left(self.actor)
        super().kill()

    def release(self, *, worn: bool = False) -> None:
        self._listener.left(self.actor)
        super().release(worn=worn or not is_own())


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
