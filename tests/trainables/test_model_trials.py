"""Whole trials of models with branches and with a classifier, without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import trials
from safetensors.torch import load_file
from trials import error, interrupt, losses, run, table

BRANCHES = {"model_type": "multitask", "num_hidden_layers": 2, "branch_layers": 1, "reinitialize_last_n_layers": 1}
CLASSIFIER = {
    "model_type": "multitask_aux", "classes": "speaker", "domaincls_loc": "encoder", "gradient_reversal": True,
    "gradient_reversal_schedule": "dann", "training_type": "unsupervised", "task_weight": [0.6, 0.4],
}  # fmt: skip


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trials.small_store(tmp_path_factory, "multitask", "multitask_aux")


def job(store: Path, folder: Path, model: dict[str, Any], arguments: dict[str, Any] | None = None, **training: Any):
    few = {"per_device_train_batch_size": 6, "num_train_epochs": 2}
    return trials.job(store, folder, {**few, **(arguments or {})}, training, model)


@pytest.fixture(scope="module")
def branched(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("branched")
    assert run(job(store, folder, BRANCHES))["updates"] == 4
    return folder


@pytest.mark.slow
def test_an_interrupted_trial_with_branches_goes_on_to_the_same_model_bit_for_bit(branched, store, tmp_path) -> None:
    configuration = job(store, tmp_path, BRANCHES)
    interrupt(configuration)
    (half,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    run(job(store, tmp_path / "half", BRANCHES, {"do_train": False}, load_model=str(half)))
    run(configuration)
    one, other = (load_file(folder / "model" / "model.safetensors") for folder in (branched, tmp_path))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert losses(branched, "final") == losses(tmp_path, "final")


def test_a_trained_model_with_branches_is_scored_as_it_was_left(branched: Path, store: Path, tmp_path: Path) -> None:
    """Its fresh layers were drawn when it began: they are not drawn again."""
    run(job(store, tmp_path, BRANCHES, {"do_train": False}, load_model=str(branched / "model")))
    assert losses(tmp_path, "final") == pytest.approx(losses(branched, "final"), rel=1e-5)
    assert json.loads((branched / "model" / "config.json").read_text())["lossgrid_tasks"] == ["sentence", "word"]


def test_a_frozen_encoder_keeps_its_weights_while_branches_and_heads_are_trained(store: Path, tmp_path: Path) -> None:
    start = {**BRANCHES, "freeze_encoder": True}
    run(job(store, tmp_path / "one", start, {"num_train_epochs": 1}))
    run(job(store, tmp_path / "two", start))
    one, other = (load_file(tmp_path / name / "model" / "model.safetensors") for name in ("one", "two"))
    moved = {name for name in one if not torch.equal(one[name], other[name])}
    assert moved
    assert all(name.startswith(("branches.", "lm_heads.")) for name in moved)
    assert any(name.startswith("branches.0.layers.0.attention") for name in moved)


@pytest.mark.slow
def test_a_reversed_classifier_trains_in_half_precision_with_one_group_unsupervised(
    store: Path, tmp_path: Path
) -> None:
    weighing = {"reduction": "dataset_weighted(word=1.3, sentence=0.7)"}
    run(job(store, tmp_path, {**CLASSIFIER, **weighing}, {"bf16": True}))
    rows = table(tmp_path, "history")
    assert all(row["loss"] > 0 and row["nll_per_label"] > 0 for row in rows)
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (saved["lossgrid_classes"], saved["lossgrid_location"]) == (["s0", "s1", "s2"], "encoder")


def test_settings_that_do_not_fit_the_data_end_the_trial_with_one_message(store: Path, tmp_path: Path) -> None:
    run(job(store, tmp_path, {**BRANCHES, "branch_layers": 3}), "failed")
    assert error(tmp_path).startswith("DataError: branch_layers = 3, and the model has 2 transformer layers")
