from __future__ import annotations

from itertools import pairwise
from xml.etree import ElementTree

import pytest

from raflow.graph import Edge, Graph, Node
from raflow.metrics import Status
from raflow.render import FORMATS, Format, render
from raflow.render.colours import ERROR, STATUS_COLOURS
from raflow.render.state import ERROR_CHARS, SIGNS, lines, words

SVG = "{http://www.w3.org/2000/svg}"
every_status = pytest.mark.parametrize("status", list(Status))


def graph(node: Node) -> Graph:
    return Graph("run", (node, Node("next", "next", "step", status=Status.PENDING)), (Edge(node.id, "next"),))


def failed(error: str = "ValueError: no such item") -> Node:
    return Node("a", "double", "step", status=Status.FAILED, duration_s=1.234, attempts=3, error=error)


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG defines it."""

    def light(colour: str) -> float:
        parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
        red, green, blue = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    lights = sorted((light(one), light(other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def test_a_node_without_a_status_says_its_detail_alone() -> None:
    assert lines(Node("a", "a", "source", "'orders.csv'")) == ["'orders.csv'"]
    assert lines(Node("a", "a", "step")) == []


@pytest.mark.parametrize(
    ("node", "said"),
    [
        (failed(), "failed · 1.2 s · 3 attempts"),
        (Node("a", "a", "step", status=Status.SUCCEEDED, duration_s=0.0001, attempts=1), "succeeded · < 0.01 s"),
        (Node("a", "a", "step", status=Status.TIMED_OUT, duration_s=75), "timed out · 1 min 15 s"),
        (Node("a", "a", "step", status=Status.FAILED, summary="3 succeeded, 1 failed"), "3 succeeded, 1 failed"),
        (Node("a", "a", "step", status=Status.PENDING), "pending"),
    ],
)
def test_a_state_is_a_word_how_long_it_took_and_how_often_it_was_tried(node: Node, said: str) -> None:
    assert words(node) == said


@every_status
@pytest.mark.parametrize("form", FORMATS)
def test_every_format_says_every_status_in_a_word(status: Status, form: Format) -> None:
    text = render(graph(Node("a", "double", "step", status=status)), form)
    assert status.value.replace("_", " ") in "".join(ElementTree.fromstring(text).itertext() if form == "svg" else text)


@every_status
@pytest.mark.parametrize("form", ["text", "mermaid", "dot"])
def test_formats_of_text_have_a_sign_for_every_status(status: Status, form: Format) -> None:
    assert SIGNS[status] in render(graph(Node("a", "double", "step", status=status)), form)


@every_status
def test_texts_stand_out_from_the_colour_of_their_status(status: Status) -> None:
    fill, _, text = STATUS_COLOURS[status]
    assert contrast(fill, text) >= 4.5
    assert contrast(fill, ERROR) >= 4.5


def test_text_has_state_and_error_in_one_line() -> None:
    assert render(graph(failed()), "text") == (
        "run\n\n  ● double    ✗ failed · 1.2 s · 3 attempts · ValueError: no such item\n  └─▶ ● next  ○ pending\n"
    )


def test_mermaid_and_dot_paint_what_failed_red() -> None:
    fill, line, text = STATUS_COLOURS[Status.FAILED]
    mermaid = render(graph(failed()), "mermaid")
    assert f"classDef failed fill:{fill},stroke:{line},color:{text}" in mermaid
    assert 'ValueError: no such item</small>"]):::failed' in mermaid
    assert f'fillcolor="{fill}" color="{line}" fontcolor="{text}"' in render(graph(failed()), "dot")


def test_svg_writes_errors_in_red_and_no_other_text() -> None:
    document = ElementTree.fromstring(render(graph(failed()), "svg"))
    red = [text.text for text in document.iter(f"{SVG}text") if text.attrib["fill"] == ERROR]
    assert red == ["ValueError: no such item"]


def test_svg_draws_what_has_not_run_with_dashes() -> None:
    document = ElementTree.fromstring(render(graph(failed()), "svg"))
    boxes = [group.find(f"{SVG}rect") for group in document.iter(f"{SVG}g") if group.find(f"{SVG}title") is not None]
    assert [box is not None and "stroke-dasharray" in box.attrib for box in boxes] == [False, True]


@pytest.mark.parametrize("form", ["text", "mermaid", "dot"])
def test_long_errors_are_cut_in_lines_of_text(form: Format) -> None:
    text = render(graph(failed("ValueError: " + "x" * 5000)), form)
    assert "x…x" in text
    assert text.count("x") < ERROR_CHARS + 10


def test_svg_cuts_long_errors_and_has_them_whole_in_the_tooltip() -> None:
    error = "ValueError: " + " ".join("word" for _ in range(200))
    document = ElementTree.fromstring(render(graph(failed(error)), "svg"))
    red = [text.text for text in document.iter(f"{SVG}text") if text.attrib["fill"] == ERROR]
    assert len(red) == 2
    assert any(title.text == f"double\nfailed · 1.2 s · 3 attempts\n{error}" for title in document.iter(f"{SVG}title"))


def test_the_text_of_a_long_chain_grows_with_its_length_only() -> None:
    names = [str(number) for number in range(5000)]
    edges = tuple(Edge(start, end) for start, end in pairwise(names))
    text = render(Graph("chain", tuple(Node(name, name, "step") for name in names), edges), "text")
    assert text.count("▶") == 4999
    assert max(map(len, text.splitlines())) < 130


def test_svg_does_not_part_a_number_from_its_unit() -> None:
    node = Node("a", "a", "step", status=Status.FAILED, summary="4998 succeeded, 2 failed", duration_s=75.0)
    shown = [text.text for text in ElementTree.fromstring(render(graph(node), "svg")).iter(f"{SVG}text")]
    assert "4998 succeeded, 2 failed ·" in shown
    assert "1 min 15 s" in shown
