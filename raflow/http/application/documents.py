"""The routes that every application has: health, readiness, OpenAPI and its page, with local files alone."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.docs import get_swagger_ui_html
from openapi_ui_bundles import swagger_ui
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from raflow.http.application.counts import Counts

_ASSETS = ("swagger-ui-bundle.js", "swagger-ui.css", "favicon-32x32.png")


def add_health(app: FastAPI, counts: Counts) -> None:
    """Add `/healthz`, 200 while the process answers, and `/readyz`, 200 while it should get requests."""

    async def healthz(request: Request) -> Response:
        del request
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> Response:
        del request
        return JSONResponse({"status": "ready"}) if counts.is_ready else JSONResponse({"status": "not ready"}, 503)

    app.router.add_route("/healthz", healthz, include_in_schema=False)
    app.router.add_route("/readyz", readyz, include_in_schema=False)


def add_documents(app: FastAPI) -> None:
    """Add `/docs`; `/openapi.json` is FastAPI's own."""

    async def docs(request: Request) -> Response:
        root = request.scope.get("root_path", "").rstrip("/")
        script, style, icon = (f"{root}/docs/{asset}" for asset in _ASSETS)
        return get_swagger_ui_html(
            openapi_url=f"{root}{app.openapi_url}",
            title=app.title,
            swagger_js_url=script,
            swagger_css_url=style,
            swagger_favicon_url=icon,
        )

    async def asset(request: Request) -> Response:
        name: Any = request.path_params["asset"]
        if name not in _ASSETS:
            raise HTTPException(404)
        return FileResponse(swagger_ui.static_path / name)

    app.router.add_route("/docs", docs, include_in_schema=False)
    app.router.add_route("/docs/{asset}", asset, include_in_schema=False)
