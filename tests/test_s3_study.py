"""A whole study on a real S3 server: the tables of a local one, also when the machine it ran on is lost. Real Ray; slow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import s3
from launches import DEADLINE_SECONDS, STUDY, start

from benchmarks import chaos
from launcher import results

pytestmark = pytest.mark.ray
# The first is long enough for a worker to send (5 s) well before its end, with evaluations as far apart as Ray Train takes reports (0.5 s).
EPOCHS = ("--set", "num_train_epochs=200,5", "--set", "eval_strategy=steps", "--set", "eval_steps=20")
WORDS = (*STUDY, *EPOCHS, "--max-concurrent", "1")


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3.Bucket]:
    with s3.bucket() as made:
        yield made


@pytest.fixture(scope="module")
def undisturbed(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("local")
    process = start(folder / "out", data, *WORDS, "--backend", "tune")
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, stderr
    return folder / "out"


def launch(folder: Path, data: Path, uri: str, *words: str) -> tuple[int, str]:
    process = start(folder / "unused", data, *WORDS, *words, "--out", uri)
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, stderr


@pytest.mark.slow
def test_a_study_goes_on_on_another_machine_when_its_own_is_lost(
    bucket: s3.Bucket,
    data: Path,
    undisturbed: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    uri = bucket.uri("studies/lost")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "first"))
    process = start(tmp_path / "unused", data, *WORDS, "--backend", "tune", "--out", uri)
    while not [key for key in bucket.keys("studies/lost") if key.endswith("sealed.json")]:
        assert process.poll() is None, process.communicate()[1]
        process_is_over(process.pid, 0.05)
    kill_all(process.pid)
    process.communicate()
    shutil.rmtree(tmp_path / "first")
    finished = {key: bucket.read(f"studies/lost/{key}") for key in bucket.keys("studies/lost") if "result.json" in key}
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "second"))
    code, stderr = launch(tmp_path, data, uri, "--backend", "train")
    assert code == 0, stderr
    assert f"2 trials: {len(finished)} done, {2 - len(finished)} to run" in stderr
    assert {key: bucket.read(f"studies/lost/{key}") for key in finished} == finished
    assert chaos.compare(undisturbed, fetched(uri, tmp_path / "seen")) == []
    resumed = results.load(tmp_path / "seen").results["attempts"]
    assert sorted(resumed) == [1, 2]
    assert not [key for key in bucket.keys("studies/lost") if "/checkpoints/" in key or key == ".lock"]


@pytest.mark.cluster
def test_two_workers_of_ray_train_share_a_trial_there(
    bucket: s3.Bucket, data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    uri = bucket.uri("studies/two")
    process = start(tmp_path / "unused", data, *STUDY, "--workers", "2", "--out", uri)
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    assert process.returncode == 0, stderr
    (row,) = results.load(fetched(uri, tmp_path / "seen")).results.to_dict("records")
    assert (row["status"], row["workers"]) == ("done", 2)


def fetched(uri: str, folder: Path) -> Path:
    from launcher.mirror import Mirror

    Mirror(uri, folder).pull()
    return folder


def process_is_over(number: int, seconds: float) -> bool:
    """Wait a moment for the end of a process."""
    return bool(psutil.wait_procs([psutil.Process(number)], timeout=seconds)[0])


def kill_all(number: int) -> None:
    """End a launch and all that it started, as a power cut does."""
    for one in [*psutil.Process(number).children(recursive=True), psutil.Process(number)]:
        if one.is_running():
            one.kill()
