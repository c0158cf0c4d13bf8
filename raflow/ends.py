"""Where sources and sinks can be, which engines decide: checked before anything moves."""

from __future__ import annotations

from collections.abc import Sequence

from raflow.errors import EngineError, InvalidOption
from raflow.options import FlowOptions
from raflow.runtime.engine import Engine
from raflow.sinks import Sink
from raflow.sources import Source

Ends = Sequence[tuple[str, Source | Sink]]
"""Sources and sinks, with the names of their processors."""


def check_local_only(ends: Ends, engine: str, *, http: bool = False) -> None:
    """Check that what lives in one process is used by an engine of one process.

    Raises:
        InvalidOption: It is not; names the processor.
    """
    for name, end in ends:
        if engine != "local" and (end.local_only or (http and getattr(end, "in_driver", False))):
            msg = f"{end!r} of {name!r} lives in the memory of one process: run it with engine='local'"
            raise InvalidOption(msg)


def check_one_node(ends: Ends, engine: Engine, options: FlowOptions) -> None:
    """Check that local paths are used on one node, or that all nodes share them.

    Args:
        ends: To be checked.
        engine: Started.
        options: Of the Flow, which may say that they are shared.

    Raises:
        EngineError: They are not; names the processor.
    """
    nodes = engine.capacity().nodes
    if nodes == 1 or options.shared_path:
        return
    for name, end in ends:
        if end.one_node:
            msg = (
                f"{end!r} of {name!r} is a local path, but the cluster has {nodes} nodes: use a path "
                "that all of them share and say so with FlowOptions(shared_path=True), or an object store"
            )
            raise EngineError(msg)
