"""What is set for the HTTP side of a run; the defaults are in `raflow/options.py`."""

from __future__ import annotations

from dataclasses import dataclass

from raflow.options import ConnectionOptions, Resources
from raflow.runtime.serving.scaling import HttpScaling
from raflow.runtime.serving.server import Tls


@dataclass(frozen=True)
class ServingOptions:
    """Of one HTTP pool."""

    needs: Resources
    """Of one replica."""
    scaling: HttpScaling
    connections: ConnectionOptions
    tls: Tls | None
    drain_timeout_s: float
    """For requests of a leaving replica to end."""
    start_timeout_s: float
    """From asking for a replica to its first connection."""
    hung_after_s: float
    """A replica whose event loop has been blocked for so long is replaced."""
    max_abandoned_calls: int
    """A replica with so many synchronous calls that were given up and do not return is replaced."""
