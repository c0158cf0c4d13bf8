"""The actors of one engine: starts and ends them, keeps free ones for the next replica, knows what all hold."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

import ray

from raflow.engines.ray.cluster import is_own, options_of
from raflow.engines.ray.process import Actor
from raflow.engines.ray.spare import Held, spare
from raflow.options import Resources

_FREE_S = 3.0
"""A process that no replica has taken for so long ends: others may want what it holds."""
_TOLD_S = 5.0
"""So late Ray may tell what has been given back."""


class Actors:
    """Actors of replicas. Any thread may call: data and HTTP of one run have one engine.

    Args:
        folder: From which they import the user's code.
    """

    def __init__(self, folder: str = "") -> None:
        self._folder = folder
        self._lock = threading.RLock()
        self._held: list[Held] = []
        self._free: list[tuple[float, Held]] = []
        """Of replicas that have ended, and since when: a process takes a second to start."""
        self._looks: deque[tuple[float, dict[str, float]]] = deque()

    def take(self, needs: Resources, *, anonymous: bool) -> Held | None:
        """Return a free actor of the kind; if there is none, all free ones end, as they hold what is needed now."""
        self._adopt()
        with self._lock:
            for entry in self._free:
                if (entry[1].needs, entry[1].anonymous) == (needs.needs(), anonymous):
                    self._free.remove(entry)
                    return entry[1]
        self.end_free()
        return None

    def start(self, name: str, needs: Resources, *, anonymous: bool, place: Any) -> Held:
        """Start an actor; returns at once.

        Args:
            name: For Ray's dashboard and the lines that it prints.
            needs: Of the replica.
            anonymous: Whether it will run no user code.
            place: A scheduling strategy of Ray, or None.
        """
        given = options_of(needs)
        if place is not None:
            given["scheduling_strategy"] = place
        # The driver replaces it and repeats its work.
        actor = Actor.options(**given, max_restarts=0, max_task_retries=0, max_concurrency=16).remote(name)
        held = Held(actor, anonymous, needs.needs(), self._folder, ray.get_runtime_context().get_node_id(), time.time())
        with self._lock:
            self._held.append(held)
        return held

    def keep(self, one: Held) -> None:
        """Take back the actor of a replica that has ended."""
        if one.needs.get("GPU"):
            self._end(one)  # what libraries keep on a device goes with the process only
        else:
            with self._lock:
                self._free.append((time.monotonic(), one))
            self._end_idle_later()

    def end(self, one: Held) -> None:
        """End an actor now, and the free ones where they may have been lost with its node. Again is harmless."""
        self._end(one)
        if not is_own():
            self.end_free()

    def end_free(self) -> None:
        """End those that no replica has, so that others can use what they hold."""
        self._adopt()
        self._end_idle(0.0)

    def leave(self) -> None:
        """Leave the free ones to the next run of this process; they end if none takes them soon."""
        with self._lock:
            left = [one for _, one in self._free]
            self._free = []
            self._held = [one for one in self._held if one not in left]
        spare.put(left, _FREE_S)

    def _adopt(self) -> None:
        """Take what runs before have left: it is free, and held by this engine."""
        for one in spare.take(self._folder):
            with self._lock:
                self._held.append(one)
                self._free.append((time.monotonic(), one))
            self._end_idle_later()

    def _end_idle_later(self) -> None:
        timer = threading.Timer(_FREE_S, self._end_idle, [_FREE_S])
        timer.daemon = True
        timer.start()

    def _end_idle(self, idle_s: float) -> None:
        with self._lock:
            ended = [one for since, one in self._free if time.monotonic() - since >= idle_s]
            self._free = [entry for entry in self._free if entry[1] not in ended]
        for one in ended:
            self._end(one)

    def _end(self, one: Held) -> None:
        ray.kill(one.actor, no_restart=True)
        with self._lock:
            if one in self._held:
                self._held.remove(one)

    def others(self, total: Mapping[str, float], available: Mapping[str, float], now_s: float) -> dict[str, float]:
        """Return what is held in the cluster by others; the least of some seconds, since Ray tells it late."""
        self._adopt()
        with self._lock:
            return self._others(total, available, now_s)

    def _others(self, total: Mapping[str, float], available: Mapping[str, float], now_s: float) -> dict[str, float]:
        own: Counter[str] = Counter()
        for one in self._held:
            own.update(one.needs)
        used = {key: max(amount - available.get(key, 0.0) - own[key], 0.0) for key, amount in total.items()}
        self._looks.append((now_s, used))
        while now_s - self._looks[0][0] > _TOLD_S:
            self._looks.popleft()
        settled = now_s - self._looks[0][0] > _TOLD_S / 2
        return {key: min(look.get(key, 0.0) for _, look in self._looks) for key in used} if settled else {}
