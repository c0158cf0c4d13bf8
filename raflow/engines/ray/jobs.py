"""A cluster's job server: submits programs, tells how they are, ends them."""

from __future__ import annotations

import functools
import logging
import os
import threading
from collections.abc import Mapping
from typing import Any, NamedTuple

from ray.job_submission import JobSubmissionClient

from raflow.errors import ClusterUnreachable

for _name in ("ray.dashboard.modules.dashboard_sdk", "ray._private.runtime_env.packaging"):
    logging.getLogger(_name).setLevel(logging.WARNING)  # they tell of each upload

_ADDRESS = "RAY_API_SERVER_ADDRESS"
_making = threading.Lock()


class JobState(NamedTuple):
    """How a job is."""

    status: str
    """PENDING, RUNNING, STOPPED, SUCCEEDED or FAILED."""
    is_over: bool
    message: str


class JobServer:
    """The job server at an address.

    Args:
        address: `http://host:8265`. A server that wants a token gets the one of `RAY_AUTH_TOKEN` or of Ray's token
            file where `RAY_AUTH_MODE=token` is set.

    Raises:
        ClusterUnreachable: Nothing answers there, or it refuses the token.
    """

    def __init__(self, address: str) -> None:
        self._client = _client(address)

    def submit(self, name: str, entrypoint: str, options: Mapping[str, Any]) -> None:
        """Start a program as a job of this name; `options` are those of Ray's `submit_job`."""
        self._client.submit_job(entrypoint=entrypoint, submission_id=name, **options)

    def state(self, name: str) -> JobState:
        """Return how a job is now."""
        found = self._client.get_job_info(name)
        return JobState(str(found.status), found.status.is_terminal(), found.message or "")

    def logs(self, name: str) -> str:
        """Return all that a job has printed so far."""
        return str(self._client.get_job_logs(name))

    def going_on(self, **metadata: str) -> list[str]:
        """Return the names of jobs with this metadata that have not ended."""
        wanted = metadata.items()
        jobs = self._client.list_jobs()
        return [
            job.submission_id
            for job in jobs
            if job.submission_id and not job.status.is_terminal() and wanted <= (job.metadata or {}).items()
        ]

    def stop(self, name: str) -> None:
        """Ask a job to end; it is killed if it does not."""
        self._client.stop_job(name)


@functools.lru_cache(maxsize=16)
def _client(address: str) -> Any:
    with _making:  # Ray lets the environment beat what it is given
        before = os.environ.get(_ADDRESS)
        os.environ[_ADDRESS] = address
        try:
            return JobSubmissionClient()
        except (ConnectionError, RuntimeError) as error:
            msg = f"no job server of Ray answers at {address}: {error}"
            raise ClusterUnreachable(msg) from error
        finally:
            if before is None:
                del os.environ[_ADDRESS]
            else:
                os.environ[_ADDRESS] = before
