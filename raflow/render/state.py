"""What a picture says of a node below its name: a status is a sign, a word and a colour, never a colour alone."""

from __future__ import annotations

from raflow.graph import Node
from raflow.metrics import Status
from raflow.units import duration, plural, shortened

SIGNS: dict[Status, str] = {
    Status.PENDING: "○",
    Status.RUNNING: "▶",
    Status.RETRYING: "↻",
    Status.SUCCEEDED: "✓",
    Status.FAILED: "✗",
    Status.SKIPPED: "↷",
    Status.CANCELLED: "⊘",
    Status.TIMED_OUT: "✗",
}
"""One character each, in the fonts of terminals and browsers."""

ERROR_CHARS = 80
"""The longest error in a line of text; longer ones are cut in the middle."""


def lines(node: Node) -> list[str]:
    """Return detail, state and error, those that there are."""
    sign = f"{SIGNS[node.status]} " if node.status else ""
    return [line for line in (node.detail, sign + words(node), shortened(node.error, ERROR_CHARS)) if line]


def words(node: Node) -> str:
    """Return `failed · 1.2 s · 3 attempts`; nothing of a node without a status."""
    if node.status is None:
        return ""
    said = [node.summary or node.status.value.replace("_", " ")]
    if node.duration_s is not None:
        said.append(duration(float(node.duration_s)) if node.duration_s >= 0.01 else "< 0.01 s")
    if node.attempts > 1:
        said.append(plural(node.attempts, "attempt"))
    return " · ".join(said)
