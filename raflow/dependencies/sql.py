"""Sessions of SQL databases, as dependencies.

One engine per replica and database, one session per request, or per call of a consumer's function.
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any

from pydantic import SecretStr
from sqlalchemy.engine import URL
from sqlalchemy.exc import IllegalStateChangeError
from sqlalchemy.ext.asyncio import AsyncEngine, AsyncSession
from sqlalchemy.orm import Session

from raflow.database import Database
from raflow.dependencies.declared import dependency
from raflow.dependencies.scopes import Scope, mark

_LOOK_S = 0.01


class _Engines:
    """The engines of one replica; made when they are first asked for, from any thread."""

    def __init__(self) -> None:
        self._made: list[tuple[Database, Any]] = []
        self._lock = threading.Lock()

    def of(self, database: Database) -> Any:
        with self._lock:
            for known, engine in self._made:
                if known == database:
                    return engine
            self._made.append((database, database.engine()))
            return self._made[-1][1]

    async def dispose(self) -> None:
        for _, engine in self._made:
            if isinstance(engine, AsyncEngine):
                await engine.dispose()
            else:
                engine.dispose()


@dependency(scope=Scope.REPLICA)
async def _engines() -> AsyncIterator[_Engines]:
    engines = _Engines()
    try:
        yield engines
    finally:
        await engines.dispose()


_OfReplica = Annotated[_Engines, _engines]


class _Sessions:
    """What both kinds have."""

    is_async = False
    is_transaction = True
    """That a collector does all or nothing of a request."""

    def __init__(
        self,
        url: str | SecretStr | URL,
        *,
        user: str | None = None,
        password: str | SecretStr | None = None,
        expire_on_commit: bool = False,
        autoflush: bool = False,
        **engine_options: Any,
    ) -> None:
        self.database = Database(url, user=user, password=password, is_async=self.is_async, **engine_options)
        self._expires, self._autoflush = expire_on_commit, autoflush
        mark(self, Scope.PROCESS)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self.database)!r})"

    def _options(self) -> dict[str, Any]:
        # Once closed it is of no use: a thread whose time is up would begin a transaction that nobody ends.
        return {"expire_on_commit": self._expires, "autoflush": self._autoflush, "close_resets_only": False}


def _close(session: Session) -> None:
    """Close a session, also if the thread of a function whose time is up is in the middle of a statement."""
    while True:
        try:
            session.close()
        except IllegalStateChangeError:
            time.sleep(_LOOK_S)
        else:
            return


class SessionDep(_Sessions):
    """A session for synchronous functions: `session: Annotated[Session, SessionDep(URL)]`.

    At the end of the request or call it is committed, before the reply is sent, so that a commit that
    fails is an error of the request; after an error it is rolled back; it is always closed. In a collector
    an error is any reply but a success, and when a call of its function raises, or a result does not fit what the
    sink has (with `ack="accepted"` that is known too late), nothing of the request is written but the dead letters
    of such records. A stream that is sent after the function has returned needs a session of its own.

    A collector first has the session send its changes, then writes its sink, then commits. So what the database
    refuses of the changes keeps rows out of the sink, and a reply of success means that both have them (with
    `ack="accepted"` the buffer, for the sink). If the sink fails, the session is rolled back. Only a COMMIT that
    fails by itself (a lost connection, a deferred constraint), or a request whose time is up just then, leaves rows
    in the sink beside an error reply: the client's next try writes them again. The other order would lose them when
    that try then meets what was committed.

    Args:
        url: Of the database, as SQLAlchemy reads it; PostgreSQL without a driver is reached by psycopg.
        user: In place of the URL's.
        password: In place of the URL's.
        expire_on_commit: Whether what a session has loaded must be loaded again after a commit.
        autoflush: Whether a query first sends what the session has changed.
        engine_options: Arguments of SQLAlchemy's `create_engine`, such as `pool_size`.

    Raises:
        InvalidOption: The URL or an option cannot be used.
        MissingExtra: The driver is not installed.
    """

    def __call__(self, engines: _OfReplica) -> Iterator[Session]:
        """Yield a session."""
        session = Session(engines.of(self.database), **self._options())
        try:
            yield session
            session.commit()
        finally:
            _close(session)

    def prepare(self, session: Session) -> None:
        """Send what waits in the session: what the database refuses of it is an error before the commit."""
        session.flush()


class AsyncSessionDep(_Sessions):
    """The same for `async def` functions: `session: Annotated[AsyncSession, AsyncSessionDep(URL)]`.

    The driver must be an asynchronous one: psycopg, asyncpg, aiosqlite. Arguments are those of `SessionDep`.
    """

    is_async = True

    async def __call__(self, engines: _OfReplica) -> AsyncIterator[AsyncSession]:
        """Yield a session."""
        async with AsyncSession(engines.of(self.database), **self._options()) as session:
            yield session
            await session.commit()

    async def prepare(self, session: AsyncSession) -> None:
        """Do the same."""
        await session.flush()
