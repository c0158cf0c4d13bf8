"""What starts replicas and steps: `ray` on a cluster or this machine, `local` in threads or child processes."""

from __future__ import annotations

import os
from types import ModuleType
from typing import TYPE_CHECKING

from raflow.errors import InvalidOption

if TYPE_CHECKING:  # child processes import this package too, and start sooner without what these import
    from raflow.runtime.engine import Engine
    from raflow.runtime.steps.workers import Workers

ENGINES = ("auto", "ray", "local")


def choose(engine: str, default: str = "ray") -> tuple[str, str]:
    """Return the engine's name and why it was chosen: what was asked for, `RAFLOW_ENGINE`, else the default.

    Raises:
        InvalidOption: There is no such engine.
    """
    asked, reason = engine, "asked for"
    if engine == "auto" and os.environ.get("RAFLOW_ENGINE"):
        asked, reason = os.environ["RAFLOW_ENGINE"], "RAFLOW_ENGINE"
    if asked not in ENGINES:
        msg = f"there is no engine {asked!r} ({reason}); there are: {', '.join(ENGINES)}"
        raise InvalidOption(msg)
    return (default, "the default") if asked == "auto" else (asked, reason)


def make(
    name: str,
    *,
    address: str | None = None,
    working_dir: str | None = None,
    by_value: ModuleType | None = None,
) -> Engine:
    """Return an engine that is not started yet.

    Args:
        name: `ray` or `local`.
        address: Of the Ray cluster; see `raflow.engines.ray`.
        working_dir: Folder of the user's code; it travels to the cluster.
        by_value: Module that replicas cannot import.
    """
    if name == "local":
        from raflow.engines.local import LocalEngine

        return LocalEngine()
    from raflow.engines.ray.replicas import RayEngine

    return RayEngine(address, working_dir, by_value)


def workers(
    name: str,
    *,
    threads: int | None = None,
    processes: bool = False,
    address: str | None = None,
    working_dir: str | None = None,
    by_value: ModuleType | None = None,
) -> Workers:
    """Return what runs steps, not started yet.

    Args:
        name: `ray` or `local`.
        threads: Steps that run at once on the local engine; None: its default.
        processes: Whether the local engine runs steps in child processes instead of threads.
        address: Of the Ray cluster; see `raflow.engines.ray`.
        working_dir: Folder of the user's code; it travels to the cluster.
        by_value: Module that workers cannot import.
    """
    if name == "ray":
        from raflow.engines.ray.steps import RayWorkers

        return RayWorkers(address, working_dir, by_value)
    if processes:
        from raflow.engines.processes import ProcessWorkers

        return ProcessWorkers(threads, by_value)
    from raflow.engines.threads import THREADS, ThreadWorkers

    return ThreadWorkers(threads or THREADS)
