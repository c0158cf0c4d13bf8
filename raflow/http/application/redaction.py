"""Secrets in the log of `raflow.http` read `***`: what user code raises there may hold some."""

from __future__ import annotations

import logging
import re

from raflow.credentials import redact

_SCHEMES = re.compile(r"\b(bearer|basic)\s+[\w.~+/=-]{8,}", re.I)
# What follows a name is bounded: a client chooses the text, and "tokentoken…" would take time by its length squared.
_NAMED = re.compile(
    r"((?:password|passwd|secret|token|api_?key)\w{0,40}(?:=|['\"]\s{0,40}:\s{0,40}))"
    r"(?:'[^']*(?:'|\Z)|\"[^\"]*(?:\"|\Z)|[^\s,;&)'\"=]+)",
    re.I,
)
_MOST = 64 << 10
"""Characters of a text that are logged."""
_LONGEST_WORD = 1_000
"""Characters that are looked through for a place to cut where no secret is."""


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
    """Return text without what looks like a secret; of a very long one the beginning."""
    end = _end(text)
    shown = _NAMED.sub(r"\1***", _SCHEMES.sub(r"\1 ***", redact(text[:end])))
    return shown if end == len(text) else f"{shown} … ({len(text) - end:,} more characters are not logged)"


def _end(text: str) -> int:
    """Return where to cut a text: between words, as half a secret may not look like one."""
    if len(text) <= _MOST:
        return len(text)
    space = max(text.rfind(blank, _MOST - _LONGEST_WORD, _MOST) for blank in " \n")
    return _MOST if space < 0 else space
