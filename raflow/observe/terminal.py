"""Messages of the log on the terminal, for programs that have arranged nothing themselves."""

from __future__ import annotations

import logging
import sys
from typing import Any

log = logging.getLogger("raflow")


def log_to_terminal(level: str, logger: logging.Logger = log) -> None:
    """Print what a logger says from this level on, unless somebody has arranged its handlers."""
    logger.setLevel(level)
    if not logging.getLogger().handlers and not logger.handlers:
        handler = Stderr()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%H:%M:%S"))
        logger.addHandler(handler)


class Stderr(logging.StreamHandler[Any]):
    """Writes to what is `sys.stderr` now: captures and progress views put themselves in its place."""

    @property
    def stream(self) -> Any:
        """Where it writes."""
        return sys.stderr

    @stream.setter
    def stream(self, value: Any) -> None:
        """Stay with `sys.stderr`."""
