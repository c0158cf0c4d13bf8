"""`raflow control`: look at a run that was started with `--control-port`, and end or resize it."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from http.client import HTTPException
from typing import Any

import click

from raflow.cli.outcome import FAILED
from raflow.runtime.run import CONTROL_TOKEN

_TIMEOUT_S = 30.0


@click.group()
def control() -> None:
    """Look at a run that has a control port, and end or resize it.

    The token that it printed, or was given, is expected in RAFLOW_CONTROL_TOKEN. Replies are printed as JSON.
    """


def _command(function: Callable[..., Any]) -> Any:
    port = click.option(
        "--port",
        metavar="PORT",
        type=click.IntRange(1, 65535),
        required=True,
        envvar="RAFLOW_CONTROL_PORT",
        help="The --control-port of the run; default: RAFLOW_CONTROL_PORT.",
    )
    return control.command()(port(function))


@_command
def status(port: int) -> None:
    """Print a summary."""
    _ask(port, "GET", "status")


@_command
def snapshot(port: int) -> None:
    """Print everything that is known of the run."""
    _ask(port, "GET", "snapshot")


@_command
@click.option(
    "--timeout-s",
    metavar="SECONDS",
    type=click.FloatRange(0),
    help="Stop what is not finished by then; default: the Flow's drain_timeout_s.",
)
def drain(port: int, timeout_s: float | None) -> None:
    """Start nothing new, finish what is under way, and end."""
    _ask(port, "POST", "drain", timeout_s=timeout_s)


@_command
def stop(port: int) -> None:
    """End now; what is not committed can be resumed."""
    _ask(port, "POST", "stop")


@_command
@click.argument("replicas", type=click.IntRange(1))
def scale(port: int, replicas: int) -> None:
    """Have so many HTTP replicas, within the bounds of their options."""
    _ask(port, "POST", "scale", replicas=replicas)


def _ask(port: int, method: str, route: str, **body: Any) -> None:
    """Send a request, print the reply, and exit with 1 if it is a refusal."""
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, Request, build_opener

    token = os.environ.get(CONTROL_TOKEN, "").strip()
    if not token:
        msg = f"{CONTROL_TOKEN} is not set; set it to the token that the run has printed, or was given"
        raise click.UsageError(msg)
    if not token.isascii():
        msg = f"{CONTROL_TOKEN} holds characters that no token has; set it to the token that the run has printed"
        raise click.UsageError(msg)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    data = json.dumps(body).encode() if body else None
    asked = Request(f"http://127.0.0.1:{port}/{route}", data, headers, method=method)
    try:
        with build_opener(ProxyHandler({})).open(asked, timeout=_TIMEOUT_S) as reply:
            click.echo(json.dumps(json.load(reply), indent=2, ensure_ascii=False))
    except HTTPError as error:
        click.echo(f"{error.code}: {_detail(error.read())}", err=True)
        sys.exit(FAILED)
    except (URLError, OSError, ValueError, HTTPException) as error:
        click.echo(f"no run answers at 127.0.0.1:{port}: {getattr(error, 'reason', error)}", err=True)
        sys.exit(FAILED)


def _detail(reply: bytes) -> str:
    """Return what a refusal says; what no run of ours has said, as it is."""
    try:
        return str(json.loads(reply)["detail"])
    except (ValueError, LookupError, TypeError):
        return reply.decode(errors="replace")
