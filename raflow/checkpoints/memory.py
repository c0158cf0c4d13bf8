"""Values under keys in the memory of this process."""

from __future__ import annotations

import os
from datetime import datetime
from typing import Any

from raflow.checkpoints.form import Raw
from raflow.checkpoints.forms import is_plain
from raflow.checkpoints.store import MISSING, Checkpoints


class MemoryCheckpoints(Checkpoints):
    """Values that live as long as this object does; they are copies as well."""

    def __init__(self) -> None:
        super().__init__("memory")
        self._data: dict[str, Any] = {}

    def __repr__(self) -> str:
        return "MemoryCheckpoints()"

    @property
    def shown(self) -> str:
        """The place for messages."""
        return f"the memory of process {os.getpid()}"

    def read(self, key: str) -> Any:
        """Return the value of a key, or MISSING."""
        kept = self._data.get(key, MISSING)
        return self._unpacked(key, kept.data) if type(kept) is Raw else kept

    def write(self, key: str, value: Any) -> None:
        """Set the value of a key."""
        self._data[key] = self._kept(key, value)

    def create(self, key: str, value: Any) -> bool:
        """Set the value of a key that has none; return False if it has one."""
        kept = Raw(self._packed(key, value))
        return self._data.setdefault(key, kept) is kept

    def delete(self, key: str) -> bool:
        """Remove the value of a key; return whether there was one."""
        return self._data.pop(key, MISSING) is not MISSING

    def keys(self, prefix: str = "") -> list[str]:
        """Return the keys that begin with a prefix, sorted."""
        return sorted(key for key in list(self._data) if key.startswith(prefix))

    def check(self) -> None:
        """Do nothing: memory can be reached."""

    def _kept(self, key: str, value: Any) -> Any:
        return value if _is_fixed(value) else Raw(self._packed(key, value))


def _is_fixed(value: Any) -> bool:
    """Whether nobody can change a value, so that it need not be copied."""
    return is_plain(value) or type(value) is datetime or (type(value) is tuple and all(map(_is_fixed, value)))
