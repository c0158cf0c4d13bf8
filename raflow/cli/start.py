"""`raflow start`: run a chain of actions from the command line."""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import click

from raflow.cli.outcome import FAILED, errors, stdout_for_the_result
from raflow.errors import FlowError, ResumeError
from raflow.observe.terminal import log_to_terminal

_KINDS = ("default", "memory", "file", "s3", "gcs")


@click.command()
@click.option("-s", "--step", metavar="MOD.ATTR", help="Run one action: pkg.mod.attr or pkg.mod:attr.")
@click.option("-w", "--workflow", "factory", metavar="MOD:FACTORY", help="Run the Workflow that a function returns.")
@click.option("-i", "--initial-context", metavar="JSON", help="What the action gets as initial_context.")
@click.option("-c", "--callback", metavar="MOD.ATTR", help="Called with task= after the action.")
@click.option(
    "-m",
    "--mode",
    type=click.Choice(["sequential", "background", "parallel"]),
    default="sequential",
    show_default=True,
    help="How the tasks run; the command waits for the end in each.",
)
@click.option("-o", "--storage", metavar="|".join((*_KINDS, "URL")), help="Where results are kept; default: in memory.")
@click.option(
    "-p",
    "--path",
    metavar="PATH_OR_URL",
    help="Folder of --storage file; s3://… or gs://… of s3 and gcs, else RAFLOW_STORAGE_BUCKET.",
)
@click.option("--resume", is_flag=True, help="Skip what has succeeded before; wants --workflow-id and a storage.")
@click.option("--workflow-id", metavar="ID", help="Any text, under which results are kept.")
@click.option(
    "--engine",
    type=click.Choice(["auto", "ray", "local"]),
    default="auto",
    show_default=True,
    help="Where tasks run.",
)
def start(  # noqa: PLR0913, PLR0917 - one per option
    step: str | None,
    factory: str | None,
    initial_context: str | None,
    callback: str | None,
    mode: str,
    storage: str | None,
    path: str | None,
    resume: bool,
    workflow_id: str | None,
    engine: str,
) -> None:
    """Run a workflow: one action (--step), or what a function returns (--workflow).

    The last task's result is printed as JSON; all else goes to standard error. Exits with 1 if a task has failed.
    """
    if (step is None) == (factory is None):
        msg = "give either --step or --workflow"
        raise click.UsageError(msg)
    given = {"--initial-context": initial_context, "--callback": callback, "--storage": storage, "--path": path}
    refused = [name for name, value in given.items() if value is not None] if factory else []
    if refused:
        msg = f"{', '.join(refused)}: only for --step; the function of --workflow says this itself"
        raise click.UsageError(msg)
    _see_folder()
    with errors(), stdout_for_the_result():
        log_to_terminal("INFO")
        if factory:
            workflow = _made(factory, workflow_id)
        else:
            workflow = _of_one_step(step, callback, initial_context, _storage(storage, path), workflow_id)
        # To wait for a run in the background is a sequential run, and that can be interrupted.
        run = _started(workflow, mode="sequential" if mode == "background" else mode, resume=resume, engine=engine)
        _report(run)
        if run.status != "Completed":
            sys.exit(FAILED)
        result = _result(run)
    click.echo(result)


def _see_folder() -> None:
    """Let import strings lead into the working folder."""
    here = str(Path.cwd())
    if sys.path[0] != here:
        sys.path.insert(0, here)


def _started(workflow: Any, **options: Any) -> Any:
    try:
        return workflow.start(**options)
    except ResumeError as error:
        if type(error) is not ResumeError:
            raise
        msg = f"{error}; on the command line: --storage file|s3|gcs|URL and --workflow-id"
        raise click.UsageError(msg) from None


def _made(factory: str, workflow_id: str | None) -> Any:
    from raflow.loading import made
    from raflow.workflows.chain import Workflow
    from raflow.workflows.chain.actions import as_action
    from raflow.workflows.chain.importing import load

    if workflow_id is not None:
        os.environ["WORKFLOW_ID"] = workflow_id
    found = load(factory)
    if as_action(found) is not None:
        msg = f"--workflow {factory} is an action; run it with --step {factory}"
        raise FlowError(msg)
    workflow = made(found, factory) if callable(found) else found
    if not isinstance(workflow, Workflow):
        msg = f"--workflow {factory} is a {type(workflow).__name__}, not a function that returns a Workflow"
        raise FlowError(msg)
    if workflow_id not in (None, workflow.workflow_id):
        msg = f"{factory} gives its workflow the id {workflow.workflow_id!r}; leave out --workflow-id, or say that id"
        raise FlowError(msg)
    return workflow


def _of_one_step(step: Any, callback: str | None, initial: str | None, storage: Any, workflow_id: str | None) -> Any:
    from raflow.workflows.chain import Config, Workflow

    workflow = Workflow(Config(storage=storage) if storage else None, workflow_id)
    more = {"callback": callback} if callback else {}
    workflow.task.add(step, initial_context=_parsed(initial), **more)
    return workflow


def _parsed(text: str | None) -> Any:
    if text is None:
        return None
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        msg = f"{text!r} is not JSON: {error}; a text needs its quotes: '\"World\"'"
        raise click.BadParameter(msg, param_hint="--initial-context") from None


def _storage(kind: str | None, path: str | None) -> Any:
    """Return the storage that the options mean; None for results in memory."""
    from raflow.providers import StorageFile, StorageGCS, StorageS3

    if kind in (None, "default", "memory"):
        if path is not None:
            msg = "--path wants a --storage that has a place: file, s3, gcs or a URL"
            raise click.UsageError(msg)
        return None
    if kind == "file":
        return StorageFile(path=path)
    if kind in ("s3", "gcs"):
        bucket, prefix = _bucket(kind, path)
        make: Any = StorageS3 if kind == "s3" else StorageGCS
        return make(bucket=bucket, **({"prefix": prefix} if prefix else {}))
    if "://" not in str(kind):
        msg = f"there is no storage {kind!r}; there are: {', '.join(_KINDS)} and URLs"
        raise click.BadParameter(msg, param_hint="--storage")
    if path is not None:
        msg = f"--storage {kind} is a place already; leave out --path"
        raise click.UsageError(msg)
    return StorageFile(path=kind)


def _bucket(kind: str, path: str | None) -> tuple[str, str]:
    """Return the bucket, and below it the prefix or nothing."""
    scheme = "s3" if kind == "s3" else "gs"
    place = path or os.environ.get("RAFLOW_STORAGE_BUCKET", "")
    if "://" in place and not place.startswith(f"{scheme}://"):
        msg = f"--storage {kind} wants --path {scheme}://…, not {place}"
        raise click.UsageError(msg)
    bucket, _, prefix = place.removeprefix(f"{scheme}://").partition("/")
    if not bucket:
        msg = f"--storage {kind} wants its bucket: --path {scheme}://bucket/prefix, or RAFLOW_STORAGE_BUCKET"
        raise click.UsageError(msg)
    return bucket, f"{prefix.rstrip('/')}/" if prefix.strip("/") else ""


def _report(run: Any) -> None:
    """Print why tasks have failed, and in one line what has become of all."""
    for task in run.tasks:
        if task.status == "Failed" and task.error is not None:
            click.echo(f"\n{task.task_id} failed:\n{task.error.traceback.rstrip()}\n", err=True)
    counts = ", ".join(f"{count} {status}" for status, count in Counter(task.status for task in run.tasks).items())
    click.echo(f"workflow {run.workflow_id}: {run.status} ({counts or 'no tasks'})", err=True)


def _result(run: Any) -> str:
    """Return the last task's result as JSON; what JSON does not know, as its `repr`."""
    last = run.tasks[-1].schema().model_dump(mode="json")["current_context"] if run.tasks else None
    return json.dumps(last, ensure_ascii=False)
