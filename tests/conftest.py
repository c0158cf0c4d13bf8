"""Shared fixtures: one Ray for the whole run, an engine of each kind, a ledger folder per test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["RAY_DEDUP_LOGS"] = "0"  # it holds lines back, and prints them into the output of a later test

pytest_plugins = ["tests.databases", "tests.stores"]


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what uses the session's Ray, so that a run without such tests really has none in its process."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker("ray")


@pytest.fixture(params=["local", pytest.param("ray", marks=pytest.mark.ray)])
def engine(request: pytest.FixtureRequest) -> str:
    """Each engine in turn; the same test must pass on both."""
    name: str = request.param
    if name == "ray":
        request.getfixturevalue("ray_session")
    return name


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """One local Ray of our own for the whole run."""
    from raflow.engines.ray.replicas import RayEngine

    RayEngine().start()
    yield
    import ray

    ray.shutdown()


@pytest.fixture(autouse=True)
def _own_ledger(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    folder: Path = tmp_path_factory.mktemp("ledger")
    monkeypatch.setenv("RAFLOW_LEDGER", str(folder))
    monkeypatch.delenv("RAFLOW_ENGINE", raising=False)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
