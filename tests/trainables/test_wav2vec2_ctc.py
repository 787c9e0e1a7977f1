"""One trial from its configuration to its tables, without Ray."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import trials
from conftest import small_rows, write_manifest
from transformers import TrainingArguments, Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC, Wav2Vec2Processor
from trials import Session, interrupt, losses, run, table

from trainables import checkpoints, model_setup, preflight
from trainables.corpora.store import Store
from trainables.errors import DataError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trials.small_store(tmp_path_factory)


def job(store: Path, folder: Path, **model: Any) -> dict[str, Any]:
    return trials.job(
        store, folder, {"warmup_steps": 0.1}, model={"pretrained_model_name": None, **model},
        axes={"reduction": "mean", "seed": 1}, tensorboard=str(folder / "tensorboard"),
    )  # fmt: skip


@pytest.fixture(scope="module")
def finished(store: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Session]:
    folder = tmp_path_factory.mktemp("finished")
    session = Session()
    run(job(store, folder), session=session)
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
    assert all(row["grad_norm"] > 0 for row in rows)
    assert len({row["grad_norm"] for row in rows}) == 8
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
    interrupt(config)
    assert not (tmp_path / "result.json").exists()
    assert checkpoints.newest(tmp_path / "checkpoints") is not None
    run(config)
    for name in ("history", "utterances"):
        assert table(tmp_path, name) == table(finished[0], name)
    measured = ("wer", "nll_per_label", "clip_fraction", "grad_norm", "padding_fraction", "updates")
    one, other = (json.loads((folder / "result.json").read_text()) for folder in (tmp_path, finished[0]))
    assert {name: one[name] for name in measured} == {name: other[name] for name in measured}
    attempts = json.loads((tmp_path / "attempts.json").read_text())
    assert (attempts["attempts"], attempts["open"], attempts["ended"]) == (2, False, [])


def test_a_torn_checkpoint_is_not_gone_on_from(store: Path, tmp_path: Path) -> None:
    config = job(store, tmp_path)
    interrupt(config, after=2)
    whole, _ = checkpoints.newest(tmp_path / "checkpoints") or (None, None)
    assert whole is not None
    torn = whole.with_name("checkpoint-999")
    torn.mkdir()
    (torn / "model.safetensors").write_bytes(b"half")
    assert (checkpoints.newest(tmp_path / "checkpoints") or (None,))[0] == whole


def test_a_trial_that_fails_leaves_its_error(store: Path, tmp_path: Path) -> None:
    config = job(store, tmp_path, model_type="base", pretrained_model_name=str(tmp_path / "nowhere"))
    run(config, "failed")
    failure = json.loads((tmp_path / "failure.json").read_text())
    assert "nowhere" in failure["error"]
    assert "Traceback" in failure["traceback"]


def test_a_pretrained_checkpoint_by_path_starts_where_it_was_saved(finished, store: Path, tmp_path: Path) -> None:
    """The initial scores of `base` on a saved model are the final scores of the trial that saved it."""
    trained, _ = finished
    config = job(store, tmp_path, model_type="base", pretrained_model_name=str(trained / "model"))
    run(config)
    assert losses(tmp_path, "initial") == pytest.approx(losses(trained, "final"), rel=1e-5)


def test_a_frozen_feature_extractor_keeps_its_weights(finished, store: Path, tmp_path: Path) -> None:
    trained, _ = finished
    config = job(
        store, tmp_path, model_type="base", pretrained_model_name=str(trained / "model"), freeze_feature_extractor=True
    )
    run(config)
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


@pytest.fixture(scope="module")
def group_norm_checkpoint(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small checkpoint of the kind of wav2vec2-base-960h: group norm, no attention mask."""
    folder = tmp_path_factory.mktemp("group-norm")
    vocabulary = Store.open(store).vocabulary
    torch.manual_seed(0)
    config = Wav2Vec2Config(
        vocab_size=len(vocabulary), pad_token_id=vocabulary.blank, hidden_size=32, num_hidden_layers=1,
        num_attention_heads=2, intermediate_size=64, conv_dim=(16, 16, 16), conv_kernel=(10, 8, 8), conv_stride=(5, 8, 8),
        num_feat_extract_layers=3, feat_extract_norm="group", do_stable_layer_norm=False, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2, mask_time_prob=0.1, mask_time_length=4, layerdrop=0.0,
    )  # fmt: skip
    Wav2Vec2ForCTC(config).save_pretrained(folder)
    (folder / "vocab.json").write_text(vocabulary.as_json(), encoding="utf-8")
    Wav2Vec2FeatureExtractor(return_attention_mask=False).save_pretrained(folder)
    return folder


def test_a_model_without_attention_mask_is_scored_without_padding_and_says_what_padding_would_do(
    store: Path, tmp_path: Path, group_norm_checkpoint: Path
) -> None:
    config = job(store, tmp_path, model_type="base", pretrained_model_name=str(group_norm_checkpoint))
    run(config)
    result = json.loads((tmp_path / "result.json").read_text())
    assert abs(result["padding_effect/nll_per_label"]) > 0
    model = Wav2Vec2ForCTC.from_pretrained(tmp_path / "model").eval()
    opened = Store.open(store)
    columns = opened.columns(["utt_id", "transcript"])
    for row in table(tmp_path, "utterances"):
        if row["phase"] == "final":
            place = columns["utt_id"].index(row["utt_id"])
            audio = torch.from_numpy(opened.samples(place).astype("float32") / 32_768.0)
            alone = (audio - audio.mean()) / torch.sqrt(audio.var(unbiased=False) + 1e-7)
            labels = torch.tensor([opened.vocabulary.encode(columns["transcript"][place])])
            with torch.no_grad():
                expected = model(alone[None], labels=labels).loss
            assert row["loss"] == pytest.approx(float(expected), rel=1e-4)
            assert row["frames"] == int(model._get_feat_extract_output_lengths(torch.tensor(len(audio))))


def test_time_masks_do_not_depend_on_the_micro_batch(store: Path, tmp_path: Path, group_norm_checkpoint: Path) -> None:
    drawn = []
    for budget in (60.0, 0.1):
        config = job(store, tmp_path / str(budget), model_type="tiny", mask_time_prob=0.3, mask_time_length=4)
        config["sections"]["Training Configuration"]["micro_batch_seconds"] = budget
        run(config)
        drawn.append([row["loss"] for row in table(tmp_path / str(budget), "history")])
    assert drawn[0] == pytest.approx(drawn[1], rel=1e-4)
    without = run_losses(store, tmp_path / "without")
    assert without != pytest.approx(drawn[0], rel=1e-2)


def run_losses(store: Path, folder: Path, **arguments: Any) -> list[float]:
    config = job(store, folder)
    config["sections"]["Trainer Arguments"].update(arguments)
    run(config)
    return [row["loss"] for row in table(folder, "history")]


@pytest.mark.slow
def test_half_precision_keeps_losses_in_float32_and_close(finished, store: Path, tmp_path: Path) -> None:
    half = run_losses(store, tmp_path, bf16=True)
    whole = [row["loss"] for row in table(finished[0], "history")]
    assert half[0] == pytest.approx(whole[0], rel=0.02)
    assert half != whole


@pytest.mark.slow
def test_full_determinism_runs(store: Path, tmp_path: Path) -> None:
    try:
        first = run_losses(store, tmp_path / "a", full_determinism=True)
        assert first == run_losses(store, tmp_path / "b", full_determinism=True)
    finally:
        torch.use_deterministic_algorithms(False)


def test_a_stateful_reduction_goes_on_from_its_checkpoint_bit_for_bit(store: Path, tmp_path: Path) -> None:
    settings = {"reduction": "ctc_dro(eta=0.01, alpha=0.1, batch_frames=100)", "match_step": True}
    whole, parts = job(store, tmp_path / "whole", **settings), job(store, tmp_path / "parts", **settings)
    run(whole)
    interrupt(parts, after=2)
    run(parts)
    rows = table(tmp_path / "whole", "history")
    assert rows == table(tmp_path / "parts", "history")
    assert rows[-1]["group_weight/word"] != rows[0]["group_weight/word"]


def test_a_worker_has_the_threads_that_it_was_given_and_says_so(finished, store: Path, tmp_path: Path) -> None:
    before = torch.get_num_threads()
    try:
        result = run({**job(store, tmp_path), "threads": 2})
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert result["threads"] == 2
    assert json.loads((finished[0] / "result.json").read_text())["threads"] == 1


def test_a_process_that_sees_several_gpus_trains_on_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DataParallel cuts a batch and averages what an update sums."""

    def sees_four(arguments: TrainingArguments) -> torch.device:
        arguments._n_gpu = 4
        return torch.device("cpu")

    monkeypatch.setattr(TrainingArguments, "_setup_devices", property(sees_four))
    arguments = model_setup.training_arguments({"per_device_train_batch_size": 8}, tmp_path)
    assert (arguments.n_gpu, arguments.train_batch_size) == (1, 8)
