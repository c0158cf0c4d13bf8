"""What a run prints when it ends: the table of its stages, or the error that ended it.

Print both with `show`: where there is no terminal it lets lines be as long as they are, so that no number
and no path is cut.
"""

from __future__ import annotations

import traceback
from collections.abc import Sequence

from rich import box
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from raflow.errors import ImportModuleError, RaflowError, RunFailed, TargetError
from raflow.metrics import HttpStats, RunStats, StageStats, Status
from raflow.runtime.failure import explain
from raflow.units import count, duration, plural, rate, size

_STYLES = {Status.SUCCEEDED: "bold green", Status.FAILED: "bold red", Status.TIMED_OUT: "bold red"}
_UNBOUNDED = 1_000_000


def summary(stats: RunStats, target: str = "TARGET") -> RenderableType:
    """Return the table of a run's stages, and below it the run, its outputs, notes and how to resume it.

    Args:
        stats: The run's last stats.
        target: What the command line was given; goes into the line that says how to resume.
    """
    table: list[RenderableType] = [_Stages(stats), Text()] if stats.stages else []
    return Group(*table, _facts(stats, target))


def failure(error: RaflowError) -> RenderableType:
    """Return the user's traceback, if there is one, then where it happened, then the message."""
    place = ", ".join(f"{what} {value}" for what, value in _place(error) if value is not None)
    trace = _traceback(error)
    parts: list[RenderableType] = [_Traceback(trace), Text()] if trace else []
    parts += [Text(place, style="bold")] if place else []
    return Group(*parts, Text(str(error), style="bold red"))


def _place(error: RaflowError) -> list[tuple[str, str | None]]:
    if not isinstance(error, RunFailed):
        return []
    return [("processor", error.processor), ("replica", error.replica), ("split", error.split)]


def _traceback(error: RaflowError) -> str:
    """Return the traceback of user code: what failed in a run, or while a target was imported."""
    if isinstance(error, RunFailed):
        return error.traceback.rstrip()
    if isinstance(error, TargetError) and error.__cause__ and not isinstance(error.__cause__, RaflowError):
        return "".join(traceback.format_exception(error.__cause__)).rstrip()
    if isinstance(error, ImportModuleError) and error.__cause__:
        return explain(error.__cause__, "").traceback.rstrip()
    return ""


def show(console: Console, renderable: RenderableType) -> None:
    """Print a summary or failure as it fits where the console leads."""
    console.print(renderable, soft_wrap=not _is_screen(console), markup=False, highlight=False)


def _is_screen(console: Console) -> bool:
    return console.is_terminal or console.is_jupyter


class _Stages:
    """The table of the stages: a line for each, or a column for each where lines would not fit."""

    def __init__(self, stats: RunStats) -> None:
        self._measures = measures(stats)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not _is_screen(console):
            yield from console.render(_lines(self._measures, None), options.update(max_width=_UNBOUNDED))
            return
        table = _lines(self._measures, box.SIMPLE_HEAD)
        yield from [table] if _fits(table, console, options) else self._turned(console, options)

    def _turned(self, console: Console, options: ConsoleOptions) -> list[Table]:
        """Return tables with as many stages side by side as fit, at least one."""
        for per_table in range(len(self._measures), 0, -1):
            starts = range(0, len(self._measures), per_table)
            tables = [_columns(self._measures[start : start + per_table]) for start in starts]
            if all(_fits(table, console, options) for table in tables):
                break
        return tables


def _fits(table: Table, console: Console, options: ConsoleOptions) -> bool:
    wide = options.update(max_width=_UNBOUNDED)
    return Measurement.get(console, wide, table).maximum <= options.max_width


def measures(stats: RunStats) -> list[dict[str, str]]:
    """Return what is told of each stage, by the same headings for all."""
    told = [_measures(stage, stats) for stage in stats.stages]
    empty = [name for name in (told[0] if told else {}) if not any(stage[name] for stage in told)]
    return [{name: text for name, text in stage.items() if name not in empty} for stage in told]


def _measures(stage: StageStats, stats: RunStats) -> dict[str, str]:
    counts = stage.counts
    per_s = counts.rows_in / stats.elapsed_s if stats.elapsed_s > 0 else None
    return {
        "stage": stage.name,
        "status": "" if stats.status is Status.SUCCEEDED else stage.status.value,
        "rows in": count(counts.rows_in),
        "rows out": count(counts.rows_out),
        "skipped": count(counts.skipped) if counts.skipped else "",
        "dead letters": count(counts.dead_letters) if counts.dead_letters else "",
        "rows/s": rate(per_s),
        "splits": f"{stage.units_done:,}" + (f" of {stage.units_total:,}" if stage.backlog else ""),
        "busy": duration(counts.busy_s),
        "read": size(counts.bytes_in),
        "written": size(counts.bytes_out),
        "replicas": _replicas(stage),
    }


def answered(http: HttpStats) -> str:
    """Return where HTTP is answered, and what has been."""
    words = [plural(http.total, "request"), *([f"{http.ongoing:,} ongoing"] if http.ongoing else [])]
    words += [plural(http.websockets, "websocket")] if http.websockets else []
    words += [] if http.status.is_final else [plural(http.replicas, "replica")]
    words += [f"{http.replicas_lost} lost and replaced"] if http.replicas_lost else []
    words += [f"{http.cut} cut at the deadline"] if http.cut else []
    return f"{http.url}: {', '.join(words)}"


def _replicas(stage: StageStats) -> str:
    """Return how many there are and were lost; nothing once they have all been stopped."""
    alive = [str(stage.replicas)] if stage.replicas or not stage.status.is_final else []
    lost = [f"{stage.replicas_lost} lost"] if stage.replicas_lost else []
    return " + ".join([*alive, *lost])


def _lines(stages: Sequence[dict[str, str]], frame: box.Box | None) -> Table:
    """Return a table with a line per stage."""
    table = Table(box=frame, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    for name in stages[0] if stages else ():
        is_text = name in ("stage", "status")
        table.add_column(name, justify="left" if is_text else "right", no_wrap=True)
    for stage in stages:
        table.add_row(*(Text(value) for value in stage.values()))
    return table


def _columns(stages: Sequence[dict[str, str]]) -> Table:
    """Return a table with a column per stage."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", show_edge=False)
    table.add_column("stage", style="dim", no_wrap=True)
    for stage in stages:
        table.add_column(Text(stage["stage"]), justify="right", overflow="fold")
    for name in list(stages[0])[1:]:
        table.add_row(name, *(Text(stage[name]) for stage in stages))
    return table


def _facts(stats: RunStats, target: str) -> RenderableType:
    """Return the lines about the run as a whole."""
    head = Text.assemble(
        (stats.status.value, _STYLES.get(stats.status, "bold yellow")), f" in {duration(stats.elapsed_s)}"
    )
    head.append(f" on the {stats.engine} engine, after {duration(stats.start_up_s)} of start-up")
    facts = [("http", answered(stats.http))] if stats.http else []
    facts += [("run", stats.run_id), *(("output", line) for line in stats.outputs)]
    facts += [("note", line) for line in stats.notes]
    if stats.resumable and stats.status is not Status.SUCCEEDED and any(stage.backlog for stage in stats.stages):
        facts.append(("resume", f"raflow run {target} --resume {stats.run_id}"))
    return Group(head, *(_Fact(*fact) for fact in facts))


class _Fact:
    """A name and a text, which is folded under itself on a screen and never elsewhere."""

    def __init__(self, name: str, text: str) -> None:
        self._name, self._text = name, text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not _is_screen(console):
            yield Text(f"{self._name:8}{self._text}")
            return
        grid = Table.grid(padding=0)
        grid.add_column(style="dim", width=8)
        grid.add_column(overflow="fold")
        grid.add_row(self._name, Text(self._text))
        yield grid


class _Traceback:
    """A traceback: with colours on a screen, as it is elsewhere."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if console.is_terminal and not console.no_color:
            yield Syntax(self._text, "pytb", background_color="default", word_wrap=True)
        else:
            yield Text(self._text)
