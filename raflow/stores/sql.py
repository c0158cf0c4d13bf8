"""Stores in a SQL database: SQLite for the replicas of one host, PostgreSQL for those of a cluster.

Each question is one statement that the database does whole or not at all, so replicas need no locks. Times are
those of the hosts' clocks, which should agree. Rows that have run out are deleted now and then.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from pydantic import SecretStr
from sqlalchemy import (
    Column,
    Connection,
    Double,
    Engine,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    case,
    delete,
    select,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import URL
from sqlalchemy.exc import IntegrityError, ProgrammingError, SQLAlchemyError
from sqlalchemy.schema import CreateTable

from raflow.credentials import redact
from raflow.database import Database
from raflow.errors import InvalidOption, StoreError
from raflow.stores.allowances import ROUNDING_S, Allowances
from raflow.stores.replies import Claim, KeptReply, ReplyStore

_INSERTS: dict[str, Callable[..., Any]] = {"sqlite": sqlite.insert, "postgresql": postgresql.insert}
_SWEEP_S = 60.0


def _table(name: str, *columns: Column[Any]) -> Table:
    keys = Column("store", Text, primary_key=True), Column("key", Text, primary_key=True)
    return Table(name, MetaData(), *keys, Column("until", Double, nullable=False), *columns)


_REPLIES = _table(
    "raflow_replies",
    Column("digest", LargeBinary, nullable=False),
    Column("owner", Text, nullable=False),
    Column("status", Integer),
    Column("headers", Text),
    Column("body", LargeBinary),
)
_ALLOWANCES = _table("raflow_allowances")


class _Stored:
    """What both stores have: a table, made when it is first used. It pickles without its connections."""

    _rows: Table

    def __init__(
        self,
        url: str | SecretStr | URL,
        *,
        user: str | None = None,
        password: str | SecretStr | None = None,
        name: str = "default",
        now: Callable[[], float] = time.time,
        **engine_options: Any,
    ) -> None:
        self._database = Database(url, user=user, password=password, **engine_options)
        if self._database.url.get_backend_name() not in _INSERTS:
            msg = f"{self._database}: stores are in SQLite or PostgreSQL; for others write a ReplyStore or Allowances"
            raise InvalidOption(msg)
        self._name, self._now = name, now
        self.__setstate__({})

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name not in ("_lock", "_engine", "_swept")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._lock = threading.Lock()
        self._engine: Engine | None = None
        self._swept = float("-inf")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._database)!r}, name={self._name!r})"

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._lock:
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _insert(self, key: str, **values: Any) -> Any:
        """Return an insert that can say what happens if the row is there."""
        insert = _INSERTS[self._database.url.get_backend_name()](self._rows)
        return insert.values(store=self._name, key=key, **values)

    def _is(self, key: str) -> Any:
        return (self._rows.c.store == self._name) & (self._rows.c.key == key)

    @contextmanager
    def _open(self) -> Iterator[Connection]:
        """Yield a connection, in a transaction that first deletes what has run out, if that was not done lately."""
        try:
            with self._opened().begin() as connection:
                yield connection
                if self._now() >= self._swept + _SWEEP_S:
                    self._swept = self._now()
                    connection.execute(delete(self._rows).where(self._rows.c.until < self._swept))
        except SQLAlchemyError as error:
            msg = f"{self} cannot be used: {redact(str(error.__cause__ or error)).strip()}"
            raise StoreError(msg) from error

    def _opened(self) -> Engine:
        with self._lock:
            if self._engine is None:
                engine: Engine = self._database.engine()
                try:
                    self._make_table(engine)
                except (IntegrityError, ProgrammingError):  # PostgreSQL, when another replica has just made it
                    self._make_table(engine)
                self._engine = engine
            return self._engine

    def _make_table(self, engine: Engine) -> None:
        with engine.begin() as connection:
            connection.execute(CreateTable(self._rows, if_not_exists=True))


class SqlReplies(_Stored, ReplyStore):
    """Replies to requests with an `Idempotency-Key`, in the table `raflow_replies`.

    Args:
        url: Of the database; SQLite or PostgreSQL, as `raflow.dependencies.SessionDep` takes it.
        user: In place of the URL's.
        password: In place of the URL's.
        name: Stores of other names in one database know nothing of each other.
        keep_s: How long a reply is kept.
        now: Returns seconds since 1970.
        engine_options: Arguments of SQLAlchemy's `create_engine`.

    Raises:
        InvalidOption: The URL or an option cannot be used.
        MissingExtra: The driver is not installed.
    """

    _rows = _REPLIES

    def __init__(self, url: str | SecretStr | URL, *, keep_s: float = 86_400.0, **options: Any) -> None:
        super().__init__(url, **options)
        self._keep_s = keep_s

    def claim(self, key: str, digest: bytes, owner: str, lease_s: float) -> Claim:
        """Claim a key; see `ReplyStore`."""
        now = self._now()
        fresh = {"digest": digest, "owner": owner, "until": now + lease_s}
        empty = {"status": None, "headers": None, "body": None}
        claiming = self._insert(key, **fresh).on_conflict_do_update(
            index_elements=["store", "key"], set_={**fresh, **empty}, where=_REPLIES.c.until < now
        )
        with self._open() as connection:
            if connection.execute(claiming.returning(_REPLIES.c.key)).first():
                return Claim(True, digest)
            row = connection.execute(select(_REPLIES).where(self._is(key))).first()
        if row is None:  # released in between
            return self.claim(key, digest, owner, lease_s)
        reply = None if row.status is None else KeptReply(row.status, json.loads(row.headers), row.body)
        return Claim(False, row.digest, reply)

    def renew(self, key: str, owner: str, lease_s: float) -> None:
        """Prolong a claim; see `ReplyStore`."""
        with self._open() as connection:
            connection.execute(update(_REPLIES).where(self._open_claim(key, owner)).values(until=self._now() + lease_s))

    def keep(self, key: str, owner: str, reply: KeptReply) -> None:
        """Keep a reply; see `ReplyStore`."""
        said = {"status": reply.status, "headers": json.dumps(dict(reply.headers)), "body": reply.body}
        mine = self._is(key) & (_REPLIES.c.owner == owner)
        with self._open() as connection:
            connection.execute(update(_REPLIES).where(mine).values(until=self._now() + self._keep_s, **said))

    def release(self, key: str, owner: str) -> None:
        """Give a claim up; see `ReplyStore`."""
        with self._open() as connection:
            connection.execute(delete(_REPLIES).where(self._open_claim(key, owner)))

    def _open_claim(self, key: str, owner: str) -> Any:
        return self._is(key) & (_REPLIES.c.owner == owner) & _REPLIES.c.status.is_(None)


class SqlAllowances(_Stored, Allowances):
    """What clients may still ask, in the table `raflow_allowances`; a question is a write to the database.

    Args:
        url: Of the database; SQLite or PostgreSQL, as `raflow.dependencies.SessionDep` takes it.
        user: In place of the URL's.
        password: In place of the URL's.
        name: Limits with stores of one name share a client's allowance.
        now: Returns seconds since 1970.
        engine_options: Arguments of SQLAlchemy's `create_engine`.

    Raises:
        InvalidOption: The URL or an option cannot be used.
        MissingExtra: The driver is not installed.
    """

    _rows = _ALLOWANCES

    def take(self, key: str, each_s: float, per_s: float) -> float:
        """Take one; see `Allowances`."""
        now, full_at = self._now(), _ALLOWANCES.c.until
        moved = case((full_at > now, full_at), else_=now) + each_s
        latest = now + per_s + ROUNDING_S
        taking = self._insert(key, until=now + each_s).on_conflict_do_update(
            index_elements=["store", "key"], set_={"until": moved}, where=moved <= latest
        )
        with self._open() as connection:
            if connection.execute(taking.returning(_ALLOWANCES.c.key)).first():
                return 0.0
            known = connection.execute(select(full_at).where(self._is(key))).scalar()
        return max((known or now) + each_s - per_s - now, ROUNDING_S)
