"""What a run has called, as a picture."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from raflow.graph import Edge, Graph, Node
from raflow.metrics import Status
from raflow.render import Format, render
from raflow.runtime.steps.step import Step


@dataclass
class Row:
    """One call, without its values."""

    id: str
    kind: str
    """`task` or `workflow`."""
    needs: tuple[str, ...]
    """Ids of the calls whose results were its arguments; for one in a sub-workflow that sub-workflow's too."""
    status: Status = Status.PENDING
    attempts: int = 0
    seconds: float | None = None
    """From the start of its first attempt to the end of its last."""
    error: str = ""
    """Type and text of its last failure."""

    def end(self, step: Step) -> None:
        """Take over what became of the step."""
        self.status, self.attempts = step.status, step.attempts
        if step.started_at and step.finished_at:
            self.seconds = max(0.0, (step.finished_at - step.started_at).total_seconds())
        if step.failures and step.status is not Status.SUCCEEDED:
            error = step.failures[-1].error
            self.error = f"{type(error).__name__}: {error}"

    @property
    def detail(self) -> str:
        """The second line of its box."""
        parts = ["" if self.kind == "task" else self.kind, self.status.value]
        parts.append("" if self.seconds is None else f"{self.seconds:.3g} s")
        parts.append(f"{self.attempts} attempts" if self.attempts > 1 else "")
        parts.append(self.error if self.status in (Status.FAILED, Status.TIMED_OUT) else "")
        return ", ".join(part for part in parts if part)


def row(step: Step, needs: Iterable[str]) -> Row:
    """Return the row of a call that was just made."""
    return Row(step.id, "workflow" if step.host else "task", tuple(dict.fromkeys(needs)))


class Trace:
    """The calls of a run and how they depend on each other, in the order in which they were made.

    Notebooks show it as a picture. Drawing needs no browser, network or other program.

    Args:
        name: Of the workflow.
        rows: Its calls and those of its sub-workflows.
    """

    def __init__(self, name: str, rows: Sequence[Row]) -> None:
        self.name = name
        self.rows = tuple(rows)

    @cached_property
    def graph(self) -> Graph:
        """The picture: an arrow leads from each call to those that use its result, or that it has made."""
        known = {row.id for row in self.rows}
        nodes = tuple(Node(row.id, row.id, "step", row.detail) for row in self.rows)
        edges = tuple(Edge(need, row.id) for row in self.rows for need in row.needs if need in known)
        return Graph(self.name, nodes, edges)

    def to_dot(self) -> str:
        """Return it in Graphviz' language."""
        return self._drawn("dot")

    def to_mermaid(self) -> str:
        """Return it in Mermaid's language."""
        return self._drawn("mermaid")

    def to_svg(self) -> str:
        """Return it as an SVG picture."""
        return self._drawn("svg")

    def _repr_html_(self) -> str:
        return self.to_svg()

    def _drawn(self, form: Format) -> str:
        return render(self.graph, form)
