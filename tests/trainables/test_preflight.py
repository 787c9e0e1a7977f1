"""A study needs of the data what its trials use, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import trials
from conftest import small_rows, write_manifest

from trainables import preflight
from trainables.errors import DataError

MEASURES = {"do_train": False}
AUDIT = {"audit": True, "audit_split": "test", "audit_utterances": 2000, "audit_exact": 0}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that a trial has saved."""
    folder = tmp_path_factory.mktemp("trained")
    trials.run(trials.job(trials.small_store(tmp_path_factory), folder / "trial", {"num_train_epochs": 1}))
    return folder / "trial" / "model"


def only(folder: Path, split: str) -> str:
    rows = [{**row, "split": split} for row in small_rows(folder)]
    return str(write_manifest(folder / f"{split}.csv", rows))


def sections(folder: Path, arguments: dict[str, Any], **training: Any) -> dict[str, Any]:
    return trials.job(folder, folder, arguments, training)["sections"]


def test_a_trial_that_only_scores_needs_the_split_that_it_scores_and_no_other(trained: Path, tmp_path: Path) -> None:
    asked = sections(tmp_path, MEASURES, load_model=str(trained), test_set="test")
    ready = preflight.ready(only(tmp_path, "test"), tmp_path / "stores", [asked], ["group"])
    assert ready.description["utterances"] == 20
    result = trials.run(trials.job(ready.path, tmp_path / "trial", MEASURES, {"load_model": str(trained)}))
    assert result["wer"] is not None
    with pytest.raises(
        DataError, match="no usable utterance in the split validation; they have: test; name one of these"
    ):
        preflight.ready(
            only(tmp_path, "test"), tmp_path / "stores",
            [sections(tmp_path, MEASURES, load_model=str(trained), test_set="both")], ["group"],
        )  # fmt: skip


def test_an_audit_needs_the_split_that_it_measures_and_no_other(trained: Path, tmp_path: Path) -> None:
    arguments = {**MEASURES, "do_eval": False}
    asked = {"load_model": str(trained), **AUDIT}
    ready = preflight.ready(
        only(tmp_path, "test"), tmp_path / "stores", [sections(tmp_path, arguments, **asked)], ["group"]
    )
    configuration = trials.job(ready.path, tmp_path / "trial", arguments, asked, reductions=["sum", "mean"])
    trials.run(configuration)
    assert {row["reduction"] for row in trials.table(tmp_path / "trial", "shares")} >= {"sum", "mean"}
    wrong = sections(tmp_path, arguments, **{**asked, "audit_split": "train"})
    with pytest.raises(DataError, match="audit_split = train: the data have no usable utterance in that split"):
        preflight.ready(only(tmp_path, "test"), tmp_path / "stores", [wrong], ["group"])


def test_a_study_with_one_trial_that_trains_needs_both_splits(trained: Path, tmp_path: Path) -> None:
    both = [sections(tmp_path, MEASURES, load_model=str(trained)), sections(tmp_path, {})]
    with pytest.raises(DataError, match=r"no usable utterance in the split 'train'.*needed: train and validation"):
        preflight.ready(only(tmp_path, "test"), tmp_path / "stores", both, ["group"])


def test_data_that_a_measurement_prepared_are_still_checked_by_a_study_that_trains(
    trained: Path, tmp_path: Path
) -> None:
    source = only(tmp_path, "test")
    preflight.ready(source, tmp_path / "stores", [sections(tmp_path, MEASURES, load_model=str(trained))], ["group"])
    with pytest.raises(DataError, match="no usable utterance in the split 'train'"):
        preflight.ready(source, tmp_path / "stores", [sections(tmp_path, {}, load_model=str(trained))], ["group"])


def test_labels_of_a_model_from_scratch_need_training_utterances(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no utterance has the split 'train', and a model that starts from scratch"):
        preflight.ready(only(tmp_path, "test"), tmp_path / "stores", [sections(tmp_path, MEASURES)], ["group"])


def test_a_named_split_does_not_need_those_of_the_manifest(tmp_path: Path) -> None:
    rows = [{**row, "split": "train", "prompt_id": row["utt_id"]} for row in small_rows(tmp_path, train=45)]
    manifest = str(write_manifest(tmp_path / "manifest.csv", rows))
    ready = preflight.ready(manifest, tmp_path / "stores", [sections(tmp_path, {}, split="dependent")], ["group"])
    assert [row["split"] for row in ready.description["counts"]] == ["train", "train"]
    trials.run(trials.job(ready.path, tmp_path / "trial", {"num_train_epochs": 1}, {"split": "dependent"}))
