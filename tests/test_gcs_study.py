"""A whole study on a server of Google Cloud Storage, from a store that was prepared there: the tables of a local one. Slow: real Ray."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import gcs
import pytest
from conftest import small_rows, write_manifest
from launches import DEADLINE_SECONDS, ROOT, STUDY, environment

from benchmarks import chaos
from launcher import results
from launcher.mirror import Mirror

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.fixture(scope="module")
def bucket() -> Iterator[gcs.Bucket]:
    with gcs.bucket() as made:
        yield made


def test_a_store_and_a_study_there_are_those_of_a_folder(bucket: gcs.Bucket, tmp_path: Path) -> None:
    data = write_manifest(tmp_path / "manifest.csv", small_rows(tmp_path))
    words = (*STUDY, "--set", "learning_rate=0.003,0.002", "--backend", "tune")
    store, study = bucket.uri("stores/small"), bucket.uri("studies/first")
    command(tmp_path, "prepare", "manifest", str(data), "--out", store)
    command(tmp_path, "--grid", "losses", "--data", store, "--out", str(tmp_path / "local"), *words)
    there = command(tmp_path, "--grid", "losses", "--data", store, "--out", study, *words)
    assert "2 trials: 0 done, 2 to run" in there.stderr
    Mirror(study, tmp_path / "seen").pull()
    assert list(results.load(tmp_path / "seen").results["status"]) == ["done", "done"]
    assert chaos.compare(tmp_path / "local", tmp_path / "seen") == []
    assert command(tmp_path, "status", study).stdout.count(" done ") == 2
    again = command(tmp_path, "--grid", "losses", "--data", store, "--out", study, *words)
    assert "2 trials: 2 done, 0 to run" in again.stderr
    left = bucket.keys("studies/first")
    assert not [key for key in left if "/checkpoints/" in key or key == ".lock"]


def command(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), *words], env=environment(folder / "home"), cwd=ROOT, capture_output=True,
        text=True, timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done
