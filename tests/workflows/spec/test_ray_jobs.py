"""What can be told of apps as Ray jobs without a cluster; `tests/cluster` has the rest."""
# mypy: disable-error-code="misc"

from __future__ import annotations

import pickle
import socket
from typing import Any

import pytest

from raflow.errors import ClusterUnreachable, FlowFailed, InvalidOption
from raflow.workflows.spec import Configuration, FlowSpec, RayJobs, app, step


def failure(client: RayJobs, **said: Any) -> BaseException | None:
    class Solve(FlowSpec):
        @app("solver:solve", **said)
        @step
        def solve() -> None: ...

    with pytest.raises(FlowFailed) as caught:
        Solve("solve", 1, Configuration(engine="local"), client).run()
    return caught.value.__cause__


def nowhere() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{free.getsockname()[1]}"


def test_the_address_is_given_or_that_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_API_SERVER_ADDRESS", "http://head:8265")
    assert pickle.loads(pickle.dumps(RayJobs())).address == "http://head:8265"
    assert RayJobs("http://other:8265").address == "http://other:8265"
    monkeypatch.delenv("RAY_API_SERVER_ADDRESS")
    for wrong in (None, "head:6379"):
        with pytest.raises(InvalidOption, match="like 'http://host:8265'"):
            RayJobs(wrong)


@pytest.mark.parametrize("wrong", [{"entrypoint": "rm"}, "6c"])
def test_a_configuration_that_no_job_has_is_an_error(wrong: Any) -> None:
    error = failure(RayJobs(nowhere()), run_configuration=wrong)
    assert isinstance(error, InvalidOption)
    assert "entrypoint_num_cpus" in str(error)


def test_a_server_that_does_not_answer_is_an_error() -> None:
    address = nowhere()
    error = failure(RayJobs(address))
    assert isinstance(error, ClusterUnreachable)
    assert address in str(error)
