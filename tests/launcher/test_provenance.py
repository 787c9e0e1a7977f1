from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher import provenance
from trainables import versions

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
    hidden = provenance.without_secrets(given)
    assert "S3CRET" not in hidden
    assert shlex.split(hidden) == shlex.split(kept)
    assert provenance.without_secrets(hidden) == hidden


def test_a_command_line_without_secrets_stays_as_it_is() -> None:
    assert provenance.without_secrets(HARMLESS) == HARMLESS


def test_passwords_in_addresses_are_hidden_inside_json_and_nothing_else_is() -> None:
    text = '{"a": "s3://u:S3CRET@b", "c": ["x@y", "https://h:80/x", "m?access_key=S3CRET"], "d": "r@s"}'
    assert provenance.without_passwords(text) == text.replace("S3CRET", "***")


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
    assert provenance.without_passwords(text) == kept


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_launch_says_with_what_code_it_is_made_and_keeps_each_patch_once(tmp_path: Path) -> None:
    code, out = tmp_path / "code", tmp_path / "out"
    code.mkdir()
    (code / "a.py").write_text("one\n")
    for words in (("init", "-q"), ("add", "."), ("-c", "user.name=n", "-c", "user.email=n@x", "commit", "-qm", "m")):
        subprocess.run(["git", "-C", str(code), *words], check=True)
    clean = provenance.of_launch(out, "python x token=S3CRET", code=code)
    assert (clean["git_patch"], clean["git_problem"], clean["command"]) == (None, None, "python x 'token=***'")
    assert len(clean["git_sha"]) == 40
    assert not (out / "provenance").exists()
    (code / "a.py").write_text("two\n")
    first, second = (provenance.of_launch(out, "x", code=code) for _ in range(2))
    assert first["git_patch"] == second["git_patch"]
    (patch,) = (out / "provenance").iterdir()
    assert patch.name == first["git_patch"] == f"{hashlib.sha256(patch.read_bytes()).hexdigest()[:12]}.patch"
    assert {"ray", "torch", "transformers", "lossgrid"} <= set(first["packages"])


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_change_in_the_second_of_the_commit_that_keeps_the_size_of_the_file_is_seen(tmp_path: Path) -> None:
    code, then = tmp_path / "code", 1_000_000_000
    code.mkdir()
    (code / "a.py").write_text("one\n")
    os.utime(code / "a.py", (then, then))
    for words in (("init", "-q"), ("config", "core.trustctime", "false"), ("add", "."),
                  ("-c", "user.name=n", "-c", "user.email=n@x", "commit", "-qm", "m")):  # fmt: skip
        subprocess.run(["git", "-C", str(code), *words], check=True)
    (code / "a.py").write_text("two\n")
    os.utime(code / "a.py", (then, then))
    os.utime(code / ".git" / "index", (then, then))
    assert provenance.of_launch(tmp_path / "out", "x", code=code)["git_patch"]


def test_a_launch_whose_git_does_not_answer_says_so(tmp_path: Path) -> None:
    (tmp_path / ".git").write_text("gitdir: nowhere")
    made = provenance.of_launch(tmp_path / "out", "x", code=tmp_path)
    assert (made["git_sha"], made["git_patch"]) == (None, "unknown")
    assert made["git_problem"]


def test_launcher_and_workers_record_the_versions_of_the_same_packages() -> None:
    worker = versions.of_worker()["packages"]
    worker.pop("cuda", None)
    assert worker == provenance.packages()
