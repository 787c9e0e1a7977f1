"""Attempts at a trial that break off: what is noted, what the next one does, and that the result is the same."""

from __future__ import annotations

import errno
import fcntl
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import disks
import pytest
import torch
from transformers import Wav2Vec2ForCTC
from trials import Session, error, interrupt, job, run, small_store, table

from trainables import attempts, checkpoints, failures
from trainables.errors import DataError
from trainables.wav2vec2_ctc import train_fn

MEASURED = ("wer", "nll_per_label", "grad_norm", "updates", "clip_fraction")


class Breaking(Session):
    """Raises at a report: the trial breaks off in the middle of its training."""

    def __init__(self, raised: BaseException, at: int = 2) -> None:
        super().__init__()
        self.raised, self.at = raised, at

    def report(self, metrics) -> None:
        super().report(metrics)
        if len(self.reports) == self.at:
            raise self.raised


class Touching(Session):
    """Makes a file at the first report."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    def report(self, metrics) -> None:
        self.path.touch()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory)


@pytest.fixture(scope="module")
def undisturbed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    run(job(store, folder))
    return folder


def ended(folder: Path) -> list[str]:
    return [entry["class"] for entry in attempts.read(folder)["ended"]]


def assert_equal(folder: Path, other: Path) -> None:
    for name in ("history", "utterances"):
        assert table(folder, name) == table(other, name)
    one, two = (json.loads((path / "result.json").read_text()) for path in (folder, other))
    assert {name: one[name] for name in MEASURED} == {name: two[name] for name in MEASURED}


def test_a_trial_that_broke_off_goes_on_from_its_checkpoint_to_the_same_result(store, undisturbed, tmp_path) -> None:
    run(job(store, tmp_path), "broken off", Breaking(ValueError("a passing fault")))
    assert not (tmp_path / "failure.json").exists()
    assert checkpoints.newest(tmp_path / "checkpoints") is not None
    assert run(job(store, tmp_path))["resumed"]
    assert ended(tmp_path) == ["error"]
    assert_equal(tmp_path, undisturbed)


def test_the_time_of_every_attempt_is_noted_whatever_ended_it(store: Path, tmp_path: Path) -> None:
    run(job(store, tmp_path, launch="one"), "broken off", Breaking(ValueError("a passing fault"), 1))
    interrupt(job(store, tmp_path, launch="two"))
    with pytest.raises(KeyboardInterrupt):
        train_fn(job(store, tmp_path, launch="three"), Breaking(KeyboardInterrupt(), 1))
    killed = attempts.read(tmp_path)
    heard = datetime.fromisoformat(json.loads((tmp_path / "progress.json").read_text())["at"])
    result = run(job(store, tmp_path, launch="four"))
    times = attempts.read(tmp_path)["took"]
    assert [(entry["attempt"], entry["workers"]) for entry in times] == [(1, 1), (2, 1), (3, 1), (4, 1)]
    assert all(entry["seconds"] > 0 for entry in times)
    assert times[2]["seconds"] == (heard - datetime.fromisoformat(killed["started"])).total_seconds()
    assert times[3]["seconds"] >= result["seconds"] - 0.01  # each is rounded to a millisecond


def test_an_attempt_that_was_killed_before_a_sign_of_it_has_no_time(store: Path, tmp_path: Path) -> None:
    interrupt(job(store, tmp_path))
    attempts.begin(tmp_path, "killed before its first update")
    run(job(store, tmp_path, launch="next"))
    assert [entry["attempt"] for entry in attempts.read(tmp_path)["took"]] == [1, 3]


def test_the_same_error_twice_in_a_launch_is_a_failure(store: Path, tmp_path: Path) -> None:
    configuration = job(store, tmp_path, launch="one")
    run(configuration, "broken off", Breaking(ValueError("a lasting fault"), 1))
    run(configuration, "failed", Breaking(ValueError("a lasting fault"), 1))
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert (failure["class"], failure["error"]) == ("error", "ValueError: a lasting fault")
    run(job(store, tmp_path, launch="two"), "broken off", Breaking(ValueError("again"), 1))


@pytest.mark.parametrize(
    ("raised", "kind"), [(DataError("no"), "wrong request"), (torch.OutOfMemoryError("CUDA"), None)]
)
def test_only_what_can_end_better_gets_another_attempt(store: Path, tmp_path: Path, raised, kind: str | None) -> None:
    assert train_fn(job(store, tmp_path), Breaking(raised)) == ("failed" if kind else "broken off")
    assert ended(tmp_path) == [kind or "out of memory"]


def test_a_trial_that_diverged_is_not_tried_again_and_says_when_it_did(store: Path, tmp_path: Path) -> None:
    run(job(store, tmp_path, {"learning_rate": 1e30}), "failed")
    assert ended(tmp_path) == ["diverged"]
    assert "diverged at update" in error(tmp_path)


def test_a_full_disk_is_not_the_failure_of_the_trial(store: Path, undisturbed: Path, tmp_path: Path) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")
    run(job(store, tmp_path), "broken off", Breaking(full))
    assert ended(tmp_path) == ["storage"]
    run(job(store, tmp_path))
    assert_equal(tmp_path, undisturbed)


def test_an_attempt_that_cannot_be_counted_says_why_to_whoever_asked_for_it(store: Path, tmp_path: Path) -> None:
    configuration = job(store, tmp_path / "disk" / "trial", launch="one")
    with disks.small_disk(tmp_path / "disk", "64k") as disk:
        (disk / "trial").mkdir()
        (disk / "trial" / ".lock").touch()
        filler = disks.fill(disk)
        with pytest.raises(OSError, match="No space left"):
            train_fn(configuration, Session())
        assert attempts.read(disk / "trial")["attempts"] == 0
        filler.unlink()
        assert attempts.begin(disk / "trial", "one") == 0


def test_a_killed_process_leaves_its_attempt_open_and_the_next_one_notes_it(store, undisturbed, tmp_path) -> None:
    with pytest.raises(KeyboardInterrupt):  # as little is written as if it had been killed
        train_fn(job(store, tmp_path, launch="one"), Breaking(KeyboardInterrupt()))
    assert attempts.read(tmp_path)["open"]
    run(job(store, tmp_path, launch="two"))
    assert ended(tmp_path) == ["launch ended"]
    assert_equal(tmp_path, undisturbed)


def short_of_memory(monkeypatch: pytest.MonkeyPatch, samples: int) -> None:
    """Let training raise what a full device raises once a micro-batch has more samples."""
    forward = Wav2Vec2ForCTC.forward

    def limited(self: Any, input_values: torch.Tensor, *words: Any, **named: Any) -> Any:
        output = forward(self, input_values, *words, **named)
        if self.training and input_values.numel() > samples:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return output

    monkeypatch.setattr(Wav2Vec2ForCTC, "forward", limited)


@pytest.mark.parametrize("reduction", ["mean", "ctc_dro"])
def test_where_memory_runs_out_the_same_update_is_made_of_halves(store, tmp_path, monkeypatch, reduction: str) -> None:
    model = {"reduction": reduction, "hidden_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0,
             "activation_dropout": 0.0, "layerdrop": 0.0, "final_dropout": 0.0}  # fmt: skip
    run(job(store, tmp_path / "roomy", model=model))
    short_of_memory(monkeypatch, 40_000)
    measured = run(job(store, tmp_path / "tight", model=model))
    assert measured["out_of_memory"] >= 1
    roomy, tight = (table(tmp_path / name, "history") for name in ("roomy", "tight"))
    for name in ("loss", "grad_norm", "nll_per_label"):
        assert [row[name] for row in tight] == pytest.approx([row[name] for row in roomy], rel=1e-4)
    assert ended(tmp_path / "tight") == []


def test_a_single_utterance_that_is_too_large_ends_the_trial_in_the_end(store, tmp_path, monkeypatch) -> None:
    short_of_memory(monkeypatch, 100)
    configuration = job(store, tmp_path)
    for _ in range(6):
        run(configuration, "broken off")
    run(configuration, "failed")
    assert "out of memory" in error(tmp_path)


def test_after_a_kill_for_memory_micro_batches_are_smaller_and_the_gradients_the_same(
    store, undisturbed, tmp_path
) -> None:
    entry = {"attempt": 1, "launch": "one", "class": "out of memory", "error": "", "time": ""}
    tmp_path.joinpath("attempts.json").write_text(json.dumps({"attempts": 1, "ended": [entry]}))
    run(job(store, tmp_path))
    ours, theirs = table(tmp_path, "history"), table(undisturbed, "history")
    assert [row["padding_fraction"] for row in ours] != [row["padding_fraction"] for row in theirs]
    # Dropout draws other numbers for other micro-batches: the first losses are near, not equal.
    assert ours[0]["loss"] == pytest.approx(theirs[0]["loss"], rel=0.05)


def test_a_pruned_trial_keeps_its_checkpoint_and_can_go_on_to_the_same_result(store, undisturbed, tmp_path) -> None:
    run(job(store, tmp_path), "pruned", Touching(tmp_path / "prune"))
    pruned = json.loads((tmp_path / "pruned.json").read_text())
    assert (pruned["status"], pruned["updates"]) == ("pruned", 4)  # behind the first evaluation
    assert pruned["nll_per_label"] == table(tmp_path, "history")[2]["eval_nll_per_label"]
    run(job(store, tmp_path))
    assert not (tmp_path / "pruned.json").exists()
    assert_equal(tmp_path, undisturbed)


class Draining(Session):
    """Lets the node of the trial be taken away behind its first report."""

    def __init__(self, folder: Path, error: BaseException | None = None) -> None:
        super().__init__()
        self.folder, self.error = folder, error

    def report(self, metrics: Any) -> None:
        if not self.reports:
            told = {"node": "10.0.0.3", "until": "2026-11-23T12:00:00+00:00"}
            (self.folder / "drain.json").write_text(json.dumps(told))
            if self.error is not None:
                raise self.error
        super().report(metrics)


def test_a_trial_leaves_a_node_that_is_taken_away_and_goes_on_to_the_same_result(store, undisturbed, tmp_path) -> None:
    run(job(store, tmp_path), "preempted", Draining(tmp_path))
    newest = checkpoints.newest(tmp_path / "checkpoints")
    assert newest is not None
    record = attempts.read(tmp_path)
    assert not record["open"]
    (entry,) = record["ended"]
    assert entry["class"] == "preempted"
    update = newest[0].name.rpartition("-")[2]
    assert entry["error"] == (
        f"node 10.0.0.3 is taken away at 2026-11-23T12:00:00+00:00; went behind the checkpoint of update {update}"
    )
    assert run(job(store, tmp_path))["resumed"]  # the wish of then does not stop it again
    assert not (tmp_path / "drain.json").exists()
    assert_equal(tmp_path, undisturbed)


def test_a_worker_that_loses_another_to_a_node_that_is_taken_away_is_not_charged(store, tmp_path) -> None:
    for _ in range(failures.RETRIES[failures.LOST] + 2):
        run(job(store, tmp_path, launch="one"), "broken off", Draining(tmp_path, ConnectionResetError("by peer")))
    assert set(ended(tmp_path)) == {"preempted"}
    assert not (tmp_path / "failure.json").exists()


def test_two_processes_do_not_work_on_one_trial(store: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(attempts, "_WAIT_SECONDS", -1.0)
    with (tmp_path / ".lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match="still in use by a process of an earlier launch"):
            train_fn(job(store, tmp_path), Session())
    run(job(store, tmp_path))


def test_an_evaluation_is_not_lost_between_the_save_and_the_end_of_an_epoch(store: Path, tmp_path: Path) -> None:
    every = {"save_strategy": "steps", "save_steps": 1, "eval_strategy": "epoch"}
    run(job(store, tmp_path / "whole", every))
    with pytest.raises(KeyboardInterrupt):
        train_fn(job(store, tmp_path / "killed", every), Breaking(KeyboardInterrupt(), 1))
    run(job(store, tmp_path / "killed", every))
    assert_equal(tmp_path / "killed", tmp_path / "whole")


def test_an_interruption_is_no_failure(store: Path, tmp_path: Path) -> None:
    interrupt(job(store, tmp_path))
    assert ended(tmp_path) == []
    assert not attempts.read(tmp_path)["open"]


def test_a_trial_whose_last_file_was_written_drops_what_it_no_longer_needs(store: Path, tmp_path: Path) -> None:
    (tmp_path / "result.json").write_text("{}")
    (tmp_path / "checkpoints" / "checkpoint-3").mkdir(parents=True)
    for name in ("progress.json", ".history.parquet.7.part"):
        (tmp_path / name).touch()
    assert train_fn(job(store, tmp_path), Session()) == "done"
    assert {path.name for path in tmp_path.iterdir()} == {"result.json", ".lock"}


def test_a_record_of_attempts_that_is_damaged_says_what_to_do(store: Path, tmp_path: Path) -> None:
    (tmp_path / "attempts.json").touch()
    with pytest.raises(DataError, match=r"attempts\.json is damaged .*; remove it, and the trial goes on"):
        train_fn(job(store, tmp_path), Session())
