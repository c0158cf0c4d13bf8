from __future__ import annotations

import re
from itertools import combinations, pairwise
from xml.etree import ElementTree

import pytest

from raflow.errors import InvalidOption
from raflow.graph import Edge, Graph, Group, Node
from raflow.metrics import Status
from raflow.render import FORMATS, Format, render

SVG = "{http://www.w3.org/2000/svg}"
LONG = "'s3://raw/a-bucket-with-a-name/trips/year=2024/month=01/day=01/*.parquet'"


def node(key: str, label: str, kind: str, group: str | None = None, detail: str = "") -> Node:
    return Node(key, label, kind, detail, group)  # type: ignore[arg-type]


def fused() -> Graph:
    return Graph(
        "flights",
        (
            node("s", "CsvFiles", "source", "p", "'flights.csv'"),
            node("f", "punctuality", "processor", "p", "per record, reads carrier, dep_delay, arr_delay"),
            node("k", "ParquetFiles", "sink", "p", LONG),
            node("e", "JsonLinesFiles", "sink", "p", "'errors/'"),
        ),
        (Edge("s", "f"), Edge("f", "k"), Edge("f", "e", "errors")),
        (Group("p", "stage punctuality"),),
    )


def staged() -> Graph:
    return Graph(
        'a < b & "c"',
        (
            node("s", "ParquetFiles", "source", "p", LONG),
            node("f", "clean", "processor", "p"),
            node("k", "ParquetFiles", "sink", "p"),
            node("en", "enrich", "processor", "q", "gpu <1> & co"),
            node("k2", "Postgres", "sink", "q"),
            node("ag", "aggregate", "processor", "r", "Müller → 漢字"),
            node("k3", "ParquetFiles", "sink", "r"),
            node("z", "KafkaTopic", "source", None, "zones"),
        ),
        tuple(
            Edge(start, end, label)
            for start, end, label in [
                ("s", "f", ""), ("f", "k", ""), ("f", "en", ""), ("en", "k2", ""), ("en", "ag", "by zone"),
                ("f", "ag", "raw & unread"), ("ag", "k3", ""), ("z", "ag", ""),
            ]
        ),
        (Group("p", "stage clean"), Group("q", "stage enrich" + ", a GPU" * 12), Group("r", "stage sums")),
    )  # fmt: skip


def diamond() -> Graph:
    pairs = ["ab", "bc", "bd", "ce", "de", "ae", "ef", "af", "gf"]
    edges = tuple(Edge(pair[0], pair[1], "truth" if pair == "ae" else "") for pair in pairs)
    return Graph("train", tuple(node(key, f"step {key}", "step") for key in "abcdefg"), edges)


def dense() -> Graph:
    """Return 5 columns of 6 nodes with edges over one, two and three columns, in 4 groups."""
    names = [(column, row) for column in range(5) for row in range(6)]
    nodes = tuple(node(f"{c}.{r}", f"node {c} {r}", "step", f"g{c}" if c < 4 else None, "x " * r) for c, r in names)
    edges = tuple(
        Edge(f"{c}.{r}", f"{c + hop}.{(r * 5 + hop) % 6}") for c, r in names for hop in (1, 2, 3) if c + hop < 5
    )
    return Graph("dense", nodes, edges, tuple(Group(f"g{c}", f"group {c}") for c in range(4)))


def run() -> Graph:
    """Return a node of each status, with long and strange errors."""
    error = "ValueError: item 17 <of> many & " + LONG * 3
    nodes = tuple(
        Node(status.value, f"step {status.value}", "step", "reads a table" * (n % 3), None, status, "", n / 3, n, error)
        for n, status in enumerate(Status)
    )
    many = Node(
        "m", "double × 5000", "step", "", None, Status.FAILED, "4998 succeeded, 2 failed", 75.0, 0, "E: " + LONG
    )
    edges = tuple(Edge(start.id, end.id) for start, end in combinations((*nodes, many), 2) if len(start.id) % 3)
    return Graph("run", (*nodes, many), edges)


GRAPHS = [fused(), staged(), diamond(), dense(), run(), Graph("empty", ()), Graph("one", (node("a", "a", "step"),))]
every_graph = pytest.mark.parametrize("graph", GRAPHS, ids=lambda graph: graph.name)


@every_graph
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_shows_every_label_and_is_the_same_each_time(graph: Graph, form: Format) -> None:
    text = render(graph, form)
    assert text == render(graph, form)
    shown = "".join(ElementTree.fromstring(text).itertext()) if form == "svg" else text
    entries: tuple[Node | Edge | Group, ...] = (*graph.nodes, *graph.edges, *graph.groups)
    for label in [entry.label for entry in entries]:
        assert label in shown or re.sub(r"[&<>]", lambda found: f"#{ord(found[0])};", label) in shown


def test_an_unknown_format_is_refused_with_the_known_ones() -> None:
    with pytest.raises(InvalidOption, match="text, mermaid, dot, svg"):
        render(fused(), "png")  # type: ignore[arg-type]


def test_text_is_a_tree_per_stage() -> None:
    assert render(fused(), "text") == (
        "flights\n"
        "\n"
        "stage punctuality\n"
        "  ○ CsvFiles                         'flights.csv'\n"
        "  └─▶ ● punctuality                  per record, reads carrier, dep_delay, arr_delay\n"
        f"      ├─▶ ◆ ParquetFiles             {LONG}\n"
        "      └─ errors ─▶ ◆ JsonLinesFiles  'errors/'\n"
    )


def test_text_refers_to_nodes_that_stand_elsewhere() -> None:
    assert re.search(r"raw & unread ─▶ ● aggregate +in stage sums\n", render(staged(), "text"))
    assert re.search(r"truth ─▶ ● step e +above\n", render(diamond(), "text"))


def test_a_chain_of_thousands_of_steps_is_drawn() -> None:
    names = [str(number) for number in range(3000)]
    edges = tuple(Edge(start, end) for start, end in pairwise(names))
    assert render(Graph("g", tuple(node(name, name, "step") for name in names), edges), "text").count("▶") == 2999


def test_mermaid_has_a_subgraph_per_stage_and_no_character_that_ends_a_label() -> None:
    text = render(staged(), "mermaid")
    assert text.startswith('---\ntitle: "a < b & \\"c\\""\n---\nflowchart LR\n')
    assert text.count("subgraph ") == text.count("\n  end\n") == 3
    assert "gpu #60;1#62; #38; co" in text


def test_dot_has_a_cluster_per_stage_and_escapes_quotes() -> None:
    text = render(staged(), "dot")
    assert text.startswith('digraph "a < b & \\"c\\"" {\n')
    assert text.count("subgraph cluster_") == 3
    assert '"en" -> "ag" [label="by zone"]' in text


Box = tuple[float, float, float, float]


def rectangles(document: ElementTree.Element) -> list[tuple[str, Box]]:
    """Return the boxes, frames and chips of a picture, each with its text; the background is no part."""
    found = []
    for group in document.iter(f"{SVG}g"):
        for rect in group.findall(f"{SVG}rect"):
            x, y, width, height = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            found.append((next(group.itertext()), (x, y, x + width, y + height)))
    return found


def overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def inside(one: Box, other: Box) -> bool:
    return one[0] >= other[0] and one[1] >= other[1] and one[2] <= other[2] and one[3] <= other[3]


@every_graph
def test_in_svg_nothing_overlaps_and_frames_hold_what_they_frame(graph: Graph) -> None:
    boxes = rectangles(ElementTree.fromstring(render(graph, "svg")))
    assert len(boxes) == len(graph.nodes) + len(graph.groups) + sum(bool(edge.label) for edge in graph.edges)
    chips = [box for text, box in boxes if text in [edge.label for edge in graph.edges]]
    for (_, one), (_, other) in combinations(boxes, 2):
        crosses_frame = one in chips or other in chips
        assert not overlap(one, other) or inside(one, other) or inside(other, one) or crosses_frame
    for (_, one), (_, other) in combinations(boxes[len(graph.groups) :], 2):
        assert not overlap(one, other)


def points_of(path: str) -> list[tuple[float, float]]:
    """Return points along a path of M, H and C commands."""
    points: list[tuple[float, float]] = []
    for command, text in re.findall(r"([MHC])([^MHC]*)", path):
        numbers = [float(number) for number in text.split()]
        if command == "H":
            x, y = points[-1]
            points += [(x + (numbers[0] - x) * step / 20, y) for step in range(1, 21)]
        elif command == "C":
            (x0, y0), (x1, y1, x2, y2, x3, y3) = points[-1], numbers
            for t in (step / 20 for step in range(1, 21)):
                a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3
                points.append((a * x0 + b * x1 + c * x2 + d * x3, a * y0 + b * y1 + c * y2 + d * y3))
        else:
            points.append((numbers[0], numbers[1]))
    return points


@every_graph
def test_in_svg_no_edge_crosses_a_box_that_it_does_not_join(graph: Graph) -> None:
    document = ElementTree.fromstring(render(graph, "svg"))
    labels = {entry.label.split("\n")[0] for entry in graph.nodes}
    boxes = [box for text, box in rectangles(document) if text.split("\n")[0] in labels]
    canvas = document.findall(f"{SVG}g")[0]
    routes = [path.attrib["d"] for path in canvas.findall(f"{SVG}path") if path.attrib["fill"] == "none"]
    assert len(routes) == len(graph.edges)
    for x, y in (point for route in routes for point in points_of(route)):
        assert not any(left + 1 < x < right - 1 and top + 1 < y < low - 1 for left, top, right, low in boxes)


@every_graph
def test_svg_lies_within_its_view_and_brings_its_own_background(graph: Graph) -> None:
    document = ElementTree.fromstring(render(graph, "svg"))
    _, _, width, height = (float(number) for number in document.attrib["viewBox"].split())
    background = document.findall(f"{SVG}rect")[0].attrib
    assert (float(background["width"]), float(background["height"])) == (width - 1, height - 1)
    assert background["fill"] == "#ffffff"
    for _, box in rectangles(document):
        assert inside(box, (0, 0, width - 48, height - 82))


def test_svg_has_nothing_that_touches_the_page_around_it() -> None:
    text = render(staged(), "svg")
    assert not re.search(r"<script|<style|\bid=|href|onload", text)


def test_svg_shortens_long_texts_in_the_middle_and_keeps_them_whole_in_the_tooltip() -> None:
    document = ElementTree.fromstring(render(fused(), "svg"))
    visible = [text.text or "" for text in document.iter(f"{SVG}text")]
    assert LONG not in visible
    assert any("…" in text and text.startswith("'s3://raw") and text.endswith("*.parquet'") for text in visible)
    assert f"ParquetFiles\n{LONG}" in [title.text for title in document.iter(f"{SVG}title")]


def test_svg_survives_characters_that_xml_cannot_hold() -> None:
    graph = Graph("bell \x07", (node("a", "null \x00 ]]> &amp;", "step", None, "\ud800"),))
    shown = "".join(ElementTree.fromstring(render(graph, "svg")).itertext())
    assert "null \ufffd ]]> &amp;" in shown
