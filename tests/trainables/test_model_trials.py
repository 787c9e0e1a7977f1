"""Whole trials of models with branches and with a classifier, without Ray."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from conftest import small_rows, write_manifest
from safetensors.torch import load_file

from trainables import preflight
from trainables.wav2vec2_ctc import train_fn

BRANCHES = {"model_type": "multitask", "num_hidden_layers": 2, "branch_layers": 1, "reinitialize_last_n_layers": 1}
CLASSIFIER = {
    "model_type": "multitask_aux", "classes": "speaker", "domaincls_loc": "encoder", "gradient_reversal": True,
    "gradient_reversal_schedule": "dann", "training_type": "unsupervised", "task_weight": [0.6, 0.4],
}  # fmt: skip


class Session:
    """Asks for a stop after the first report, where it is told to."""

    def __init__(self, stop_file: Path | None = None) -> None:
        self.stop_file = stop_file

    def report(self, metrics: Any) -> None:
        if self.stop_file is not None:
            self.stop_file.touch()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    manifest = write_manifest(folder / "manifest.csv", small_rows(folder))
    models = [{"model_type": "multitask"}, {"model_type": "multitask_aux"}]
    return preflight.prepare(str(manifest), folder / "stores", models, ["group"]).path


def job(store: Path, folder: Path, model: dict[str, Any], arguments: dict[str, Any] | None = None, **training: Any):
    return {
        "trial_id": "t", "axes": {}, "groups": ["group"], "store": str(store), "folder": str(folder),
        "tensorboard": None, "stop_file": str(folder / "stop"), "threads": 1,
        "sections": {
            "Trainer Arguments": {
                "seed": 1, "per_device_train_batch_size": 6, "num_train_epochs": 2, "learning_rate": 3e-3,
                "eval_strategy": "epoch", "save_strategy": "epoch", "logging_steps": 1, **(arguments or {}),
            },
            "Training Configuration": {
                "test_set": "test", "micro_batch_seconds": 4.0, "save_model": True, **training,
            },
            "Model Configuration": {
                "reduction": "mean", "ctc_zero_infinity": True, "freeze_feature_extractor": False, **model,
            },
        },
    }  # fmt: skip


def run(configuration: dict[str, Any], expected: str = "done", stop: bool = False) -> dict[str, Any]:
    folder = Path(configuration["folder"])
    status = train_fn(configuration, Session(folder / "stop" if stop else None))
    failure = folder / "failure.json"
    assert status == expected, failure.read_text() if failure.is_file() else status
    return json.loads((folder / "result.json").read_text()) if status == "done" else {}


def losses(folder: Path, phase: str) -> list[float]:
    rows = pyarrow.parquet.read_table(folder / "utterances.parquet").to_pylist()
    return [row["loss"] for row in rows if row["phase"] == phase]


@pytest.fixture(scope="module")
def branched(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("branched")
    assert run(job(store, folder, BRANCHES))["updates"] == 4
    return folder


def test_an_interrupted_trial_with_branches_goes_on_to_the_same_model_bit_for_bit(branched, store, tmp_path) -> None:
    configuration = job(store, tmp_path, BRANCHES)
    run(configuration, expected="interrupted", stop=True)
    (half,) = (tmp_path / "checkpoints").glob("checkpoint-*")
    run(job(store, tmp_path / "half", BRANCHES, {"do_train": False}, load_model=str(half)))
    (tmp_path / "stop").unlink()
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


def test_a_reversed_classifier_trains_in_half_precision_with_one_group_unsupervised(
    store: Path, tmp_path: Path
) -> None:
    weighing = {"reduction": "dataset_weighted(word=1.3, sentence=0.7)"}
    run(job(store, tmp_path, {**CLASSIFIER, **weighing}, {"bf16": True}))
    rows = pyarrow.parquet.read_table(tmp_path / "history.parquet").to_pylist()
    assert all(row["loss"] > 0 and row["nll_per_label"] > 0 for row in rows)
    saved = json.loads((tmp_path / "model" / "config.json").read_text())
    assert (saved["lossgrid_classes"], saved["lossgrid_location"]) == (["s0", "s1", "s2"], "encoder")


def test_settings_that_do_not_fit_the_data_end_the_trial_with_one_message(store: Path, tmp_path: Path) -> None:
    run(job(store, tmp_path, {**BRANCHES, "branch_layers": 3}), expected="failed")
    error = json.loads((tmp_path / "failure.json").read_text())["error"]
    assert error.startswith("DataError: branch_layers = 3, and the model has 2 transformer layers")
