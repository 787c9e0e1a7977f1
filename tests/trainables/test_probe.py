from __future__ import annotations

import json
from pathlib import Path

import pytest
import trials

from trainables import probe
from trainables.progress_file import ProgressFile


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trials.small_store(tmp_path_factory)


def test_a_probe_measures_each_part_of_a_trial_and_knows_how_much_of_it_there_is(store: Path, tmp_path: Path) -> None:
    found = probe.measure(trials.job(store, tmp_path / "trial", training={"audit": True}, spawned=0.0))
    assert (found["train_utterances"], found["updates_per_epoch"]) == (12, 3)
    assert (found["validation_utterances"], found["scored_utterances"], found["audited_utterances"]) == (4, 4, 12)
    assert len(found["update_seconds"]) == probe.UPDATES - 1
    assert all(seconds > 0 for seconds in (*found["update_seconds"], found["evaluation_seconds"]))
    (checkpoint,) = (tmp_path / "trial" / "checkpoints").iterdir()
    assert found["checkpoint_bytes"] == sum(path.stat().st_size for path in checkpoint.rglob("*"))
    assert found["peak_memory_bytes"] > found["checkpoint_bytes"] > found["model_bytes"] > 0


def test_a_trial_that_only_measures_is_probed_without_training(store: Path, tmp_path: Path) -> None:
    found = probe.measure(trials.job(store, tmp_path, {"do_train": False}, spawned=0.0))
    assert "update_seconds" not in found
    assert found["scored_utterances"] == 4
    assert found["evaluation_seconds"] > 0


def test_a_trial_that_is_not_scored_is_probed_too(store: Path, tmp_path: Path) -> None:
    found = probe.measure(trials.job(store, tmp_path, {"do_eval": False, "eval_strategy": "no"}, spawned=0.0))
    assert (found["evaluation_seconds"], found["scored_utterances"]) == (None, 0)


@pytest.mark.parametrize("count", [1, 3, 8, 9, 500])
def test_the_utterances_to_score_are_spread_from_short_to_long(count: int) -> None:
    chosen = probe._spread([float(number) for number in range(count)], 8)
    assert len(set(chosen)) == min(count, 8)
    mean = sum(chosen) / len(chosen)
    assert mean == pytest.approx((count - 1) / 2, abs=max(1.0, count / 50))


def test_progress_is_on_disk_while_a_trial_trains_and_gone_when_it_is_done(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict] = []
    write = ProgressFile._write

    def keep(self: ProgressFile, state: object) -> None:
        write(self, state)  # type: ignore[arg-type]
        written.append(json.loads(self.path.read_text()))

    monkeypatch.setattr(ProgressFile, "_write", keep)
    trials.run(trials.job(store, tmp_path))
    assert [(one["update"], one["updates"]) for one in written] == [(0, 9), (3, 9), (6, 9), (9, 9)]
    assert "wer" not in written[0]
    assert all("wer" in one for one in written[1:])
    assert not (tmp_path / "progress.json").exists()
