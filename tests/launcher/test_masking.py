"""What is kept, shown or sent without its secrets, by the launcher and by workers."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from launcher import masking
from trainables import masking as of_workers

SECRETS = [
    ("--set hub_token=S3CRET", "--set hub_token=***"),
    ("--set 'Trainer Arguments.hub_token = S3CRET S3CRET'", "--set 'Trainer Arguments.hub_token =***'"),
    ("RAY_AUTH_TOKEN=S3CRET python x", "RAY_AUTH_TOKEN=*** python x"),
    ("--api-key S3CRET --out y", "--api-key *** --out y"),
    ("--token=S3CRET", "--token=***"),
    ("AWS_SECRET_ACCESS_KEY=S3CRET key=S3CRET db_password=S3CRET", "AWS_SECRET_ACCESS_KEY=*** key=*** db_password=***"),
    ("--data s3://user:S3CRET/S3CRET@bucket/x", "--data s3://user:***@bucket/x"),
    ("--data 'https://h/x?X-Amz-Signature=S3CRET&part=2'", "--data 'https://h/x?X-Amz-Signature=***&part=2'"),
]
HARMLESS = (
    "python launch.py --set reduction=token_mean,sum --set monkey=1 --data https://h:80/x --out a=b --set seed=1,2"
)


@pytest.mark.parametrize(("given", "kept"), SECRETS)
def test_secrets_of_a_command_line_are_not_kept(given: str, kept: str) -> None:
    hidden = masking.without_secrets(given)
    assert "S3CRET" not in hidden
    assert shlex.split(hidden) == shlex.split(kept)
    assert masking.without_secrets(hidden) == hidden


def test_a_command_line_without_secrets_stays_as_it_is() -> None:
    assert masking.without_secrets(HARMLESS) == HARMLESS


def test_passwords_in_addresses_are_hidden_inside_json_and_nothing_else_is() -> None:
    text = '{"a": "s3://u:S3CRET@b", "c": ["x@y", "https://h:80/x", "m?access_key=S3CRET"], "d": "r@s"}'
    assert masking.without_passwords(text) == text.replace("S3CRET", "***")


@pytest.mark.parametrize(("text", "kept"), [
    ("s3://KEY:S3/CR ET@bucket/x gives no bucket", "s3://KEY:***@bucket/x gives no bucket"),
    ("s3://KEY:S3@CR@bucket/x", "s3://KEY:***@bucket/x"),
    ("s3://KEY:12345S3CRET@bucket", "s3://KEY:***@bucket"),
    ("s3://KEY:12/S3CRET@bucket", "s3://KEY:***@bucket"),
    ("tcp://10.0.0.1:6379 for me@here", "tcp://10.0.0.1:6379 for me@here"),
    ("ray://h:10001, me@here", "ray://h:10001, me@here"),
    ("s3://bucket/x: write to me@here", "s3://bucket/x: write to me@here"),
])  # fmt: skip
def test_a_password_that_was_not_encoded_is_hidden_and_ports_are_not(text: str, kept: str) -> None:
    assert masking.without_passwords(text) == kept


def test_keys_that_are_named_like_secrets_and_addresses_in_lists_are_hidden() -> None:
    assert masking.of_key("hub_token", "S3CRET") == masking.of_key("Trainer Arguments.hub_token", "S3CRET") == "***"
    assert masking.of_key("hub_token", None) is None
    assert masking.of_key("include_num_input_tokens_seen", True) is True
    assert masking.of_key("filter_datasets", ("a", "s3://k:S3CRET@b")) == ["a", "s3://k:***@b"]
    assert masking.of_key("kwargs", {"api_key": "S3CRET", "of": "https://h/?sig=S3CRET", "n": 3}) == {
        "api_key": "***", "of": "https://h/?sig=***", "n": 3,
    }  # fmt: skip


WORDS = ("://", "@", ":", "/", "?", "&", "=", " ", "\n", "'", '"', "80", "s3", "token", "KEY", "sig", "monkey", "é")


@given(st.lists(st.sampled_from(WORDS), max_size=12).map("".join))
@example("https://h/x?X-Amz-Signature=S3CRET&part=2")
def test_workers_hide_what_the_launcher_hides(text: str) -> None:
    assert of_workers.without_passwords(text) == masking.without_passwords(text)


def test_workers_have_the_rule_of_the_launcher() -> None:
    for name in ("_IN_ADDRESS", "_IN_QUERY", "_HIDDEN"):
        assert getattr(of_workers, name) == getattr(masking, name)
