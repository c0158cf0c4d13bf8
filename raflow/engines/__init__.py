"""What starts replicas: `ray` on a cluster or this machine, `local` in threads of this process."""

from __future__ import annotations

import os
from types import ModuleType

from raflow.errors import InvalidOption
from raflow.runtime.engine import Engine

ENGINES = ("auto", "ray", "local")


def choose(engine: str) -> tuple[str, str]:
    """Return the engine's name and why it was chosen: what was asked for, `RAFLOW_ENGINE`, else Ray.

    Raises:
        InvalidOption: There is no such engine.
    """
    asked, reason = engine, "asked for"
    if engine == "auto" and os.environ.get("RAFLOW_ENGINE"):
        asked, reason = os.environ["RAFLOW_ENGINE"], "RAFLOW_ENGINE"
    if asked not in ENGINES:
        msg = f"there is no engine {asked!r} ({reason}); there are: {', '.join(ENGINES)}"
        raise InvalidOption(msg)
    return ("ray", "Flows run on Ray by default") if asked == "auto" else (asked, reason)


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
    from raflow.engines.ray import RayEngine

    return RayEngine(address, working_dir, by_value)
