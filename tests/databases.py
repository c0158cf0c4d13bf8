"""Databases for tests: SQLite files, and a real PostgreSQL that comes as a wheel."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import create_engine, make_url, text


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a server of this process; it ends with it."""
    # Not in pytest's folder: run by root, the server is another user, whom each start of a pytest locks out of that.
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="raflow-") as folder:
        patch.setenv("XDG_RUNTIME_DIR", str(tmp_path_factory.mktemp("runtime")))
        try:
            import pgserver
        except ImportError as error:  # no wheel for this platform
            if os.environ.get("CI"):
                raise
            pytest.skip(str(error))
        server = pgserver.postgres_server.get_server(Path(folder, "postgres"), cleanup_mode="stop")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgres(postgres_server: str, request: pytest.FixtureRequest) -> Iterator[str]:
    """The URL of an empty database of the test's own."""
    url = make_url(postgres_server).set(drivername="postgresql+psycopg")
    name = f"test_{abs(hash(request.node.nodeid))}"
    admin = create_engine(url, isolation_level="AUTOCOMMIT")
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    yield url.set(database=name).render_as_string(hide_password=False)
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    admin.dispose()


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, of each kind in turn."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/test.db"
    url: str = request.getfixturevalue("postgres")
    return url
