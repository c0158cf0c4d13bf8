"""What is set for the HTTP side of a run."""

from __future__ import annotations

from dataclasses import dataclass, field

from raflow.options import Resources
from raflow.runtime.serving.protocol import HttpLimits
from raflow.runtime.serving.scaling import HttpScaling
from raflow.runtime.serving.server import Tls


@dataclass(frozen=True)
class ServingOptions:
    """Of one HTTP pool."""

    needs: Resources = field(default_factory=Resources)
    """Of one replica."""
    scaling: HttpScaling = field(default_factory=HttpScaling)
    limits: HttpLimits = field(default_factory=HttpLimits)
    tls: Tls | None = None
    grace_s: float = 2.0
    """How long connections of a leaving replica may be idle, each answer telling their clients to go."""
    drain_timeout_s: float = 30.0
    """For requests of a leaving replica to end."""
    start_timeout_s: float = 60.0
    """From asking for a replica to its first connection."""
    hung_after_s: float = 60.0
    """A replica whose event loop has been blocked for so long is replaced."""
    max_abandoned_calls: int = 16
    """A replica with so many synchronous calls that were given up and do not return is replaced."""
