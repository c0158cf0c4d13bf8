"""A SQL database as users name it: a URL, with its secrets out of sight. `pip install 'raflow[sql]'`.

What is done with one is elsewhere: sessions in `raflow/dependencies/sql.py`, shared state in `raflow/stores/sql.py`.
"""

from __future__ import annotations

from typing import Any

from pydantic import SecretStr
from sqlalchemy import create_engine
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, InvalidRequestError, NoSuchModuleError
from sqlalchemy.ext.asyncio import create_async_engine

from raflow.credentials import redact
from raflow.errors import InvalidOption, MissingExtra

_LOOKS_LIKE = "such as postgresql://user:password@host/database or sqlite:////path/of/file.db"
_PSYCOPG = dict.fromkeys(("postgresql", "postgres"), "postgresql+psycopg")


class Database:
    """A database that SQLAlchemy reaches. Making one connects to nothing; it pickles, and its repr has no secret.

    Args:
        url: As SQLAlchemy reads it; PostgreSQL without a driver is reached by psycopg.
        user: In place of the URL's.
        password: In place of the URL's.
        is_async: Whether its engines are asynchronous.
        options: Arguments of SQLAlchemy's `create_engine`. Values of statements are in no error unless
            `hide_parameters=False` is among them.

    Raises:
        InvalidOption: The URL or an option cannot be used.
        MissingExtra: The driver is not installed.
    """

    def __init__(
        self,
        url: str | SecretStr | URL,
        *,
        user: str | None = None,
        password: str | SecretStr | None = None,
        is_async: bool = False,
        **options: Any,
    ) -> None:
        self.url = _parsed(url)
        if user is not None:
            self.url = self.url.set(username=user)
        if password is not None:
            self.url = self.url.set(password=_revealed(password))
        self.is_async = is_async
        self.options = {"hide_parameters": True, **options}
        self._check()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Database) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return redact(self.url.render_as_string(hide_password=True))

    def engine(self) -> Any:
        """Return a new engine, which connects when it is first used: an `Engine` or an `AsyncEngine`."""
        return (create_async_engine if self.is_async else create_engine)(self.url, **self.options)

    def _check(self) -> None:
        in_memory = self.url.get_backend_name() == "sqlite" and self.url.database in (None, "", ":memory:")
        if in_memory and "poolclass" not in self.options:
            msg = f"{self}: each thread and replica would have an empty database of its own; give a file"
            raise InvalidOption(msg)
        try:
            self.engine()
        except NoSuchModuleError:
            msg = f"{self}: SQLAlchemy knows no database {self.url.drivername!r}; a URL is {_LOOKS_LIKE}"
            raise InvalidOption(msg) from None
        except ImportError as error:
            msg = f"{self} needs {error.name}, which is not installed: pip install {error.name}"
            raise MissingExtra(msg) from error
        except (ArgumentError, InvalidRequestError, TypeError) as error:
            msg = f"{self}: {redact(str(error))}"
            raise InvalidOption(msg) from None


def _parsed(url: str | SecretStr | URL) -> URL:
    try:
        made = make_url(url if isinstance(url, URL) else _revealed(url))
    except (ArgumentError, ValueError):
        msg = f"the URL of a database cannot be read; it is {_LOOKS_LIKE}"
        raise InvalidOption(msg) from None
    return made.set(drivername=_PSYCOPG.get(made.drivername, made.drivername))


def _revealed(secret: str | SecretStr) -> str:
    return secret.get_secret_value() if isinstance(secret, SecretStr) else secret
