"""A running Flow, from outside of its process: HTTP on a loopback port of its own, for those who have a token.

The client is `raflow control`, see `raflow/cli/control.py`.
"""

from __future__ import annotations

import logging
import os
import secrets
import sys
import threading
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from raflow.errors import InvalidOption
from raflow.http.reply import refuse
from raflow.http.security import among, bearer_token, digest_of
from raflow.options import ConnectionOptions
from raflow.runtime.run import CONTROL_TOKEN, Access, Run
from raflow.runtime.serving.address import Address, bind, unbind
from raflow.runtime.serving.replica import ServingReplica

_LAST_WORDS_S = 1.0
"""For what is under way when the run has ended."""

log = logging.getLogger("raflow")


class Control:
    """The control routes of one run, which hold their port from here to `close`.

    Args:
        port: Of 127.0.0.1; 0: a free one.

    Raises:
        InvalidOption: There is no such port, or the token is empty.
        CannotListen: The port is in use.
    """

    def __init__(self, port: int) -> None:
        if not 0 <= port < 1 << 16:
            msg = f"control_port is {port!r}; it can be 0 (a free one) to 65535"
            raise InvalidOption(msg)
        given = os.environ.get(CONTROL_TOKEN)
        if given is not None and not given.strip():
            msg = f"{CONTROL_TOKEN} is empty; give a token, or unset it to have one made"
            raise InvalidOption(msg)
        self._is_made = given is None
        self._listening, self._address = bind(Address(port=port))
        self.access = Access(self._address.url(), given.strip() if given else secrets.token_urlsafe(24))
        self._replica: ServingReplica | None = None

    def take(self) -> Any:
        """Return a copy of the listening socket."""
        return self._listening.dup()

    def serve(self, run: Run) -> None:
        """Answer for a run until it has ended."""
        self._replica = ServingReplica(
            lambda: application(run, self.access.token), ConnectionOptions(), None, "control"
        )
        failure = self._replica.setup(self)
        assert failure is None, failure
        run.control = self.access
        threading.Thread(target=self._until_ended, args=(run,), name="raflow control", daemon=True).start()
        if self._is_made:  # not logged: logs are kept, and hide what looks like a secret
            print(f"control: {self.access.url}, {CONTROL_TOKEN}={self.access.token}", file=sys.stderr, flush=True)
        else:
            log.info("run %s is controlled at %s", run.id, self.access.url)

    def close(self) -> None:
        """Answer what is under way, and free the port."""
        unbind(self._listening, self._address)
        if self._replica is not None:
            self._replica.drain(0.0, _LAST_WORDS_S)

    def _until_ended(self, run: Run) -> None:
        run.settled()
        self.close()


def application(run: Run, token: str) -> FastAPI:
    """Return the routes: `GET /status` and `/snapshot`, `POST /drain`, `/stop` and `/scale`.

    Args:
        run: What they are about.
        token: Requests without `Authorization: Bearer TOKEN` get 401.
    """
    routes = _Routes(run)
    app = FastAPI(title="raflow control", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(_Guard, token=token)
    app.get("/status")(routes.status)
    app.get("/snapshot")(routes.snapshot)
    app.post("/drain", status_code=202)(routes.drain)
    app.post("/stop", status_code=202)(routes.stop)
    app.post("/scale", status_code=202)(routes.scale)
    return app


class _Guard:
    """Lets nobody in without the token. A pure ASGI middleware."""

    def __init__(self, app: ASGIApp, token: str) -> None:
        self.app = app
        self._digest = digest_of(token)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not among(bearer_token(HTTPConnection(scope)), [self._digest]):
            detail = f"not authenticated: send Authorization: Bearer with the token of the run ({CONTROL_TOKEN})"
            await refuse(scope, receive, send, 401, detail, {"WWW-Authenticate": "Bearer"})
        else:
            await self.app(scope, receive, send)


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Drain(_Body):
    """What `POST /drain` takes; the body may be left out."""

    timeout_s: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """Stop what is not finished by then; None: the Flow's `drain_timeout_s`."""


class Scale(_Body):
    """What `POST /scale` takes."""

    replicas: int = Field(ge=1)
    """HTTP replicas, within the bounds of their options."""


class _Routes:
    def __init__(self, run: Run) -> None:
        self._run = run

    async def status(self) -> Any:
        stats, run = self._run.stats(), self._run
        named = {"run_id": run.id, "flow_id": stats.flow_id, "engine": stats.engine, "status": stats.status}
        stages = [
            {
                "name": one.name, "status": one.status, "replicas": one.replicas, "units_done": one.units_done,
                "units_total": one.units_total, "rows_in": one.counts.rows_in, "rows_out": one.counts.rows_out,
            }
            for one in stats.stages
        ]  # fmt: skip
        http = stats.http and {
            name: getattr(stats.http, name) for name in ("url", "replicas", "starting", "leaving", "ongoing", "total")
        }
        return {**named, "ending": run.ending, "elapsed_s": round(stats.elapsed_s, 1), "stages": stages, "http": http}

    async def snapshot(self) -> Any:
        return self._run.stats()

    async def drain(self, asked: Drain | None = None) -> Response:
        self._check_goes_on("stop")

        async def drain() -> None:
            self._run.drain(asked.timeout_s if asked else None)

        return self._accepted(BackgroundTask(drain), ending="drain")

    async def stop(self) -> Response:
        self._check_goes_on()

        async def stop() -> None:
            self._run.stop()

        return self._accepted(BackgroundTask(stop), ending="stop")

    async def scale(self, asked: Scale) -> Response:
        self._check_goes_on("drain", "stop")
        http = self._run.stats().http
        if http is None:
            raise HTTPException(409, f"run {self._run.id} answers no HTTP: its pools are sized by their options")
        if not http.min_replicas <= asked.replicas <= http.max_replicas:
            bounds = f"{http.min_replicas} to {http.max_replicas} (min_replicas and max_replicas of what it serves)"
            raise HTTPException(422, f"replicas is {asked.replicas}; run {self._run.id} may have {bounds}")
        self._run.scale(asked.replicas)
        return self._accepted(None, replicas=asked.replicas)

    def _accepted(self, then: BackgroundTask | None, **said: Any) -> Response:
        """Return a reply, and what is done once it is sent: the process may end soon after."""
        return JSONResponse({"run_id": self._run.id, **said}, 202, background=then)

    def _check_goes_on(self, *refused: str) -> None:
        if self._run.status().is_final:
            raise HTTPException(409, f"run {self._run.id} has ended: {self._run.status().value}")
        if self._run.ending in refused:
            raise HTTPException(409, f"run {self._run.id} ends already: it was asked to {self._run.ending}")
