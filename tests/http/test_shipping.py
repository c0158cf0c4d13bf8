"""A Flow of `__main__` that travels to another process, as it does to replicas."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from raflow import Flow, Scope, dependency
from raflow.dependencies.shared import Shared
from raflow.http.declared import HttpApp

DRIVER = """
from __future__ import annotations

import os
import sys
from typing import Annotated

import cloudpickle

from raflow import Flow, Scope, dependency
from raflow.dependencies.shared import Shared
from raflow.http import ApiKey
from raflow.http.declared import HttpApp


@dependency(scope=Scope.GLOBAL)
class Settings:
    def __init__(self) -> None:
        self.made_in = os.getpid()


@dependency(scope=Scope.REPLICA)
class Pool:
    def __init__(self, settings: Settings) -> None:
        self.settings = settings


@dependency(scope=Scope.NO_SCOPE)
def session(pool: Pool) -> Pool:
    return pool


key = ApiKey("k")
app = Flow()


@app.service().endpoint("/")
def root(n: int, session: Annotated[Pool, session], who: Annotated[str, key]) -> list[int]:
    return [n, session.settings.made_in]


http = HttpApp.of(app)
shared = Shared(http.dependencies(), http.options.credentials())
with open(sys.argv[1], "wb") as file:
    cloudpickle.dump(http.with_globals(shared.open()), file)
shared.close()
print(os.getpid())
"""
REPLICA = """
import pickle
import sys

from starlette.testclient import TestClient

from raflow.http.application.building import application

with open(sys.argv[1], "rb") as file:
    http = pickle.load(file)
with TestClient(application(http, "run")) as client:
    print(client.get("/?n=7", headers={"X-API-Key": "k"}).json())
"""
events: list[str] = []


def python(text: str, folder: Path, name: str) -> str:
    (folder / name).write_text(text)
    command = [sys.executable, str(folder / name), str(folder / "app.pickle")]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def test_functions_of_main_find_their_dependencies_in_another_process(tmp_path: Path) -> None:
    driver = python(DRIVER, tmp_path, "driver.py")
    assert python(REPLICA, tmp_path, "replica.py") == f"[7, {driver}]"


@dependency(scope=Scope.GLOBAL)
def licence() -> Iterator[str]:
    events.append("taken")
    yield "licence"
    events.append("returned")


def test_a_driver_makes_them_also_where_an_event_loop_runs_and_tears_them_down() -> None:
    app = Flow()

    @app.service().endpoint("/")
    def root(licence: licence) -> None: ...  # type: ignore[valid-type]

    async def drive() -> None:
        http = HttpApp.of(app)
        shared = Shared(http.dependencies(), http.options.credentials())
        assert http.with_globals(shared.open()).shipped == {licence: "licence"}
        assert events == ["taken"]
        shared.close()

    asyncio.run(drive())
    assert events == ["taken", "returned"]
