from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher import provenance
from trainables import versions


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
