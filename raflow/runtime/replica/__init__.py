"""What runs in a replica: `threads` holds the three threads that a unit of work passes."""

from raflow.runtime.replica.threads import Replica

__all__ = ["Replica"]
