"""What a run has called, as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property

from raflow.graph import Graph
from raflow.runtime.steps.picture import picture
from raflow.runtime.steps.step import Step


class Trace:
    """The calls of a run and how they depend on each other.

    Notebooks show it as a picture. Drawing needs no browser, network or other program.

    Args:
        name: Of the workflow.
        steps: Its calls and those of its sub-workflows in the order in which they were made, without values;
            each is `after` those whose results it got, and after the sub-workflow that has made it.
    """

    def __init__(self, name: str, steps: Sequence[Step]) -> None:
        self.name = name
        self.steps = tuple(steps)

    @cached_property
    def graph(self) -> Graph:
        """The picture, with statuses, durations, attempts and errors."""
        return picture(self.steps, self.name)

    def to_dot(self) -> str:
        """Return it in Graphviz' language."""
        return self.graph.to_dot()

    def to_mermaid(self) -> str:
        """Return it in Mermaid's language."""
        return self.graph.to_mermaid()

    def to_svg(self) -> str:
        """Return it as an SVG picture."""
        return self.graph.to_svg()

    def _repr_html_(self) -> str:
        return self.to_svg()


def shadow(step: Step, needs: Iterable[Step]) -> Step:
    """Return a step for the trace, which keeps no values alive, after the shadows of what it needs."""
    return Step(step.name, step.function, id=step.id, after=tuple(dict.fromkeys(needs)))


def follow(trace: Step, step: Step) -> None:
    """Let a shadow take over what has become of its step."""
    trace.status, trace.attempts, trace.order = step.status, step.attempts, step.order
    trace.failures = step.failures
    trace.finished_at = step.finished_at
    if step.started_at and step.finished_at:
        trace.started_at = min(step.started_at, step.finished_at)  # two threads have looked at the clock
