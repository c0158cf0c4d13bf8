"""Processes that runs have left to the next run of this process: starting one takes a second."""

from __future__ import annotations

import os
import sys
import sysconfig
import threading
from dataclasses import dataclass
from typing import Any

import ray


@dataclass(frozen=True, eq=False)
class Held:
    """An actor, and what its replica has in common with those that may take it over."""

    actor: Any
    anonymous: bool
    """Whether it runs no user code."""
    needs: dict[str, float]
    folder: str
    """From which it imports the user's code."""
    session: str
    """The Ray that it is of, by this process's node."""
    since: float
    """When it was started, as `time.time`."""


class Spare:
    """Actors that are free between two runs. Any thread may call."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._kept: list[Held] = []
        self._timer = threading.Timer(0.0, self.end)

    def put(self, actors: list[Held], idle_s: float) -> None:
        """Keep free actors; all end if none is taken for so long."""
        if not actors:
            return
        with self._lock:
            self._kept += actors
            self._timer.cancel()
            self._timer = threading.Timer(idle_s, self.end)
            self._timer.daemon = True
            self._timer.start()

    def take(self, folder: str) -> list[Held]:
        """Return those that import from this folder what is imported here, too; the others end."""
        with self._lock:
            kept, self._kept = self._of_this_ray(), []
        fit = [one for one in kept if one.anonymous or (one.folder == folder and not _edited(one.since))]
        for one in kept:
            if one not in fit:
                ray.kill(one.actor, no_restart=True)
        return fit

    def end(self) -> None:
        """End all."""
        with self._lock:
            kept, self._kept = self._of_this_ray(), []
        for one in kept:
            ray.kill(one.actor, no_restart=True)

    def _of_this_ray(self) -> list[Held]:
        """Return what has not ended with its Ray."""
        if not self._kept or not ray.is_initialized():
            return []
        here = ray.get_runtime_context().get_node_id()
        return [one for one in self._kept if one.session == here]


spare = Spare()


def _edited(since: float) -> bool:
    """Return whether a module of the user that is loaded here has changed on disk since then.

    A process that has it may have the old one, e.g. in a notebook that loads modules again.
    """
    libraries = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
    files = {getattr(module, "__file__", None) for module in list(sys.modules.values())}
    own = [file for file in files if file and not file.startswith(libraries)]
    return any(os.path.exists(file) and os.path.getmtime(file) > since for file in own)
