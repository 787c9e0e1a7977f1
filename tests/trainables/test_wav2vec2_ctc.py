"""One trial from its configuration to its tables, without Ray."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import torch
from conftest import small_rows, write_manifest
from transformers import Wav2Vec2ForCTC, Wav2Vec2Processor

from trainables import checkpoints, preflight
from trainables.errors import DataError
from trainables.wav2vec2_ctc import train_fn


class Session:
    """Keeps what is reported; asks for a stop once the given number of reports was made."""

    def __init__(self, stop_file: Path, stop_after: int | None = None) -> None:
        self.reports: list[dict[str, Any]] = []
        self.stop_file, self.stop_after = stop_file, stop_after

    def report(self, metrics: Mapping[str, Any]) -> None:
        self.reports.append(dict(metrics))
        if self.stop_after == len(self.reports):
            self.stop_file.touch()


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    manifest = write_manifest(folder / "manifest.csv", small_rows(folder))
    return preflight.prepare(str(manifest), folder / "stores", [{"model_type": "tiny"}], ["group"]).path


def job(store: Path, folder: Path, **model: Any) -> dict[str, Any]:
    return {
        "trial_id": "mean-s1-00000000",
        "axes": {"reduction": "mean", "seed": 1},
        "sections": {
            "Trainer Arguments": {
                "seed": 1, "per_device_train_batch_size": 4, "num_train_epochs": 3, "learning_rate": 3e-3,
                "eval_strategy": "epoch", "save_strategy": "epoch", "logging_steps": 1, "warmup_steps": 0.1,
            },
            "Training Configuration": {"test_set": "test", "micro_batch_seconds": 4.0, "save_model": True},
            "Model Configuration": {
                "model_type": "tiny", "pretrained_model_name": None, "reduction": "mean", "ctc_zero_infinity": True,
                "freeze_feature_extractor": False, **model,
            },
        },
        "groups": ["group"],
        "store": str(store),
        "folder": str(folder),
        "tensorboard": str(folder / "tensorboard"),
        "stop_file": str(folder / "stop"),
        "threads": 1,
    }  # fmt: skip


def run(config: dict[str, Any], stop_after: int | None = None) -> tuple[str, Session]:
    session = Session(Path(config["stop_file"]), stop_after)
    return train_fn(config, session), session


def table(folder: Path, name: str) -> list[dict[str, Any]]:
    return pyarrow.parquet.read_table(folder / f"{name}.parquet").to_pylist()


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Session]:
    folder = tmp_path_factory.mktemp("finished")
    status, session = run(job(store, folder))
    assert status == "done", (folder / "failure.json").read_text()
    return folder, session


def test_a_finished_trial_leaves_its_tables(finished: tuple[Path, Session]) -> None:
    folder, _ = finished
    result = json.loads((folder / "result.json").read_text())
    assert result["updates"] == 9
    assert set(result) >= {
        "wer",
        "cer",
        "nll_per_label",
        "wer/word",
        "wer/sentence",
        "clip_fraction",
        "padding_fraction",
    }
    rows = table(folder, "utterances")
    assert {(row["phase"], row["split"]) for row in rows} == {("initial", "test"), ("final", "test")}
    assert len(rows) == 8
    assert [row["update"] for row in table(folder, "history")] == list(range(1, 10))
    assert [row["update"] for row in table(folder, "history") if row["eval_wer"] is not None] == [3, 6, 9]
    assert not (folder / "checkpoints").exists()


def test_the_score_of_a_trial_is_that_of_its_utterances(finished: tuple[Path, Session]) -> None:
    folder, _ = finished
    rows = [row for row in table(folder, "utterances") if row["phase"] == "final"]
    errors = sum(row["substitutions"] + row["deletions"] + row["insertions"] for row in rows)
    words = sum(len(row["reference"].split()) for row in rows)
    assert json.loads((folder / "result.json").read_text())["wer"] == pytest.approx(errors / words)


def test_reports_are_plain_numbers(finished: tuple[Path, Session]) -> None:
    _, session = finished
    assert len(session.reports) == 4
    assert all(type(value) in (int, float) for report in session.reports for value in report.values())


def test_the_final_model_loads_as_any_checkpoint_does(
    finished: tuple[Path, Session], store: Path, tmp_path: Path
) -> None:
    folder, _ = finished
    model = Wav2Vec2ForCTC.from_pretrained(folder / "model")
    processor = Wav2Vec2Processor.from_pretrained(folder / "model")
    assert model.config.vocab_size == len(processor.tokenizer)
    assert processor.tokenizer.pad_token_id == model.config.pad_token_id


def test_an_interrupted_trial_goes_on_to_the_same_result_bit_for_bit(
    finished: tuple[Path, Session], store: Path, tmp_path: Path
) -> None:
    config = job(store, tmp_path)
    status, _ = run(config, stop_after=1)
    assert status == "interrupted"
    assert not (tmp_path / "result.json").exists()
    assert checkpoints.newest(tmp_path / "checkpoints") is not None
    Path(config["stop_file"]).unlink()
    assert run(config)[0] == "done"
    for name in ("history", "utterances"):
        assert table(tmp_path, name) == table(finished[0], name)
    measured = ("wer", "nll_per_label", "clip_fraction", "grad_norm", "padding_fraction", "updates")
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (tmp_path, finished[0]))
    assert {name: one[name] for name in measured} == {name: other[name] for name in measured}
    assert json.loads((tmp_path / "attempts.json").read_text()) == {"attempts": 2}


def test_a_torn_checkpoint_is_not_gone_on_from(store: Path, tmp_path: Path) -> None:
    config = job(store, tmp_path)
    run(config, stop_after=2)
    whole, _ = checkpoints.newest(tmp_path / "checkpoints") or (None, None)
    assert whole is not None
    torn = whole.with_name("checkpoint-999")
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    assert (checkpoints.newest(tmp_path / "checkpoints") or (None,))[0] == whole


def test_a_trial_that_fails_leaves_its_error(store: Path, tmp_path: Path) -> None:
    config = job(store, tmp_path, model_type="base", pretrained_model_name=str(tmp_path / "nowhere"))
    assert run(config)[0] == "failed"
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert "nowhere" in failure["error"]
    assert "Traceback" in failure["traceback"]


def test_a_pretrained_checkpoint_by_path_starts_where_it_was_saved(finished, store: Path, tmp_path: Path) -> None:
    """The initial scores of `base` on a saved model are the final scores of the trial that saved it."""
    trained, _ = finished
    config = job(store, tmp_path, model_type="base", pretrained_model_name=str(trained / "model"))
    assert run(config)[0] == "done", (tmp_path / "failure.json").read_text()
    before = [row["loss"] for row in table(trained, "utterances") if row["phase"] == "final"]
    after = [row["loss"] for row in table(tmp_path, "utterances") if row["phase"] == "initial"]
    assert after == pytest.approx(before, rel=1e-5)


def test_a_frozen_feature_extractor_keeps_its_weights(finished, store: Path, tmp_path: Path) -> None:
    trained, _ = finished
    config = job(
        store, tmp_path, model_type="base", pretrained_model_name=str(trained / "model"), freeze_feature_extractor=True
    )
    assert run(config)[0] == "done"
    one, other = (Wav2Vec2ForCTC.from_pretrained(folder / "model").state_dict() for folder in (trained, tmp_path))
    same = {name: torch.equal(one[name], other[name]) for name in one}
    assert all(equal for name, equal in same.items() if "feature_extractor" in name)
    assert not all(same.values())


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda folder: (folder / "vocab.json").unlink(), "has no vocab.json"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "whisper"}'), "'whisper' model"),
        (lambda folder: (folder / "vocab.json").write_text("{}"), "CTC blank"),
    ],
)
def test_a_checkpoint_that_cannot_be_used_is_told_before_training(finished, tmp_path: Path, break_it, message) -> None:
    import shutil

    folder = tmp_path / "model"
    shutil.copytree(finished[0] / "model", folder)
    break_it(folder)
    manifest = write_manifest(tmp_path / "manifest.csv", small_rows(tmp_path))
    with pytest.raises(DataError, match=message):
        preflight.prepare(
            str(manifest),
            tmp_path / "stores",
            [{"model_type": "base", "pretrained_model_name": str(folder)}],
            ["group"],
        )


def test_two_group_columns_that_share_a_value_are_refused(tmp_path: Path) -> None:
    rows = [{**row, "kind": "word"} for row in small_rows(tmp_path)]
    manifest = write_manifest(tmp_path / "manifest.csv", rows)
    with pytest.raises(DataError, match="both hold 'word'"):
        preflight.prepare(str(manifest), tmp_path / "stores", [{"model_type": "tiny"}], ["group", "kind"])
    with pytest.raises(DataError, match="no column severity"):
        preflight.prepare(str(manifest), tmp_path / "stores", [{"model_type": "tiny"}], ["severity"])
