"""What tests of whole trials without Ray share: a small store, a job on it, runs that end or stop, and their tables."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from conftest import small_rows, write_manifest

from trainables import preflight
from trainables.wav2vec2_ctc import train_fn


class Session:
    """Keeps what is reported; asks for a stop once the given number of reports was made."""

    def __init__(self, stop_file: Path | None = None, stop_after: int = 1) -> None:
        self.reports: list[dict[str, Any]] = []
        self.stop_file, self.stop_after = stop_file, stop_after

    def report(self, metrics: Mapping[str, Any]) -> None:
        self.reports.append(dict(metrics))
        if self.stop_file is not None and self.stop_after == len(self.reports):
            self.stop_file.touch()


def small_store(factory: pytest.TempPathFactory, *model_types: str) -> Path:
    """Prepare words and sentences of three speakers for models of the given types (without any: tiny)."""
    folder = factory.mktemp("corpus")
    manifest = write_manifest(folder / "manifest.csv", small_rows(folder))
    models = [{"model_type": name} for name in model_types or ("tiny",)]
    return preflight.prepare(str(manifest), folder / "stores", models, ["group"]).path


def job(
    store: Path, folder: Path, arguments: Mapping[str, Any] | None = None, training: Mapping[str, Any] | None = None,
    model: Mapping[str, Any] | None = None, **more: Any,
) -> dict[str, Any]:  # fmt: skip
    """Configure a tiny model for three epochs of three updates each, with the given keys of each section instead.

    `more` replaces what a trial is told beside its sections: its folder, its groups, where it logs.
    """
    return {
        "trial_id": "mean-s1-00000000",
        "axes": {"seed": 1},
        "sections": {
            "Trainer Arguments": {
                "seed": 1, "per_device_train_batch_size": 4, "num_train_epochs": 3, "learning_rate": 3e-3,
                "eval_strategy": "epoch", "save_strategy": "epoch", "logging_steps": 1, **(arguments or {}),
            },
            "Training Configuration": {
                "test_set": "test", "micro_batch_seconds": 4.0, "save_model": True, **(training or {}),
            },
            "Model Configuration": {
                "model_type": "tiny", "reduction": "mean", "ctc_zero_infinity": True, "freeze_feature_extractor": False,
                **(model or {}),
            },
        },
        "groups": ["group"],
        "store": str(store),
        "folder": str(folder),
        "tensorboard": None,
        "stop_file": str(folder / "stop"),
        "threads": 1,
        **more,
    }  # fmt: skip


def run(configuration: Mapping[str, Any], expected: str = "done", session: Session | None = None) -> dict[str, Any]:
    """Run a trial that ends as expected.

    Returns:
        its `result.json`; {} where it was not to be done.
    """
    folder = Path(configuration["folder"])
    status = train_fn(configuration, session or Session())
    failure = folder / "failure.json"
    assert status == expected, failure.read_text() if failure.is_file() else status
    return json.loads((folder / "result.json").read_text()) if status == "done" else {}


def interrupt(configuration: Mapping[str, Any], after: int = 1) -> None:
    """Run a trial that is asked to stop behind its first reports; run again, it goes on."""
    stop_file = Path(configuration["stop_file"])
    run(configuration, "interrupted", Session(stop_file, after))
    stop_file.unlink()


def error(folder: Path) -> str:
    """Read what a failed trial says."""
    return json.loads((folder / "failure.json").read_text())["error"]


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Read a table of a trial, a row each."""
    return pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()


def losses(folder: Path, phase: str) -> dict[str, float]:
    """Read the loss of each utterance before ("initial") or after ("final") training."""
    return {row["utt_id"]: row["loss"] for row in table(folder, "utterances") if row["phase"] == phase}
