from __future__ import annotations

import threading
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from typing import Any

import pytest

from raflow.engines.threads import ThreadWorkers
from raflow.errors import FlowError
from raflow.graph import Graph, Node
from raflow.metrics import Status
from raflow.options import StepOptions
from raflow.runtime.steps.driver import StepDriver
from raflow.runtime.steps.events import StepEvent
from raflow.runtime.steps.picture import ERROR_CHARS, FOLD, picture
from raflow.runtime.steps.step import Step


def run(steps: Iterable[Step], **options: Any) -> None:
    workers = ThreadWorkers(8)
    driver = StepDriver(workers, **options)
    for step in steps:
        driver.add(step)
    driver.run()
    workers.close()


def add(*numbers: Any) -> int:
    return len(numbers)


def double(number: int) -> int:
    if number in (17, 40):
        msg = f"{number} is odd\nin two lines"
        raise ValueError(msg)
    return 2 * number


def fail(text: str) -> None:
    raise RuntimeError(text)


class Mute(Exception):
    def __str__(self) -> str:
        raise TypeError


def raise_mute() -> None:
    raise Mute


def pairs(graph: Graph) -> set[tuple[str, str]]:
    return {(edge.start, edge.end) for edge in graph.edges}


def by_label(graph: Graph) -> dict[str, Node]:
    return {node.label: node for node in graph.nodes}


def fan(number: int) -> list[Step]:
    load = Step("load", add)
    items = [Step("double", double, (n,), after=(load,), id=f"double_{n}") for n in range(number)]
    return [load, *items, Step("join", add, (items,))]


def test_before_a_run_all_steps_are_pending_and_edges_come_from_arguments_and_after() -> None:
    load, other = Step("load", add), Step("other", add)
    items = Step("items", add, ({"deep": [(load,)]},), expands=True)
    last = Step("last", add, (), {"key": items}, after=(other, load))
    graph = picture([load, other, items, last], "my run")
    assert graph.name == "my run"
    assert {node.status for node in graph.nodes} == {Status.PENDING}
    assert {(node.duration_s, node.attempts, node.error) for node in graph.nodes} == {(None, 0, "")}
    assert pairs(graph) == {("load", "items"), ("items", "last"), ("other", "last"), ("load", "last")}


def test_after_a_run_nodes_tell_durations_attempts_and_errors() -> None:
    tries: list[int] = []

    def flaky() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise OSError
        return 1

    again = Step("again", flaky, options=StepOptions(retry=3, retry_delay=0))
    bad = Step("bad", fail, ("no\n  such   table",), after=(again,))
    late = Step("late", add, (bad,))
    run([again, bad, late])
    nodes = by_label(picture([again, bad, late]))
    assert (nodes["again"].status, nodes["again"].attempts, nodes["again"].error) == (Status.SUCCEEDED, 3, "")
    assert again.started_at is not None
    assert again.finished_at is not None
    assert nodes["again"].duration_s == (again.finished_at - again.started_at).total_seconds()
    assert (nodes["bad"].status, nodes["bad"].error) == (Status.FAILED, "RuntimeError: no such table")
    assert (nodes["late"].status, nodes["late"].duration_s) == (Status.CANCELLED, None)
    assert nodes["late"].error == "", "the error is that of another step, and shown there"


def test_during_a_run_the_time_of_a_running_step_goes_on() -> None:
    began, go = threading.Event(), threading.Event()
    first = Step("wait", lambda: go.wait(20))
    steps = [first, Step("after", add, (first,))]

    def observe(event: StepEvent) -> None:
        if event.status is Status.RUNNING:
            began.set()

    thread = threading.Thread(target=run, args=(steps,), kwargs={"observers": [observe]})
    thread.start()
    assert began.wait(20)
    one, two = (picture(steps).by_id["wait"] for _ in range(2))
    go.set()
    thread.join(20)
    assert (one.status, one.attempts) == (Status.RUNNING, 1)
    assert one.duration_s is not None
    assert two.duration_s is not None
    assert 0 <= one.duration_s < two.duration_s
    assert picture(steps).by_id["after"].status is Status.SUCCEEDED


def test_clocks_that_differ_make_no_time_less_than_none() -> None:
    step = Step("a", add)
    step.status, step.started_at = Status.SUCCEEDED, datetime(2024, 1, 1, 12, 0, 1, tzinfo=timezone.utc)
    step.finished_at = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
    assert picture([step]).by_id["a"].duration_s == 0


def test_few_steps_of_one_name_are_drawn_each_for_itself() -> None:
    labels = [node.label for node in picture(fan(FOLD)).nodes]
    assert labels == ["load", *(f"double_{n}" for n in range(FOLD)), "join"]


def test_many_steps_of_one_name_are_one_node_with_their_numbers_and_the_first_error() -> None:
    steps = fan(60)
    run(steps)
    graph = picture(steps)
    node = by_label(graph)["double × 60"]
    first = min((step for step in steps if step.status is Status.FAILED), key=lambda step: step.order)
    assert len(graph.nodes) == 3
    assert pairs(graph) == {("load", node.id), (node.id, "join")}
    assert (node.status, node.summary) == (Status.FAILED, "58 succeeded, 2 failed")
    assert node.error == f"{first.id}: ValueError: {first.args[0]} is odd in two lines"
    assert "double × 60" in graph.to_text()
    assert "58 succeeded, 2 failed" in graph.to_svg()


def test_a_fan_out_that_goes_on_says_how_far_it_is() -> None:
    steps = fan(60)
    seen: list[Graph] = []

    def on_end(step: Step) -> None:
        if step.id == "double_10":
            seen.append(picture(steps))

    run(steps, on_end=on_end, max_concurrency=1)
    node = by_label(seen[0])["double × 60"]
    assert (node.status, node.summary) == (Status.RUNNING, "11 succeeded, 49 pending")


def test_retries_of_many_steps_are_counted() -> None:
    tries: list[int] = []

    def once(number: int) -> int:
        tries.append(number)
        if number == 3 and tries.count(3) == 1:
            raise OSError
        return number

    options = StepOptions(retry=2, retry_delay=0)
    steps = [Step("once", once, (n,), options=options, id=f"once_{n}") for n in range(20)]
    run(steps)
    (node,) = picture(steps).nodes
    assert (node.status, node.summary, node.error) == (Status.SUCCEEDED, "20 succeeded, 1 further attempt", "")


def test_steps_of_two_names_that_take_turns_fold_without_a_circle() -> None:
    steps: list[Step] = []
    before: list[Step] = []
    for turn in range(4):
        for name in ("train", "score"):
            before = [Step(name, add, (before[-1:],), id=f"{name}_{turn}_{n}") for n in range(20)]
            steps += before
    graph = picture(steps)
    assert [node.label for node in graph.nodes] == ["train × 20", "score × 20"] * 4
    assert len(graph.edges) == 7


def test_steps_that_are_needed_and_not_drawn_are_left_out() -> None:
    outside = Step("outside", add)
    assert picture([Step("inside", add, (outside,), after=(outside,))]).edges == ()


def test_steps_in_a_circle_are_named() -> None:
    one, two = Step("one", add), Step("two", add)
    one.args, two.args = (two,), (one,)
    with pytest.raises(FlowError, match="cycle: .*(one → two|two → one)"):
        picture([one, two])


def test_long_error_texts_are_cut_and_errors_without_a_text_are_named() -> None:
    steps = [Step("long", fail, ("x" * 10_000,)), Step("mute", raise_mute)]
    run(steps)
    nodes = by_label(picture(steps))
    assert len(nodes["long"].error) == ERROR_CHARS
    assert nodes["mute"].error == "Mute"


def test_a_step_with_arguments_that_cannot_travel_is_drawn() -> None:
    first = Step("first", add)
    steps = [first, Step("bad", add, ((n for n in range(3)),), after=(first,))]
    run(steps)
    graph = picture(steps)
    assert pairs(graph) == {("first", "bad")}
    assert graph.by_id["bad"].status is Status.FAILED
    assert graph.by_id["bad"].error.startswith("NotSerializable: ")


@pytest.mark.parametrize("shape", ["fan", "chain"])
def test_thousands_of_steps_are_drawn_within_seconds(shape: str) -> None:
    steps = fan(5000)
    if shape == "chain":
        steps = [Step("link", add, id="link_0")]
        for number in range(1, 5000):
            steps.append(Step("link", add, (steps[-1],), id=f"link_{number}"))
    began = time.monotonic()
    drawn = [len(getattr(picture(steps), f"to_{form}")()) for form in ("text", "mermaid", "dot", "svg")]
    assert time.monotonic() - began < 10
    assert min(drawn) > 0
