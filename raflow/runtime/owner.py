"""Whose a run is: the process that moves its data, and whether that lives."""

from __future__ import annotations

import os
import socket
import time
from datetime import timedelta
from typing import Any

BEAT_S = 60.0
"""How often a living run says so."""
_LEASE = timedelta(minutes=10)
"""Silence after which a run of another host counts as dead."""


def this_process() -> dict[str, Any]:
    """Return what a ledger says of the process to which its run belongs."""
    pid = os.getpid()
    return {"host": socket.gethostname(), "pid": pid, "started": _started(pid), "time": time.time()}


def is_alive(owner: dict[str, Any]) -> bool:
    """Return whether the process to which a run belongs is there, as far as this host can know."""
    if owner["host"] != socket.gethostname():
        return time.time() - float(owner["time"]) < _LEASE.total_seconds()
    return bool(_started(owner["pid"]) == owner["started"])


def _started(pid: int) -> str | None:
    """Return when a process started, in clock ticks since boot; None if there is none."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            fields = stat.read().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else fields[19]
