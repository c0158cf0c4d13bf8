"""A graph as SVG: boxes from left to right, a frame around each stage.

The picture brings its own light background and has neither styles, ids nor scripts, so that many of them
can stand on one page, light or dark.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from html import escape
from itertools import pairwise

from rich.cells import cell_len

from raflow.graph import Edge, Graph, Group, Node
from raflow.metrics import Status
from raflow.render.colours import ERROR, colours
from raflow.render.columns import Point, Rect, Size
from raflow.render.layout import lay_out
from raflow.render.state import words
from raflow.units import shortened

SANS = "system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif"
MONO = "ui-monospace, SFMono-Regular, Menlo, 'DejaVu Sans Mono', Consolas, monospace"
LABEL, DETAIL, SMALL = 8.6, 6.7, 7.2
"""Width of a character in a box's label and detail, and in other texts; generous, for fonts differ."""
LABEL_CHARS, DETAIL_CHARS, TITLE_CHARS, EDGE_CHARS = 30, 36, 60, 24
"""The longest texts; longer ones are shortened in the middle and whole in the tooltip."""
_NO_BREAK = "\xa0"
MARGIN, HEADER, GAP, ICON = 24, 34, 56, 34

_ICONS = {
    "source": "M-7-5v10c0 3 14 3 14 0v-10M-7-5c0-3 14-3 14 0c0 3-14 3-14 0M-7 0c0 3 14 3 14 0",
    "processor": "M3-8c-3-1-4 1-4.5 4l-1.5 8c-.6 3-1.6 5-4.5 4M-5-1.5h9",
    "sink": "M-7 3v4h14v-4M0-8v10M-4-2l4 4l4-4",
    "step": "M-5-7l11 7l-11 7z",
}

_STATUS_ICONS = {
    Status.PENDING: "M7 0a7 7 0 1 1-14 0a7 7 0 1 1 14 0",
    Status.RUNNING: "M-5-7l11 7l-11 7z",
    Status.RETRYING: "M6 2a6.5 6.5 0 1 1-1.5-6.5M5-8.5v4.5h-4.5",
    Status.SUCCEEDED: "M-7 0l5 5.5l9-11",
    Status.FAILED: "M-6-6l12 12M6-6l-12 12",
    Status.SKIPPED: "M-7-6l6 6l-6 6M1-6l6 6l-6 6",
    Status.CANCELLED: "M7 0a7 7 0 1 1-14 0a7 7 0 1 1 14 0M-5 5l10-10",
    Status.TIMED_OUT: "M7 0a7 7 0 1 1-14 0a7 7 0 1 1 14 0M0-4v4l3 2",
}
_DASHED = {Status.PENDING, Status.SKIPPED, Status.CANCELLED}
"""What has not run."""


def draw(graph: Graph) -> str:
    """Return the text of an SVG document."""
    sizes = {node.id: _size(node) for node in graph.nodes}
    titles = {group.id: SMALL * cell_len(shortened(group.label, TITLE_CHARS)) for group in graph.groups}
    chips = [_chip(shortened(edge.label, EDGE_CHARS)) for edge in graph.edges if edge.label]
    layout = lay_out(graph, sizes, titles, max([GAP, *(32 + width for width in chips)]))
    name = shortened(graph.name, TITLE_CHARS)
    width = max(layout.width, LABEL * 1.1 * cell_len(name)) + 2 * MARGIN
    height = layout.height + 2 * MARGIN + HEADER
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_n(width)}" '
        f'viewBox="0 0 {_n(width)} {_n(height)}" role="img" aria-label="{_escaped(graph.name)}" '
        f'style="max-width:100%" font-family="{_escaped(SANS)}">',
        f'<rect x="0.5" y="0.5" width="{_n(width - 1)}" height="{_n(height - 1)}" rx="16" fill="#ffffff" '
        f'stroke="#e2e8f0"/>',
        _text(name, MARGIN, MARGIN + 14, graph.name, 'font-size="15" font-weight="700" fill="#0f172a"'),
        f'<g transform="translate({MARGIN} {MARGIN + HEADER})">',
    ]
    parts += [_frame(group, layout.frames[group.id]) for group in graph.groups if group.id in layout.frames]
    parts += [_path(points) for points in layout.routes]
    parts += [_box(node, layout.boxes[node.id]) for node in graph.nodes]
    parts += [_edge_label(edge, points) for edge, points in zip(graph.edges, layout.routes, strict=True) if edge.label]
    return "\n".join([*parts, "</g>", "</svg>"]) + "\n"


def _lines(node: Node) -> list[tuple[str, str]]:
    """Return the lines of a box below its label, each with its colour: at most two of a text."""
    texts = [(node.detail, "#475569"), (_whole(words(node)), colours(node)[2]), (node.error, ERROR)]
    return [(line, colour) for text, colour in texts for line in _wrapped(text)]


def _whole(state: str) -> str:
    """Return a state in which a line may end only within its first part and between parts."""
    first, *others = state.split(" · ")
    return " · ".join([first, *(part.replace(" ", _NO_BREAK) for part in others)])


def _wrapped(text: str) -> list[str]:
    lines = textwrap.wrap(text, DETAIL_CHARS, break_long_words=False, break_on_hyphens=False)
    lines = [*lines[:1], " ".join(lines[1:])] if lines[1:] else lines
    return [shortened(line, DETAIL_CHARS).replace(_NO_BREAK, " ") for line in lines]


def _size(node: Node) -> Size:
    lines = _lines(node)
    widths = [
        LABEL * cell_len(shortened(node.label, LABEL_CHARS)),
        *(DETAIL * cell_len(line) for line, _ in lines),
    ]
    return max(130.0, ICON + max(widths) + 16), 40.0 + 15 * len(lines) + (2 if lines else 0)


def _frame(group: Group, rect: Rect) -> str:
    title = shortened(group.label, TITLE_CHARS)
    look = 'font-size="12" font-weight="600" fill="#64748b"'
    return (
        f'<g><rect {_at(rect)} rx="14" fill="#f8fafc" stroke="#cbd5e1"/>'
        f"{_text(title, rect.x + 16, rect.y + 23, group.label, look)}</g>"
    )


def _box(node: Node, rect: Rect) -> str:
    fill, line, text = colours(node)
    icon = _ICONS[node.kind] if node.status is None else _STATUS_ICONS[node.status]
    dash = ' stroke-dasharray="5 3"' if node.status in _DASHED else ""
    lines = _lines(node)
    x, y = rect.x + ICON, rect.y + (25 if not lines else 22)
    parts = [
        f'<rect {_at(rect)} rx="9" fill="{fill}" stroke="{line}" stroke-width="1.25"{dash}/>',
        f'<path transform="translate({_n(rect.x + 18)} {_n(y - 5)})" d="{icon}" fill="none" '
        f'stroke="{line}" stroke-width="1.6" stroke-linecap="round" stroke-linejoin="round"/>',
        _text(shortened(node.label, LABEL_CHARS), x, y, "", f'font-size="14" font-weight="600" fill="{text}"'),
    ]
    look = f'font-size="11" font-family="{_escaped(MONO)}"'
    parts += [_text(one, x, y + 4 + 15 * row, "", f'{look} fill="{own}"') for row, (one, own) in enumerate(lines, 1)]
    tooltip = "\n".join(filter(None, [node.label, node.detail, words(node), node.error]))
    return f"<g><title>{_escaped(tooltip)}</title>{''.join(parts)}</g>"


def _path(points: Sequence[Point]) -> str:
    """Return a route as a line that is level in columns and bends softly in gaps, with an arrowhead."""
    (x, y), (end_x, end_y) = points[0], points[-1]
    steps = [f"M{_n(x)} {_n(y)}"]
    for to_x, to_y in ((min(x, end_x - 6), y) for x, y in points[1:]):
        half = _n((x + to_x) / 2)
        if abs(to_y - y) < 0.05:
            steps += [f"H{_n(to_x)}"] if to_x > x else []
        else:
            steps.append(f"C{half} {_n(y)} {half} {_n(to_y)} {_n(to_x)} {_n(to_y)}")
        x, y = to_x, to_y
    return (
        f'<path d="{"".join(steps)}" fill="none" stroke="#94a3b8" stroke-width="1.5"/>'
        f'<path d="M{_n(end_x)} {_n(end_y)}l-8-4.5v9z" fill="#94a3b8"/>'
    )


def _edge_label(edge: Edge, points: Sequence[Point]) -> str:
    """Return an edge's label on a chip in the middle of its longest piece."""
    start, end = max(pairwise(points), key=lambda pair: pair[1][0] - pair[0][0])
    text = shortened(edge.label, EDGE_CHARS)
    x, y, width = (start[0] + end[0]) / 2, (start[1] + end[1]) / 2, _chip(text)
    chip = f'<rect {_at(Rect(x - width / 2, y - 9, width, 18))} rx="9" fill="#ffffff" stroke="#cbd5e1"/>'
    look = 'font-size="11" text-anchor="middle" fill="#475569"'
    return f"<g>{chip}{_text(text, x, y + 4, edge.label, look)}</g>"


def _chip(text: str) -> float:
    return SMALL * cell_len(text) + 16


def _text(text: str, x: float, y: float, tooltip: str, look: str) -> str:
    title = f"<title>{_escaped(tooltip)}</title>" if tooltip and tooltip != text else ""
    return f'<text x="{_n(x)}" y="{_n(y)}" {look}>{title}{_escaped(text)}</text>'


def _at(rect: Rect) -> str:
    return f'x="{_n(rect.x)}" y="{_n(rect.y)}" width="{_n(rect.width)}" height="{_n(rect.height)}"'


def _n(number: float) -> str:
    """Return a number with one decimal at most."""
    return f"{number:.1f}".removesuffix(".0")


def _escaped(text: str) -> str:
    """Return text for XML, without the control characters that XML cannot hold."""
    return escape(re.sub(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text))
