"""Collectors and services over HTTP: what a Flow declares, and the ASGI application that serves it.

`collector.py` and `service.py` are what users write and need no further package. The names below are
those of Starlette and FastAPI, which users need in signatures and replies; they and everything that serves
come with `pip install 'raflow[http]'` and load on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from raflow.extras import load

if TYPE_CHECKING:
    from fastapi import Body as Body
    from fastapi import Depends as Depends
    from fastapi import File as File
    from fastapi import Form as Form
    from fastapi import Header as Header
    from fastapi import HTTPException as HTTPException
    from fastapi import Path as Path
    from fastapi import Query as Query
    from fastapi import Request as Request
    from fastapi import UploadFile as UploadFile
    from fastapi import WebSocket as WebSocket
    from fastapi import WebSocketDisconnect as WebSocketDisconnect
    from starlette.middleware.cors import CORSMiddleware as CORSMiddleware
    from starlette.middleware.gzip import GZipMiddleware as GZipMiddleware
    from starlette.middleware.httpsredirect import HTTPSRedirectMiddleware as HTTPSRedirectMiddleware
    from starlette.responses import FileResponse as FileResponse
    from starlette.responses import HTMLResponse as HTMLResponse
    from starlette.responses import JSONResponse as JSONResponse
    from starlette.responses import PlainTextResponse as PlainTextResponse
    from starlette.responses import RedirectResponse as RedirectResponse
    from starlette.responses import Response as Response
    from starlette.responses import StreamingResponse as StreamingResponse

    from raflow.dependencies import SideOutput as SideOutput
    from raflow.dependencies import SinkDependency as SinkDependency
    from raflow.http.google import AuthenticatedGoogleUser as AuthenticatedGoogleUser
    from raflow.http.google import GoogleUser as GoogleUser
    from raflow.http.rate_limit import RateLimit as RateLimit
    from raflow.http.security import ApiKey as ApiKey
    from raflow.http.security import BearerCredentials as BearerCredentials
    from raflow.http.signature import Signature as Signature

_NAMES = {
    "raflow.http.security": ("ApiKey", "BearerCredentials"),
    "raflow.http.google": ("AuthenticatedGoogleUser", "GoogleUser"),
    "raflow.http.signature": ("Signature",),
    "raflow.dependencies": ("SideOutput", "SinkDependency"),
    "raflow.http.rate_limit": ("RateLimit",),
    "fastapi": (
        "Body", "Depends", "File", "Form", "Header", "HTTPException", "Path", "Query", "Request", "UploadFile",
        "WebSocket", "WebSocketDisconnect",
    ),
    "starlette.middleware.cors": ("CORSMiddleware",),
    "starlette.middleware.gzip": ("GZipMiddleware",),
    "starlette.middleware.httpsredirect": ("HTTPSRedirectMiddleware",),
    "starlette.responses": (
        "FileResponse", "HTMLResponse", "JSONResponse", "PlainTextResponse", "RedirectResponse", "Response",
        "StreamingResponse",
    ),
}  # fmt: skip
_HOME = {name: module for module, names in _NAMES.items() for name in names}

__all__ = [  # noqa: RUF022 - grouped by use
    "Request", "WebSocket", "WebSocketDisconnect", "UploadFile",
    "Body", "Depends", "File", "Form", "Header", "Path", "Query",
    "HTTPException",
    "Response", "JSONResponse", "PlainTextResponse", "HTMLResponse", "RedirectResponse", "FileResponse",
    "StreamingResponse",
    "CORSMiddleware", "GZipMiddleware", "HTTPSRedirectMiddleware", "RateLimit",
    "ApiKey", "BearerCredentials", "AuthenticatedGoogleUser", "GoogleUser", "Signature",
    "SideOutput", "SinkDependency",
]  # fmt: skip


def check_installed(what: str = "HTTP") -> None:
    """Check that the packages for HTTP are there.

    Args:
        what: Needs them.

    Raises:
        MissingExtra: One is not.
    """
    for package in ("fastapi", "uvicorn", "python_multipart", "openapi_ui_bundles"):
        load(package, what, "http")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        msg = f"module 'raflow.http' has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(load(_HOME[name], "HTTP", "http"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
