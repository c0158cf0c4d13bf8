"""Secrets in the log of `raflow.http` read `***`: what user code raises there may hold some."""

from __future__ import annotations

import logging
import re

from raflow.credentials import redact

_SCHEMES = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.I)
_NAMED = re.compile(
    r"((?:password|passwd|secret|token|api_?key)\w*(?:=|['\"]\s*:\s*))(?:'[^']*'|\"[^\"]*\"|[^\s,;&)'\"=]+)", re.I
)


class Redacted(logging.Filter):
    """Changes records, and lets all of them pass.

    It finds passwords and keys by where they stand: in URLs, after `Bearer` and `Basic`, and after names such as
    `password=`. Handlers that format tracebacks in a way of their own get the original.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact the message and the traceback."""
        record.msg, record.args = redacted(record.getMessage()), ()
        if record.exc_info and not record.exc_text:
            record.exc_text = redacted(logging.Formatter().formatException(record.exc_info))
        return True


def redacted(text: str) -> str:
    """Return text without what looks like a secret."""
    return _NAMED.sub(r"\1***", _SCHEMES.sub(r"\1 ***", redact(text)))
