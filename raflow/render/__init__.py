"""Draw a graph as text, Mermaid, Graphviz dot or SVG; none of them needs another program."""

from __future__ import annotations

from typing import Literal, TypeAlias, get_args

from raflow.errors import InvalidOption
from raflow.graph import Graph

Format: TypeAlias = Literal["text", "mermaid", "dot", "svg"]

FORMATS: tuple[Format, ...] = get_args(Format)
"""The formats that `render` knows."""


def render(graph: Graph, format: Format) -> str:  # noqa: A002 - the CLI's word
    """Return the drawing of a graph; the same graph gives the same text.

    Args:
        graph: What to draw.
        format: `text` for a terminal, `mermaid` and `dot` for documents, `svg` for notebooks and pages.

    Raises:
        InvalidOption: There is no such format.
    """
    if format == "text":
        from raflow.render.text import draw
    elif format == "mermaid":
        from raflow.render.mermaid import draw
    elif format == "dot":
        from raflow.render.dot import draw
    elif format == "svg":
        from raflow.render.svg import draw
    else:
        msg = f"format is {format!r}; it can be {', '.join(FORMATS)}"
        raise InvalidOption(msg)
    return draw(graph)
