"""Keys for cloud storage, never shown in a repr, log or error."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import SecretStr

from raflow.errors import InvalidOption

_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_PARAMETER = re.compile(r"(?<=[?&])([\w.%~-]+)=[^&\s]*")
_SECRET_NAME = re.compile(r"token|secret|key|passw|pwd|signature|credential|^sig$", re.I)
_LOGINS = {"anon", "browser", "cache", "cloud", "google_default"}
"""Values of gcsfs's `token` that are none: they say how to get one."""


@dataclass(frozen=True)
class Credentials:
    """Keys that a Flow hands to sources and sinks without `storage_options` of their own."""

    aws_access_key_id: str | None = field(default=None, repr=False)
    aws_secret_access_key: SecretStr | None = None
    aws_session_token: SecretStr | None = None
    gcp_service_account_info: SecretStr | None = None

    def storage_options(self, protocol: str) -> dict[str, Any]:
        """Return fsspec's keyword arguments for a protocol such as `s3` or `gs`; empty if none apply."""
        if protocol in ("s3", "s3a") and self.aws_access_key_id:
            named = {"secret": self.aws_secret_access_key, "token": self.aws_session_token}
            secrets = {name: value.get_secret_value() for name, value in named.items() if value}
            return {"key": self.aws_access_key_id, **secrets}
        if protocol in ("gs", "gcs") and self.gcp_service_account_info:
            return {"token": _google(self.gcp_service_account_info.get_secret_value())}
        return {}

    @property
    def secrets(self) -> list[str]:
        """What must not be shown."""
        return [value.get_secret_value() for value in vars(self).values() if isinstance(value, SecretStr)]


def _google(info: str) -> Any:
    """Return google-auth credentials from a key or a workload identity pool configuration."""
    import google.auth

    try:
        read = json.loads(info)
    except json.JSONDecodeError:
        msg = "gcp_service_account_info is no JSON text; give the text of a key file, not its path"
        raise InvalidOption(msg) from None
    scopes = ["https://www.googleapis.com/auth/devstorage.read_write"]
    return google.auth.load_credentials_from_dict(read, scopes=scopes)[0]


def redact(text: str) -> str:
    """Return text in which the user part and secret parameters of URLs read `***`."""
    return _PARAMETER.sub(_redacted, _USER.sub("***@", text))


def secrets_of(url: str, options: Mapping[str, Any]) -> list[str]:
    """Return what of a URL and of keyword arguments for fsspec must not be shown, were it alone."""
    return [*_USER.findall(url), *_secrets_in(options)]


def _secrets_in(options: Mapping[str, Any]) -> Iterator[str]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _secrets_in(value)
        elif isinstance(value, str) and value and value not in _LOGINS and _SECRET_NAME.search(name):
            yield value


def _redacted(parameter: re.Match[str]) -> str:
    # Names are looked at one by one: one pattern for all would take quadratic time on long ones.
    name = parameter.group(1)
    return f"{name}=***" if _SECRET_NAME.search(name) else parameter.group()
