"""The colours of the pictures: chosen for a light background, which each picture brings along."""

from __future__ import annotations

from raflow.graph import Kind

COLOURS: dict[Kind, tuple[str, str, str]] = {
    "source": ("#ecfdf5", "#34a27b", "#065f46"),
    "processor": ("#eef2ff", "#6672e5", "#312e81"),
    "sink": ("#fff7ed", "#e08a3c", "#7c2d12"),
    "step": ("#eef2ff", "#6672e5", "#312e81"),
}
"""Fill, line and text by kind of node."""
