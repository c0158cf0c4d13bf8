"""The keys of a Flow for clients of clouds that processors make themselves."""

from __future__ import annotations

from dataclasses import dataclass

from pydantic import SecretStr

from raflow.credentials import Credentials
from raflow.dependencies.scopes import Scope, mark


@dataclass(frozen=True)
class AWSCredentials:
    """Keys for AWS; secrets read `**********` until `get_secret_value()` is called."""

    access_key_id: SecretStr | None = None
    secret_access_key: SecretStr | None = None
    session_token: SecretStr | None = None


@dataclass(frozen=True)
class GCPCredentials:
    """Keys for Google Cloud."""

    service_account_info: SecretStr | None = None
    """JSON text of a service account key or of a workload identity pool configuration."""


@dataclass(frozen=True)
class FlowCredentials:
    """What `FlowOptions` has of keys; always available as a dependency. Nothing secret shows in a repr."""

    aws_credentials: AWSCredentials = AWSCredentials()
    gcp_credentials: GCPCredentials = GCPCredentials()

    @classmethod
    def of(cls, keys: Credentials) -> FlowCredentials:
        """Return those of a Flow."""
        key_id = keys.aws_access_key_id
        aws = AWSCredentials(SecretStr(key_id) if key_id else None, keys.aws_secret_access_key, keys.aws_session_token)
        return cls(aws, GCPCredentials(keys.gcp_service_account_info))


mark(FlowCredentials, Scope.GLOBAL, is_given=True)
