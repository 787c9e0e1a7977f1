"""Each key of [Training Configuration] does what it says, in a whole trial without Ray."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
from trials import error, interrupt, job, losses, run, small_store, table

from trainables import preflight, weights
from trainables.errors import DataError


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, store: Path) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("trained")
    return folder, run(job(store, folder))


def test_a_loaded_model_that_is_only_measured_scores_as_when_it_was_saved(trained, store, tmp_path) -> None:
    folder, before = trained
    after = run(job(store, tmp_path, {"do_train": False}, {"load_model": str(folder / "model")}))
    assert {name: after[name] for name in ("wer", "cer", "nll_per_label")} == pytest.approx(
        {name: before[name] for name in ("wer", "cer", "nll_per_label")}, rel=1e-6
    )
    assert (after["updates"], before["updates"]) == (0, 9)
    assert {row["phase"] for row in table(tmp_path, "utterances")} == {"final"}
    assert not (tmp_path / "model").exists()


def test_training_goes_on_from_a_loaded_model(trained, store, tmp_path) -> None:
    folder, _ = trained
    run(job(store, tmp_path, {"num_train_epochs": 1}, {"load_model": str(folder / "model")}))
    assert losses(tmp_path, "initial") == pytest.approx(losses(folder, "final"), rel=1e-6)


def test_a_checkpoint_of_a_half_trained_model_can_be_loaded(store, tmp_path) -> None:
    interrupt(job(store, tmp_path / "half"))
    (checkpoint,) = (tmp_path / "half" / "checkpoints").glob("checkpoint-*")
    result = run(job(store, tmp_path / "again", {"do_train": False}, {"load_model": str(checkpoint)}))
    assert result["wer"] is not None


def test_both_splits_are_scored_together_and_apart(trained, store, tmp_path) -> None:
    folder, _ = trained
    configuration = job(store, tmp_path, {"do_train": False}, {"load_model": str(folder / "model"), "test_set": "both"})
    result = run({**configuration, "groups": ["group", "split"]})
    rows = table(tmp_path, "utterances")
    assert {row["split"] for row in rows} == {"validation", "test"}
    errors = {
        split: sum(row["substitutions"] + row["deletions"] + row["insertions"] for row in rows if row["split"] == split)
        for split in ("validation", "test")
    }
    words = {
        split: sum(row["substitutions"] + row["deletions"] + row["hits"] for row in rows if row["split"] == split)
        for split in ("validation", "test")
    }
    assert result["wer/test"] == pytest.approx(errors["test"] / words["test"])
    assert result["wer"] == pytest.approx(sum(errors.values()) / sum(words.values()))


def test_without_evaluation_there_is_a_model_and_a_history_and_no_score(store, tmp_path) -> None:
    result = run(job(store, tmp_path, {"do_eval": False, "eval_strategy": "no", "num_train_epochs": 1}))
    assert "wer" not in result
    assert result["updates"] == 3
    assert (tmp_path / "model" / "model.safetensors").is_file()
    assert len(table(tmp_path, "history")) == 3
    assert table(tmp_path, "utterances") == []


# So small a learning rate never improves the score by enough to count, so large a one makes it worse at once.
STOPS = {"learning_rate": 0.5, "num_train_epochs": 8, "load_best_model_at_end": True, "max_grad_norm": 0.0}


def test_early_stopping_ends_training_and_keeps_the_best_model(store, tmp_path) -> None:
    result = run(job(store, tmp_path, STOPS, {"early_stopping": 2, "test_set": "validation"}))
    scores = [row["eval_nll_per_label"] for row in table(tmp_path, "history") if row["eval_nll_per_label"] is not None]
    assert result["stopped_early"]
    assert len(scores) == scores.index(min(scores)) + 1 + 2
    assert result["nll_per_label"] == pytest.approx(min(scores), rel=1e-6)


@pytest.mark.slow
def test_an_interrupted_trial_stops_early_where_it_would_have_stopped(store, tmp_path) -> None:
    keys = {"early_stopping": 2, "test_set": "validation"}
    whole = run(job(store, tmp_path / "whole", STOPS, keys))
    cut = job(store, tmp_path / "cut", STOPS, keys)
    interrupt(cut)
    again = run(cut)
    assert {name: again[name] for name in ("updates", "wer", "nll_per_label", "stopped_early")} == {
        name: whole[name] for name in ("updates", "wer", "nll_per_label", "stopped_early")
    }


@pytest.mark.slow
def test_a_trial_that_died_behind_its_early_end_ends_as_it_would_have(store, tmp_path, monkeypatch) -> None:
    keys = {"early_stopping": 2, "test_set": "validation"}
    whole = run(job(store, tmp_path / "whole", STOPS, keys))
    cut = job(store, tmp_path / "cut", STOPS, keys)
    with monkeypatch.context() as patched:  # the process dies once training is over: nothing of its end is written
        patched.setattr("trainables.scoring.Scorer.final", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(cut)
    assert not (tmp_path / "cut" / "result.json").is_file()
    again = run(cut)
    assert {name: again[name] for name in ("updates", "wer", "nll_per_label", "stopped_early")} == {
        name: whole[name] for name in ("updates", "wer", "nll_per_label", "stopped_early")
    }
    assert whole["updates"] < 24
    assert table(tmp_path / "whole", "history") == table(tmp_path / "cut", "history")


def test_the_best_model_cannot_be_chosen_by_what_is_not_measured(store, tmp_path) -> None:
    configuration = job(store, tmp_path, {"metric_for_best_model": "bleu"}, {"early_stopping": 1})
    run(configuration, "failed")
    assert "metric_for_best_model = 'bleu' is not measured; there are: cer" in error(tmp_path)


def test_only_a_fraction_of_each_split_is_used_for_debugging(store, tmp_path) -> None:
    run(job(store, tmp_path, {"num_train_epochs": 1}, {"debug_dataset": 0.01, "test_set": "validation"}))
    whole = preflight.Store.open(store).columns(["split", "speaker"])
    speakers = {speaker for speaker, split in zip(whole["speaker"], whole["split"]) if split == "validation"}
    assert len([row for row in table(tmp_path, "utterances") if row["phase"] == "final"]) == len(speakers)


def test_gradient_checkpointing_changes_no_number(trained, store, tmp_path) -> None:
    result = run(job(store, tmp_path, {"gradient_checkpointing": True}))
    assert result["nll_per_label"] == pytest.approx(trained[1]["nll_per_label"], rel=1e-5)


def test_filters_that_leave_nothing_are_told_before_any_trial(store) -> None:
    sections = job(store, store, training={"filter_datasets": ["corpus"], "test_set": "validation"})["sections"]
    with pytest.raises(DataError, match=r"no such corpus|nothing is left|no usable utterance"):
        preflight.ready(str(store), store, [sections], ["group"])


def test_columns_that_hold_no_classes_are_refused_before_any_trial(store, tmp_path) -> None:
    sections = job(store, tmp_path)["sections"]
    for column in ("samples", "duration_seconds"):
        with pytest.raises(DataError, match=f"{column} is no column of classes; choose among .*speaker"):
            preflight.ready(str(store), tmp_path, [sections], ["group", column])


def test_an_audit_of_a_split_that_is_not_there_is_refused_before_any_trial(store, tmp_path) -> None:
    sections = job(store, tmp_path, training={"audit": True, "audit_split": "development"})["sections"]
    with pytest.raises(DataError, match="audit_split = development: the data have no usable utterance"):
        preflight.ready(str(store), tmp_path, [sections], ["group"])


def test_the_settings_of_a_checkpoint_are_part_of_its_content(trained, tmp_path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(trained[0] / "model", folder)
    before = weights.hash_of(str(folder))
    assert before == weights.hash_of(str(trained[0] / "model"))
    settings = folder / "processor_config.json"
    settings.write_text(settings.read_text().replace('"do_normalize": true', '"do_normalize": false'))
    assert weights.hash_of(str(folder)) != before


def test_a_checkpoint_is_known_by_its_content(trained, store, tmp_path) -> None:
    folder, _ = trained
    sections = job(store, tmp_path, training={"load_model": str(folder / "model")})["sections"]
    ready = preflight.ready(str(store), tmp_path, [sections], ["group"])
    assert ready.weights == {str(folder / "model"): weights.hash_of(str(folder / "model"))}
    assert weights.hash_of(str(folder / "model")) != weights.hash_of(str(folder))
    assert weights.hash_of("facebook/wav2vec2-base-960h") is None


def test_a_key_of_another_model_type_is_told_to_have_no_effect(store, tmp_path) -> None:
    sections = job(store, tmp_path)["sections"]
    sections["Model Configuration"]["task_weight"] = (0.7, 0.3)
    (note,) = preflight.ready(str(store), tmp_path, [sections], ["group"]).notes
    assert note == "task_weight = (0.7, 0.3) has no effect with model_type = tiny; it belongs to multitask_aux"


def test_a_task_group_that_nothing_looks_at_is_told(store, tmp_path) -> None:
    sections = job(store, tmp_path)["sections"]
    sections["Model Configuration"] |= {"model_type": "multitask_aux", "task_group": "speaker"}
    (note,) = preflight.ready(str(store), tmp_path, [sections], ["group"]).notes
    assert note.startswith("task_group = 'speaker' has no effect in supervised training")
