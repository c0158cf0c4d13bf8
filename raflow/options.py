"""Every option and every default, once.

An option given to a processor beats the same one in `FlowOptions`, which beats the default here;
`raflow run --set PROCESSOR.OPTION=VALUE` beats all.
"""

from __future__ import annotations

import ipaddress
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError

from raflow.credentials import Credentials
from raflow.errors import InvalidOption
from raflow.sinks import Sink
from raflow.stores.replies import ReplyStore


class _Options(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise InvalidOption(_explain(type(self), error)) from None

    def explicit(self) -> dict[str, Any]:
        """Return the options that were given, without the defaults."""
        return {name: getattr(self, name) for name in sorted(self.model_fields_set)}


class Retry(_Options):
    """How often, and how patiently, a failing call or batch is tried again.

    Raises:
        InvalidOption: There is no such option, or its value cannot be used.
    """

    times: int = Field(default=0, ge=0)
    """Further tries after the first one."""
    delay_s: float = Field(default=1.0, ge=0)
    """Wait before the first further try."""
    backoff: float = Field(default=2.0, ge=1)
    """Factor by which the wait grows with each try."""
    max_delay_s: float = Field(default=60.0, ge=0)
    """The longest wait."""

    def delays(self) -> list[float]:
        """Return the waits, in seconds, one per further try."""
        return [min(self.delay_s * self.backoff**n, self.max_delay_s) for n in range(self.times)]


class Resources(_Options):
    """What one replica needs from the cluster."""

    num_cpus: float = Field(default=1.0, ge=0)
    """CPUs; fractions are allowed. On Ray a replica's Arrow has as many threads, rounded down to at least one."""
    num_gpus: float = Field(default=0.0, ge=0)
    """GPUs; fractions are allowed."""
    memory_bytes: int | None = Field(default=None, gt=0)
    """Memory that the scheduler sets aside; not a limit."""
    resources: dict[str, float] = Field(default_factory=dict)
    """Custom resources of the cluster, by name."""

    def needs(self) -> dict[str, float]:
        """Return everything that is asked for, by Ray's resource names."""
        wanted = {"CPU": self.num_cpus, "GPU": self.num_gpus, "memory": float(self.memory_bytes or 0)}
        return {name: amount for name, amount in {**wanted, **self.resources}.items() if amount}


class StepOptions(Resources):
    """The options of one step of a workflow."""

    retry: int | tuple[float, ...] = 1
    """Attempts in all; or the wait before each attempt, in seconds."""
    retry_delay: float = Field(default=1.0, ge=0, allow_inf_nan=False)
    """Wait between attempts, in seconds."""
    backoff: bool = False
    """Whether the wait doubles with each attempt."""
    jitter: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Up to so many seconds are added to each wait, at random."""
    max_delay: float | None = Field(default=None, ge=0)
    """The longest wait, in seconds; None: no bound."""
    retry_on: type[BaseException] | tuple[type[BaseException], ...] = Exception
    """Errors after which there is a further attempt. Timeouts and lost workers always are such."""
    timeout: float = Field(default=0.0, ge=0, allow_inf_nan=False)
    """Seconds that an attempt may take, from when it really starts; 0: no bound."""

    @property
    def first_delay(self) -> float:
        """The wait before the first attempt."""
        return self.retry[0] if isinstance(self.retry, tuple) and self.retry else 0.0

    def delays(self) -> list[float]:
        """Return the waits before the attempts, without jitter; their number is the number of attempts."""
        if isinstance(self.retry, tuple):
            return list(self.retry) or [0.0]
        factor, cap = (2.0 if self.backoff else 1.0), self.max_delay
        waits = (self.retry_delay * factor ** min(n, 99) for n in range(max(1, self.retry) - 1))
        return [0.0, *(wait if cap is None else min(wait, cap) for wait in waits)]


POOL_OPTIONS = (
    "num_replicas", "min_replicas", "max_replicas", "autoscale", "concurrency", *Resources.model_fields
)  # fmt: skip
"""A processor that is given one of these keeps a pool of replicas of its own."""


class ProcessorOptions(Resources):
    """The options of one processor."""

    num_replicas: int | None = Field(default=None, ge=1)
    """Replicas of the pool, from its start to its end; None: as many as the work needs, see `autoscale`."""
    min_replicas: int = Field(default=1, ge=0)
    """The pool never gets smaller; 0: it may have none while there is nothing to do."""
    max_replicas: int | None = Field(default=None, ge=1)
    """The pool never gets larger; None: what the engine's CPUs allow, at most one per unit of work."""
    autoscale: bool = True
    """Whether the pool grows and shrinks while the run goes on; False: it keeps the size of its start."""
    fuse: bool = True
    """Whether it may run in one process with what is before and after it."""
    preserve_order: bool = False
    """Whether records keep their order through a pool: each split's batches go to one replica, in order."""
    batch_rows: int | None = Field(default=None, ge=1)
    """Rows of a batch; None: sized so that a batch takes 20 to 100 ms, at most 32 MiB."""
    concurrency: int = Field(default=64, ge=1)
    """Calls of an `async def` function that run at once in one replica."""
    on_error: str | Sink = "fail"
    """What a failing record does: "fail" ends the run, "skip" counts and drops it, a sink keeps it."""
    max_errors: int | None = Field(default=None, ge=0)
    """Failing records after which the run fails although `on_error` would go on; None: no bound."""
    retry: Retry = Retry()
    """Further tries of a failing batch before `on_error` decides; a number means that many tries."""
    start_timeout_s: float = Field(default=60.0, gt=0)
    """How long the run waits for its first replica: clusters may have to grow."""

    def __init__(self, **values: Any) -> None:
        if isinstance(values.get("retry"), int):
            values["retry"] = Retry(times=values["retry"])
        if isinstance(values.get("on_error"), str) and values["on_error"] not in ("fail", "skip"):
            msg = f'on_error is {values["on_error"]!r}; it can be "fail", "skip" or a sink'
            raise InvalidOption(msg)
        super().__init__(**values)
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            msg = f"min_replicas is {self.min_replicas}, max_replicas {self.max_replicas}; min may not be larger"
            raise InvalidOption(msg)

    @classmethod
    def layered(cls, *layers: Mapping[str, Any]) -> ProcessorOptions:
        """Return the options of one processor; a later layer beats an earlier one."""
        values: dict[str, Any] = {}
        for layer in layers:
            values.update(layer)
        return ProcessorOptions(**values)


class ConnectionOptions(_Options):
    """What clients may do with connections to collectors and services."""

    header_bytes: int = Field(default=64 << 10, ge=1)
    """Of one request's line and headers, or of its trailers; beyond it the answer is 431."""
    header_timeout_s: float = Field(default=10.0, gt=0, allow_inf_nan=False)
    """From the connection, or a request's first byte, to the end of its headers; beyond it the answer is 408."""
    send_timeout_s: float = Field(default=30.0, gt=0, allow_inf_nan=False)
    """How long a client may read nothing of what is sent to it; beyond it the connection is cut, a websocket, too.
    What the system holds for a connection, some MB at most, counts as sent."""
    keep_alive_s: float = Field(default=5.0, ge=0, allow_inf_nan=False)
    """How long a connection may be idle between two requests."""
    leave_s: float = Field(default=2.0, ge=0, allow_inf_nan=False)
    """How long one of a leaving replica may be idle, each answer telling its client to go."""


_HTTP_NAMES = {
    "max_concurrent_queries": "max_concurrent_requests",
    "target_num_ongoing_requests_per_replica": "target_ongoing_requests",
    "enable_autoscaler": "autoscale",
}
"""Options of HTTP processors by the names that they have in BuildFlow."""


class HttpOptions(Resources):
    """The options of one service; its replicas are never fewer than one."""

    num_replicas: int | None = Field(default=None, ge=1)
    """Replicas from start to end; None: as many as the requests need, see `autoscale`."""
    min_replicas: int = Field(default=1, ge=1)
    """There are never fewer."""
    max_replicas: int | None = Field(default=None, ge=1)
    """There are never more; None: what the engine's CPUs allow."""
    autoscale: bool = True
    """Whether replicas are added and removed by `target_ongoing_requests`."""
    target_ongoing_requests: float = Field(default=16.0, gt=0)
    """Requests that a replica should have under way, on average; above it, replicas are added."""
    calm_s: float = Field(default=30.0, ge=0, allow_inf_nan=False)
    """How long fewer replicas must have been enough before some leave."""
    max_concurrent_requests: int = Field(default=100, ge=1)
    """Requests that a replica works on at once; the next one gets 503 and `Retry-After`. Websockets
    do not count. It is also how many calls of synchronous functions run at once, in threads."""
    request_timeout_s: float = Field(default=60.0, gt=0, allow_inf_nan=False)
    """A reply must have begun by then, else 504 (408 if the body has not come); a stream may take longer."""
    max_body_bytes: int = Field(default=16 << 20, ge=0)
    """A larger body is refused with 413; so is an Arrow stream that takes four times as many bytes when it is not
    compressed, or when all that it repeats is written out."""

    def __init__(self, **values: Any) -> None:
        for old, name in _HTTP_NAMES.items():
            if old in values and name in values:
                msg = f"{old} and {name} are the same option; give one of them"
                raise InvalidOption(msg)
            if old in values:
                values[name] = values.pop(old)
        super().__init__(**values)
        if self.max_replicas is not None and self.min_replicas > self.max_replicas:
            msg = f"min_replicas is {self.min_replicas}, max_replicas {self.max_replicas}; min may not be larger"
            raise InvalidOption(msg)


class CollectorOptions(HttpOptions):
    """The options of one collector."""

    ack: Literal["written", "accepted"] = "written"
    """When it replies: once the sink has what the request brought, or once that is in the buffer, which a
    crash of the replica loses."""
    max_records: int = Field(default=1_000_000, ge=1)
    """Records of one request: one with more is refused with 413 and has to be sent in several. Some forms have them
    in a byte or less, and each takes hundreds in memory."""
    concurrency: int = Field(default=64, ge=1)
    """Calls of an `async def` function that run at once for one request."""
    linger_ms: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    """How long records wait for others to be written with them, when no write is under way; None: not at all,
    and 1,000 ms with `ack="accepted"`."""
    buffer_records: int = Field(default=10_000, ge=1)
    """With `ack="accepted"`: records that may wait for the sink; while it is full, requests get 503."""
    roll_bytes: int = Field(default=64 << 20, ge=1)
    """Where flushes share a file (JSON Lines in a local folder): readers see it when it has this size."""
    roll_s: float = Field(default=60.0, ge=0, allow_inf_nan=False)
    """The same: or when it is this old. What was acknowledged is on the disk all the time."""
    idempotency_keys: int = Field(default=10_000, ge=0)
    """Replies that a replica keeps for requests that repeat an `Idempotency-Key`; 0: the header means nothing.
    Work with a key goes on when its request has got 504; while as much is under way as `max_concurrent_requests`
    allows, another key gets 503."""
    idempotency_store: ReplyStore | None = None
    """Where all replicas keep them, such as `raflow.stores.SqlReplies(url)`; None: each replica knows its own."""
    on_error: str | Sink = "skip"
    """What becomes of a record that does not fit its type, or for which the function fails. The reply tells of it
    either way; a sink keeps it, too, as a dead letter, and the reply then says `"kept": true`. A sink that is given
    to the Flow keeps those of its collectors, too."""

    def __init__(self, **values: Any) -> None:
        wrong = values.get("on_error", "skip")
        if wrong != "skip" and not isinstance(wrong, Sink):
            msg = f'on_error of a collector is {wrong!r}; it can be "skip" or a sink, the replies tell of errors anyway'
            raise InvalidOption(msg)
        super().__init__(**values)

    @property
    def error_sink(self) -> Sink | None:
        """Where failing records are kept, if they are."""
        return self.on_error if isinstance(self.on_error, Sink) else None

    @property
    def linger_s(self) -> float:
        """The wait in seconds."""
        default = 0.0 if self.ack == "written" else 1000.0
        return (default if self.linger_ms is None else self.linger_ms) / 1000


Http = TypeVar("Http", bound=HttpOptions)


class FlowOptions(ProcessorOptions):
    """Options of a Flow; every processor option may be given here as the default of all processors.

    Raises:
        InvalidOption: There is no such option, or its value cannot be used.

    Example:
        >>> from raflow import Flow, FlowOptions
        >>> flow = Flow(flow_options=FlowOptions(log_level="DEBUG", num_replicas=2, on_error="skip"))
    """

    log_level: str = "INFO"
    """Level of the logs of raflow and of user code, in the driver and in replicas. Drivers of stores, whose logs hold
    keys, tell warnings only, unless your code sets a level of theirs."""
    access_log: bool = False
    """Whether each HTTP request gets a line in the log `raflow.access`, at INFO: client, method, path without its
    query, status, milliseconds and request id."""
    connections: ConnectionOptions = ConnectionOptions()
    """Limits of each HTTP connection."""
    hung_after_s: float = Field(default=60.0, gt=0)
    """An HTTP replica whose event loop has been blocked for so long is replaced."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks (`10.0.0.0/8`) of proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` are believed:
    `Request.client`, the access log and rate limits then have the proxy's client. Of a chain it is the last one that
    is no proxy of yours, so that no client can pass for another. `*` believes everybody, who can then say
    anything: only behind a unix socket or a network of your own."""
    aws_access_key_id: str | None = Field(default=None, repr=False)
    """AWS key for every `s3://` access that has no `storage_options` of its own."""
    aws_secret_access_key: SecretStr | None = Field(default=None, repr=False)
    """Secret of that key."""
    aws_session_token: SecretStr | None = Field(default=None, repr=False)
    """Token of temporary AWS credentials."""
    gcp_service_account_info: SecretStr | None = Field(default=None, repr=False)
    """JSON text of a service account key or of a workload identity pool configuration, for `gs://`."""
    stack: str = "local"
    """Name of the stack that `apply` and `destroy` of managed resources will work on; there are none yet."""
    require_confirmation: bool = True
    """Whether these will ask before they change anything."""
    tls_certificate: str | None = None
    """Path of a certificate chain, PEM, on each node: collectors and services then speak HTTPS."""
    tls_key: str | None = None
    """Path of its private key, PEM."""
    tls_key_password: SecretStr | None = Field(default=None, repr=False)
    """Of that key."""
    max_abandoned_calls: int = Field(default=16, ge=1)
    """Synchronous calls that were given up, such as with 504, and have still not returned: a replica with so many
    drains and is replaced, since a thread cannot be ended. The local engine has but one process: there a warning is
    all."""
    shared_path: bool = False
    """Whether local paths are the same folder on every node (NFS and the like)."""
    drain_timeout_s: float = Field(default=60.0, gt=0)
    """How long a drain waits for the work in flight before it stops it."""
    ledger_url: str = Field(default_factory=lambda: os.environ.get("RAFLOW_LEDGER", "~/.raflow/runs"))
    """Folder of the runs' ledgers: a path or any fsspec URL; `RAFLOW_LEDGER` sets the default."""

    def __init__(self, **values: Any) -> None:
        level = values.get("log_level", "INFO")
        if level not in ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"):
            msg = f"log_level is {level!r}; it can be DEBUG, INFO, WARNING, ERROR or CRITICAL"
            raise InvalidOption(msg)
        super().__init__(**values)
        if bool(self.tls_certificate) != bool(self.tls_key):
            msg = "tls_certificate and tls_key go together; give both or neither"
            raise InvalidOption(msg)
        for wrong in _no_networks(self.trusted_proxies):
            msg = f"trusted_proxies has {wrong!r}; it can have addresses, networks such as '10.0.0.0/8', and '*'"
            raise InvalidOption(msg)

    def credentials(self) -> Credentials:
        """Return the keys for cloud storage alone."""
        return Credentials(**{entry.name: getattr(self, entry.name) for entry in fields(Credentials)})

    def http(self, kind: type[Http], given: Mapping[str, Any]) -> Http:
        """Return the options of a service or collector, of which some may be given here."""
        here = self.explicit()
        if isinstance(self.on_error, str):  # it says what becomes of a run, and requests have their replies
            here.pop("on_error", None)
        if self.min_replicas == 0:  # for processors: there is always somebody who answers
            here.pop("min_replicas", None)
        return kind(**{**{name: here[name] for name in here if name in kind.model_fields}, **given})

    def processor_defaults(self) -> dict[str, Any]:
        """Return the processor options that were given here."""
        given = self.explicit()
        return {name: given[name] for name in given if name in ProcessorOptions.model_fields}


def _no_networks(proxies: tuple[str, ...]) -> Iterator[str]:
    for proxy in proxies:
        try:
            if proxy != "*":
                ipaddress.ip_network(proxy)
        except ValueError:
            yield proxy


def _explain(kind: type[BaseModel], error: ValidationError) -> str:
    lines = []
    for issue in error.errors(include_url=False):
        name = ".".join(str(part) for part in issue["loc"])
        if issue["type"] == "extra_forbidden":
            lines.append(f"there is no option {name!r}; options are: {', '.join(sorted(kind.model_fields))}")
        else:
            lines.append(f"{name} is {_shown(issue['input'], name)}: {issue['msg']}")
    return "; ".join(dict.fromkeys(lines))


def _shown(value: Any, name: str) -> str:
    return "a value that is not shown" if name in {entry.name for entry in fields(Credentials)} else repr(value)
