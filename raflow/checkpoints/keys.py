"""Keys of any text as names of files that stay apart and inside their folder."""

from __future__ import annotations

import hashlib
import re

_LONGEST = 150
_UNSAFE = re.compile(rb"[^A-Za-z0-9_#=@+,-]")
_ESCAPE = re.compile(rb"~([0-9A-F]{2})")


def join(*parts: object) -> str:
    """Return the key of these parts; a "/" within one does not divide it."""
    return "/".join(str(part).replace("%", "%25").replace("/", "%2F") for part in parts)


def escaped(part: str) -> str:
    """Return a part as a name of ASCII letters, digits and a few signs; other names for other parts."""
    name = _UNSAFE.sub(lambda found: b"~%02X" % found.group()[0], part.encode("utf-8", "surrogatepass")).decode()
    if len(name) > _LONGEST:
        return f"~~{hashlib.sha256(name.encode()).hexdigest()}"
    return name or "~"


def unescaped(name: str) -> str:
    """Return the part of a name that `escaped` made, unless it is hashed."""
    data = _ESCAPE.sub(lambda found: bytes([int(found.group(1), 16)]), name.encode())
    return "" if name == "~" else data.decode("utf-8", "surrogatepass")


def is_hashed(name: str) -> bool:
    """Whether a name stands for a part too long for a file name."""
    return name.startswith("~~")
