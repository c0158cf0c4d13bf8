"""The autoscaler in the simulation: python -m tests.benchmarks.scaling [PLOT.svg] [NAME].

Prints every scenario (or those whose name holds NAME) as a row: seconds that the best fixed sizes take and that it
took, from the moment when the first replica of each stage was ready; seconds until sizes were within a tenth of
the ideal, at the start and after each break; changes in all and after that. The plot has replicas and throughput
over time for some of them.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from tests.runtime.scaling.scenario import Result
from tests.runtime.scaling.scenarios import SCENARIOS

PLOTTED = (
    "robber, 2 stages",
    "robber, 4 stages, slow one moves",
    "node lost and back",
    "noise: heavy tail",
    "GPU stage between CPU stages",
    "stream: starves, to zero and back",
)
WIDTH, HEIGHT, GAP, COLUMNS = 420, 150, 56, 2
COLOURS = ("#3366aa", "#cc6633", "#339966", "#9955aa")


def table(results: Iterable[Result]) -> list[str]:
    """Return the results as lines of text."""
    lines = [
        f"{'scenario':34} {'ideal s':>8} {'took s':>8} {'share':>6}  {'to converge s':24} {'changes':>8} {'late':>5}"
    ]
    for result in results:
        settled = ", ".join(f"{result.converged_s(phase):.1f}" for phase in result.phases) or "-"
        lines.append(
            f"{result.scenario.name:34} {result.ideal_s:8.1f} {result.took_s:8.1f} {result.share:6.1%}  "
            f"{settled if result.scenario.converge_s else '-':24} {len(result.simulation.changes):8} "
            f"{len(result.late_changes):5}"
        )
    return lines


def plot(results: Sequence[Result]) -> str:
    """Return an SVG: for each result, replicas of each stage over time, and throughput against the ideal."""
    rows = -(-len(results) // COLUMNS)
    wide, high = COLUMNS * (WIDTH + GAP) + GAP, rows * (2 * HEIGHT + 2 * GAP) + GAP
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}" '
        'font-family="sans-serif" font-size="11">',
        f'<rect width="{wide}" height="{high}" fill="white"/>',
    ]
    for index, result in enumerate(results):
        left = GAP + index % COLUMNS * (WIDTH + GAP)
        top = GAP + index // COLUMNS * (2 * HEIGHT + 2 * GAP)
        parts += _replicas(result, left, top)
        parts += _throughput(result, left, top + HEIGHT + GAP // 2)
    return "\n".join([*parts, "</svg>"])


def _replicas(result: Result, left: int, top: int) -> list[str]:
    moments, stages = result.simulation.moments, result.scenario.stages
    most = max(max(moment.ready.values()) for moment in moments)
    lines = {stage.name: [(one.now_s, float(one.ready[stage.name])) for one in moments] for stage in stages}
    title = f'<text x="{left}" y="{top - 22}" font-size="13" font-weight="bold">{result.scenario.name}</text>'
    return [title, *_chart("replicas ready", lines, most, left, top)]


def _throughput(result: Result, left: int, top: int) -> list[str]:
    """Units that leave the last stage, over two seconds, and what the best sizes could do."""
    moments, last = result.simulation.moments, result.scenario.stages[-1].name
    total = result.simulation.done[last]
    done = [
        (new.now_s, (new.done[last] - old.done[last]) / (new.now_s - old.now_s))
        for old, new in zip(moments, moments[4:], strict=False)
    ]
    ideal = [(moment.now_s, result.speed_at(moment.now_s) * total) for moment in moments]
    lines = {"done a second": done} if result.scenario.endless_s else {"ideal": ideal, "done a second": done}
    most = max(value for points in lines.values() for _, value in points)
    return _chart("throughput over 2 s", lines, most, left, top)


def _chart(
    name: str, lines: dict[str, list[tuple[float, float]]], most: float, left: int, top: int, below: float = 1.05
) -> list[str]:
    ends = max(points[-1][0] for points in lines.values())
    x, y = WIDTH / ends, HEIGHT / (most * below)
    parts = [
        f'<path d="M{left},{top} v{HEIGHT} h{WIDTH}" fill="none" stroke="#888"/>',
        f'<text x="{left - 4}" y="{top + HEIGHT - most * y + 4:.0f}" text-anchor="end">{most:.0f}</text>',
        f'<text x="{left + WIDTH}" y="{top + HEIGHT + 13}" text-anchor="end">{ends:.0f} s</text>',
        f'<text x="{left}" y="{top - 6}" fill="#555">{name}</text>',
    ]
    for index, (label, points) in enumerate(lines.items()):
        path = [f"{left + now_s * x:.1f},{top + HEIGHT - value * y:.1f}" for now_s, value in points]
        steps = [f"H{one.split(',')[0]} V{one.split(',')[1]}" for one in path[1:]]
        colour = "#bbb" if label == "ideal" else COLOURS[index % len(COLOURS)]
        parts.append(f'<path d="M{path[0]} {" ".join(steps)}" fill="none" stroke="{colour}" stroke-width="1.6"/>')
        parts.append(f'<text x="{left + 130 + 70 * index}" y="{top - 6}" fill="{colour}">{label}</text>')
    return parts


def main(path: str = "scaling.svg", part: str = "") -> None:
    results = [scenario.run() for scenario in SCENARIOS if part in scenario.name]
    print("\n".join(table(results)))
    shown = [one for one in results if part or one.scenario.name in PLOTTED]
    Path(path).write_text(plot(shown), encoding="utf-8")
    print(f"\nplot: {path}")


if __name__ == "__main__":
    main(*sys.argv[1:])
