"""A trial that died when its training was over goes on with its best model, also where its folder has moved."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from trials import Session, error, job, run, small_store

from trainables import attempts
from trainables.wav2vec2_ctc import train_fn

# `tiny` gets no word right in three epochs: the first evaluation stays the best.
BEST = {"load_best_model_at_end": True, "metric_for_best_model": "wer"}


class Dying(Session):
    """Is killed when the final scores are reported: training is over, nothing of its end is written."""

    def report(self, metrics) -> None:
        super().report(metrics)
        if len(self.reports) == 4:
            raise KeyboardInterrupt


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory)


@pytest.fixture(scope="module")
def killed(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[float]]:
    """The folder of the trial, and what its final scores were about to be."""
    folder, session = tmp_path_factory.mktemp("killed"), Dying()
    with pytest.raises(KeyboardInterrupt):
        train_fn(job(store, folder, BEST), session)
    return folder, [report["nll_per_label"] for report in session.reports]


def moved(killed: Path, folder: Path) -> Path:
    shutil.copytree(killed, folder, dirs_exist_ok=True)
    for state in folder.glob("checkpoints/*/trainer_state.json"):  # as if the old folder were gone
        text = state.read_text()
        assert str(killed) in text
        state.write_text(text.replace(str(killed), "/" + "x" * (len(str(killed)) - 1)))
    return folder


def test_the_best_model_is_found_where_the_folder_moved_to(store: Path, killed, tmp_path: Path) -> None:
    folder, reported = killed
    assert {path.name for path in folder.glob("checkpoints/*")} == {"checkpoint-3", "checkpoint-9"}  # best and last
    measured = run(job(store, moved(folder, tmp_path), BEST))
    assert measured["nll_per_label"] == reported[3]


def test_the_last_model_does_not_stand_in_for_the_best(store: Path, killed, tmp_path: Path) -> None:
    folder = moved(killed[0], tmp_path)
    (best,) = {Path(json.loads(state.read_text())["best_model_checkpoint"]).name
               for state in folder.glob("checkpoints/*/trainer_state.json")}  # fmt: skip
    shutil.rmtree(folder / "checkpoints" / best)
    run(job(store, folder, BEST), "failed")
    assert f"{best} is gone or damaged; it held the best model so far" in error(folder)
    assert [entry["class"] for entry in attempts.read(folder)["ended"]] == ["launch ended", "wrong request"]
