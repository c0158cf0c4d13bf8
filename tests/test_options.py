from __future__ import annotations

import json
import logging
import time
from typing import Any

import pytest

from raflow import Flow, FlowOptions, Retry
from raflow.connectors.memory import MemorySource
from raflow.credentials import redact
from raflow.errors import InvalidOption
from raflow.options import ProcessorOptions, StepOptions

SOURCE = MemorySource([{"n": 1}])


def options_of(flow: Flow, overrides: dict[str, dict[str, Any]] | None = None) -> ProcessorOptions:
    return flow.plan(overrides).stages[0].options


def one(options: FlowOptions | None = None, **own: Any) -> Flow:
    flow = Flow(flow_options=options)
    flow.consumer(source=SOURCE, name="p", **own)(lambda record: record)
    return flow


def test_the_command_line_beats_the_processor_beats_the_flow_beats_the_default() -> None:
    flow_wide = FlowOptions(batch_rows=1)
    assert options_of(one()).batch_rows is None
    assert options_of(one(flow_wide)).batch_rows == 1
    assert options_of(one(flow_wide, batch_rows=2)).batch_rows == 2
    assert options_of(one(flow_wide, batch_rows=2), {"p": {"batch_rows": 3}}).batch_rows == 3


def test_an_override_of_an_unknown_processor_suggests_the_known_one() -> None:
    with pytest.raises(InvalidOption, match="'pp'; did you mean 'p'"):
        one().plan({"pp": {}})


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"num_cpus": -1}, "num_cpus is -1"),
        ({"num_replicas": 0}, "num_replicas is 0"),
        ({"on_error": "explode"}, "'explode'.*\"skip\""),
        ({"batch_row": 1}, "'batch_row'.*batch_rows"),
        ({"log_level": "LOUD"}, "LOUD.*DEBUG"),
    ],
)
def test_a_wrong_value_is_named_with_the_values_that_can_be(values: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidOption, match=text):
        FlowOptions(**values)


def test_retry_takes_a_number_or_an_object_and_doubles_its_delay() -> None:
    assert options_of(one(retry=2)).retry == Retry(times=2)
    assert Retry(times=4, delay_s=1, max_delay_s=3).delays() == [1, 2, 3, 3]


SECRETS = {
    "aws_access_key_id": "AKIAEXAMPLE",
    "aws_secret_access_key": "hush-aws",
    "aws_session_token": "hush-token",
    "gcp_service_account_info": json.dumps({"private_key": "hush-gcp"}),
}


def test_credentials_appear_in_no_repr(caplog: pytest.LogCaptureFixture) -> None:
    options = FlowOptions(**SECRETS)
    logging.getLogger("raflow").warning("%r %s %r %r", options, options, options.credentials(), one(options).plan())
    assert not [secret for secret in ("AKIAEXAMPLE", "hush") if secret in caplog.text]


def test_a_wrong_credential_is_not_shown_in_its_error() -> None:
    with pytest.raises(InvalidOption) as caught:
        FlowOptions(aws_secret_access_key=123456)
    assert "123456" not in str(caught.value)
    assert "aws_secret_access_key" in str(caught.value)


def test_credentials_become_storage_options_of_their_cloud_only() -> None:
    credentials = FlowOptions(**SECRETS).credentials()
    assert credentials.storage_options("s3") == {
        "key": "AKIAEXAMPLE",
        "secret": "hush-aws",
        "token": "hush-token",
    }
    assert credentials.storage_options("file") == {}


def test_urls_are_redacted() -> None:
    shown = redact("s3://user:word@bucket/x?token=abc&n=1 and https://host/x?X-Amz-Signature=zzz")
    assert shown == "s3://***@bucket/x?token=***&n=1 and https://host/x?X-Amz-Signature=***"
    assert redact("https://h/c?sv=2024&sig=a%2Fb&design=x") == "https://h/c?sv=2024&sig=***&design=x"
    assert redact("sftp://user:p@ss@host/d?pwd=abc a@b") == "sftp://***@host/d?pwd=*** a@b"
    assert redact("https://host?mail=a@b") == "https://host?mail=a@b"


def test_long_text_is_redacted_in_no_time() -> None:
    text = "https://h/?" + "token" * 100_000
    began = time.process_time()

    assert redact(text) == text
    assert time.process_time() - began < 1


@pytest.mark.parametrize("name", ["timeout", "retry_delay", "jitter"])
def test_a_time_without_end_is_no_option_of_a_step(name: str) -> None:
    given: dict[str, Any] = {name: float("inf")}
    with pytest.raises(InvalidOption, match=f"{name} is inf"):
        StepOptions(**given)


def test_very_many_attempts_may_back_off() -> None:
    assert StepOptions(retry=3000, backoff=True, max_delay=60).delays()[-1] == 60
