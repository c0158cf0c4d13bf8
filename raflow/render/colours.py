"""The colours of the pictures: chosen for a light background, which each picture brings along."""

from __future__ import annotations

from raflow.graph import Kind, Node
from raflow.metrics import Status

COLOURS: dict[Kind, tuple[str, str, str]] = {
    "source": ("#ecfdf5", "#34a27b", "#065f46"),
    "processor": ("#eef2ff", "#6672e5", "#312e81"),
    "sink": ("#fff7ed", "#e08a3c", "#7c2d12"),
    "step": ("#eef2ff", "#6672e5", "#312e81"),
}
"""Fill, line and text by kind of node."""

STATUS_COLOURS: dict[Status, tuple[str, str, str]] = {
    Status.PENDING: ("#f8fafc", "#94a3b8", "#475569"),
    Status.RUNNING: ("#eff6ff", "#3b82f6", "#1e3a8a"),
    Status.RETRYING: ("#fffbeb", "#d97706", "#78350f"),
    Status.SUCCEEDED: ("#f0fdf4", "#16a34a", "#14532d"),
    Status.FAILED: ("#fef2f2", "#dc2626", "#991b1b"),
    Status.SKIPPED: ("#f8fafc", "#94a3b8", "#475569"),
    Status.CANCELLED: ("#f5f3ff", "#8b7fb8", "#4c3d7a"),
    Status.TIMED_OUT: ("#fef2f2", "#dc2626", "#991b1b"),
}
"""Fill, line and text of nodes of a run. Never alone: the status is there as a word too."""

ERROR = "#b91c1c"
"""The text of errors."""


def colours(node: Node) -> tuple[str, str, str]:
    """Return fill, line and text of a node."""
    return COLOURS[node.kind] if node.status is None else STATUS_COLOURS[node.status]
