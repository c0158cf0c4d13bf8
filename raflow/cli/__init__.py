"""The `raflow` command: each subcommand parses, calls, prints."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from raflow import __version__
from raflow.cli.control import control
from raflow.cli.outcome import INTERRUPTED, errors
from raflow.cli.start import start
from raflow.logs import quiet_drivers
from raflow.metrics import Status
from raflow.observe.terminal import log_to_terminal


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="raflow", message="%(prog)s %(version)s")
def main() -> None:
    """Move data through Python functions on Ray."""


@main.command()
@click.argument("target")
@click.option(
    "--engine",
    type=click.Choice(["auto", "ray", "local"]),
    default="auto",
    show_default=True,
    help="Where replicas run.",
)
@click.option("--address", metavar="ADDR", help="Ray cluster, host:port; default: RAY_ADDRESS, else a local Ray.")
@click.option(
    "--working-dir",
    metavar="DIR",
    type=click.Path(exists=True, file_okay=False),
    help="Folder sent to the cluster; default: the target's.",
)
@click.option(
    "--set",
    "settings",
    metavar="PROCESSOR.OPTION=VALUE",
    multiple=True,
    help="Set a processor's option; beats the code.",
)
@click.option(
    "--limit",
    metavar="N",
    type=click.IntRange(1),
    help="Dry run: process only the first N records of each source, write nothing, print the results.",
)
@click.option("--resume", metavar="RUN_ID|last", help="Do only the unfinished work of an earlier run.")
@click.option("--host", metavar="HOST", help="Where collectors and services answer; default: 127.0.0.1.")
@click.option("--port", metavar="PORT", type=click.IntRange(0, 65535), help="Default: 8000; 0: a free one.")
@click.option(
    "--control-port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    help="Answer `raflow control` at 127.0.0.1:PORT; 0: a free one.",
)
@click.option(
    "--reload",
    "reloads",
    is_flag=True,
    help="For development: start again when a Python file in the target's folder changes.",
)
@click.option("--quiet", is_flag=True, help="No progress and no summary.")
def run(
    target: str,
    settings: tuple[str, ...],
    limit: int | None,
    quiet: bool,
    working_dir: str | None,
    reloads: bool,
    **request: Any,
) -> None:
    """Run the Flow at TARGET: file.py, file.py:name or pkg.mod:name."""
    from raflow.launch import Request, start, watch
    from raflow.loading import folder_of, load

    if reloads:
        from raflow.cli.reload import reload

        with errors():
            reload(folder_of(target))
        return

    console = Console(stderr=True, quiet=quiet)
    with errors():
        loaded = load(target)
        log_to_terminal(loaded.flow.options.log_level, logging.getLogger())  # the process is ours, and so are its logs
        quiet_drivers()
        folder = working_dir or (str(loaded.folder) if loaded.folder else None)
        by_value = loaded.module if loaded.folder else None
        asked = Request(
            limit=limit,
            quiet=quiet,
            working_dir=folder,
            by_value=by_value,
            overrides=overrides(settings),
            **request,
        )
        started = start(loaded.flow, asked)
        watch(started, console, target)
        started.raise_error()
        _print_preview(started.preview())
    if started.status() is Status.CANCELLED:
        sys.exit(INTERRUPTED)


@main.command()
@click.argument("target")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "mermaid", "dot", "svg"]),
    default="text",
    show_default=True,
)
@click.option(
    "--output",
    metavar="F",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to a file instead of standard output.",
)
def graph(target: str, form: Any, output: Path | None) -> None:
    """Draw the fused plan of the Flow at TARGET, or the steps of the workflow at file.py:name or pkg.mod:name."""
    from raflow.drawing import graph_of
    from raflow.render import render

    with errors():
        text = render(graph_of(target), form)
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        output.write_text(text, encoding="utf-8")
    except OSError as error:
        raise click.FileError(str(output), error.strerror) from None


main.add_command(start)
main.add_command(control)


def overrides(settings: tuple[str, ...]) -> dict[str, dict[str, Any]]:
    """Return `--set` values by processor and option; a value is JSON where it can be, else text.

    Raises:
        click.BadParameter: One is not PROCESSOR.OPTION=VALUE.
    """
    import json

    found: dict[str, dict[str, Any]] = {}
    for setting in settings:
        path, equals, text = setting.partition("=")
        processor, dot, option = path.rpartition(".")
        if not (equals and dot and processor and option):
            msg = f"{setting!r} is not PROCESSOR.OPTION=VALUE"
            raise click.BadParameter(msg, param_hint="--set")
        try:
            value = json.loads(text)
        except json.JSONDecodeError:
            value = text
        found.setdefault(processor, {})[option] = value
    return found


def _print_preview(rows: list[dict[str, Any]]) -> None:
    import json

    for row in rows:
        click.echo(json.dumps(row, default=str, ensure_ascii=False))
