"""What `doctor` says of a study's folder, its disk and the checkout; each thing found is really there."""

from __future__ import annotations

import fcntl
import json
import subprocess
from pathlib import Path

import pytest
import s3
from permissions import without_permission

from launcher import doctor_folder, places
from launcher.findings import FAULT, OK, WARNING
from tests.launcher.studies import ONE_ATTEMPT, locked, put


def a_study(folder: Path, *names: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    trials = [{"trial_id": name, "variant": "v", "seed": 1, "axes": {}, "configuration": {}} for name in names]
    content = {"study": "losses", "axes": {}, "groups": [], "data": {"fingerprint": "abc"}, "trials": trials}
    (folder / "study.json").write_text(json.dumps(content))
    return folder


def write(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def test_a_disk_that_does_what_results_need_is_well_and_nothing_is_left_there(tmp_path: Path) -> None:
    room, *done = doctor_folder.disk(tmp_path / "not" / "there" / "yet")
    assert {finding.level for finding in done} == {OK}
    assert "are free for" in room.text
    assert "wav2vec2-base" in room.text
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    with without_permission(tmp_path):
        (finding,) = doctor_folder.disk(tmp_path / "out")
    assert finding.level == FAULT
    assert "cannot be written to" in finding.text


def test_a_file_in_the_way_of_the_folder_is_a_fault(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (finding,) = doctor_folder.disk(tmp_path / "file" / "out")
    assert finding.level == FAULT
    assert f"{tmp_path / 'file'} is a file" in finding.text


def test_room_is_told_in_checkpoints() -> None:
    assert doctor_folder._in_words(4e9).startswith("room for 3 checkpoints the size of wav2vec2-base or 1 of")
    assert doctor_folder._in_words(1e8) == "no room for a checkpoint of wav2vec2-base"


def test_a_study_tells_what_became_of_its_trials_and_what_they_left(tmp_path: Path) -> None:
    folder = a_study(tmp_path / "out", "a", "b", "c", "d")
    write(folder / "trials" / "a" / "result.json", json.dumps({"status": "done"}))
    write(folder / "trials" / "b" / "failure.json", json.dumps({"error": "Diverged"}))
    write(folder / "trials" / "d" / "checkpoints" / "checkpoint-3" / "model.safetensors", "x" * 2_000_000)
    write(folder / "trials" / "d" / ".history.parquet.77.part", "half")
    state, failed, checkpoints, torn = doctor_folder.study(folder)
    assert state.text.startswith("losses: 4 trials: 1 done, 1 failed, ")
    assert state.text.endswith("nobody runs it now")
    assert (failed.level, failed.text) == (WARNING, "1 trials failed")
    assert checkpoints.text.startswith("checkpoints of 1 trials that are not done take 2 MB")
    assert torn.level == WARNING
    assert "trials/d/.history.parquet.77.part" in torn.text


def test_a_running_study_is_told_and_its_half_written_files_are_left_in_peace(tmp_path: Path) -> None:
    folder = a_study(tmp_path, "a")
    write(folder / ".report.html.1.part", "half")
    (folder / ".lock").write_text("process 123 on ward\n")
    with (folder / ".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (finding,) = doctor_folder.study(folder)
    assert finding.text.endswith("in use by process 123 on ward")
    state, torn = doctor_folder.study(folder)
    assert state.text.endswith("nobody runs it now")
    assert torn.level == WARNING


def test_a_damaged_trial_is_a_fault_and_hides_no_other(tmp_path: Path) -> None:
    folder = a_study(tmp_path, "a", "b")
    write(folder / "trials" / "a" / "result.json", '{"status": "do')
    write(folder / "trials" / "b" / "result.json", json.dumps({"status": "done"}))
    state, damaged = doctor_folder.study(folder)
    assert "1 unreadable, 1 done" in state.text
    assert damaged.level == FAULT


def test_a_checkout_tells_its_commit_and_how_many_files_differ(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        done = subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    assert "not run from a git checkout" in doctor_folder.git(tmp_path)[0].text
    git("init", "--quiet")
    assert doctor_folder.git(tmp_path)[0].level == WARNING  # no commit yet
    (tmp_path / "a").write_text("1")
    git("add", "a")
    git("commit", "--quiet", "-m", "first")
    sha = git("rev-parse", "--short=12", "HEAD")
    assert doctor_folder.git(tmp_path)[0].text == f"commit {sha}, unchanged"
    (tmp_path / "a").write_text("2")
    (tmp_path / "b").write_text("new")
    assert doctor_folder.git(tmp_path)[0].text == f"commit {sha}, 2 files differ: results carry a patch"


def test_a_trial_that_runs_is_not_called_interrupted(tmp_path: Path) -> None:
    folder = a_study(tmp_path, "a", "b")
    with locked(folder / ".lock"):
        put(folder, "a", attempts={**ONE_ATTEMPT, "open": True})
        (finding,) = doctor_folder.study(folder)
    assert "1 running, 1 pending; in use by process 7 on ward" in finding.text


def test_audio_that_is_decoded_already_is_not_called_half_written(tmp_path: Path) -> None:
    folder = a_study(tmp_path, "a")
    write(folder / "stores" / ".corpus-1a2b3c4d.part" / "audio" / "00000.arrow", "whole")
    (finding,) = doctor_folder.study(folder)
    assert finding.level == OK


def test_files_of_studies_in_the_checkout_are_no_change_of_the_code(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "first")
    a_study(tmp_path / "studies" / "first", "a")
    assert doctor_folder.git(tmp_path)[0].text.endswith(", unchanged")


def test_a_bucket_is_written_read_and_cleared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with s3.bucket() as bucket:
        with places.read(bucket.uri("study"), may_be_empty=True) as place:
            (found,) = doctor_folder.storage(place)
            assert (found.level, "can be written, read and cleared" in found.text) == (OK, True)
            assert bucket.keys() == []
            bucket.remove()
            (found,) = doctor_folder.storage(place)
        assert (found.level, "bucket does not exist" in found.text) == (FAULT, True)
