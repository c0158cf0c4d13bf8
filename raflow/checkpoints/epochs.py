"""Who may write the checkpoints of a workflow: the process that resumed it last.

Keys, each part of them passed through `join`::

    <workflow id>/epochs/<n>                                  who took the n-th epoch, and when
    <workflow id>/steps/<name#occurrence>/<index path>        the result of a step, or of one item of it

A lock would have to be broken after a kill -9, and nobody can tell a slow holder from a dead one. An
epoch is taken by creating its number, so taking one always works; the older holder finds the higher
number before its next write and stops.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from raflow.checkpoints.keys import join
from raflow.checkpoints.store import MISSING, Checkpoints
from raflow.errors import Superseded


@dataclass(frozen=True)
class Epoch:
    """One process's turn at a workflow.

    Attributes:
        checkpoints: Where the results are.
        workflow_id: The workflow.
        number: Counts from 1; the highest one is in force.
    """

    checkpoints: Checkpoints
    workflow_id: str
    number: int

    @classmethod
    def take(cls, checkpoints: Checkpoints, workflow_id: str) -> Epoch:
        """Return the next epoch of a workflow; whoever held one before is told at its next write.

        Raises:
            SinkError: The checkpoints cannot be written.
        """
        prefix = join(workflow_id, "epochs", "")
        number = max((int(key.rpartition("/")[2]) for key in checkpoints.keys(prefix)), default=0) + 1
        owner = {"host": socket.gethostname(), "pid": os.getpid(), "time": datetime.now(timezone.utc)}
        while not checkpoints.create(f"{prefix}{number}", owner):
            number += 1
        return cls(checkpoints, workflow_id, number)

    def key(self, step: str, *index: int) -> str:
        """Return the key of a step, such as `extract#0`, or of one item of its fan-outs."""
        return join(self.workflow_id, "steps", step, *index)

    def read(self, key: str) -> Any:
        """Return the value of a key, or MISSING; see `Checkpoints.read`."""
        return self.checkpoints.read(key)

    def write(self, key: str, value: Any) -> None:
        """Set the value of a key, if this epoch is still in force.

        Raises:
            Superseded: Another process has resumed the workflow.
            NotSerializable: The value cannot be stored.
            SinkError: The checkpoints cannot be written.
        """
        self.check()
        self.checkpoints.write(key, value)

    def check(self) -> None:
        """Ask whether this epoch is still in force.

        Raises:
            Superseded: Another process has resumed the workflow.
        """
        owner = self.checkpoints.read(join(self.workflow_id, "epochs", self.number + 1))
        if owner is not MISSING:
            who = f"{owner['host']}, process {owner['pid']}, {owner['time']:%Y-%m-%d %H:%M:%S} UTC"
            msg = f"workflow {self.workflow_id!r} was resumed by another process ({who}); this one stops"
            raise Superseded(msg)
