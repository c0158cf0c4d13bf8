"""Move data through Python functions on Ray: sources, processors, sinks.

The public names load on first use, so that `import raflow` stays light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from raflow.errors import RaflowError as RaflowError
    from raflow.errors import RunFailed as RunFailed
    from raflow.flow import Flow as Flow
    from raflow.options import FlowOptions as FlowOptions
    from raflow.options import Retry as Retry
    from raflow.processors import consumer as consumer
    from raflow.runtime.run import Run as Run
    from raflow.sinks import Sink as Sink
    from raflow.sources import Source as Source

_HOME = {
    # what a user declares
    "Flow": "raflow.flow",
    "consumer": "raflow.processors",
    # options
    "FlowOptions": "raflow.options",
    "Retry": "raflow.options",
    # contracts for connector authors
    "Source": "raflow.sources",
    "Sink": "raflow.sinks",
    # runs and their errors
    "Run": "raflow.runtime.run",
    "RaflowError": "raflow.errors",
    "RunFailed": "raflow.errors",
}

__all__ = [  # noqa: RUF022 - grouped by use
    "Flow", "consumer",
    "FlowOptions", "Retry",
    "Source", "Sink",
    "Run", "RaflowError", "RunFailed",
    "__version__",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'raflow' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
