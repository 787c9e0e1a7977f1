"""An audit of any split weighs groups as training does: by the groups of the training set, and by their numbers there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trials
from conftest import small_rows, write_manifest

from trainables import preflight
from trainables.corpora.store import Store
from trainables.errors import DataError

AUDIT = {"audit": True, "audit_split": "test", "audit_utterances": 2000, "audit_exact": 0}
# Test: two words and two sentences. Training: six words, four sentences, two phrases, which the test split lacks.
TRAINED = {"word": 6, "sentence": 4, "phrase": 2}
BY_GROUP = {"group_balanced", "group_temperature", "group_dro", "ctc_dro", "gradient_balanced"}


def rows(folder: Path) -> list[dict[str, str]]:
    found = small_rows(folder)
    return [{**row, "group": "phrase"} if row["utt_id"] in ("train_1", "train_3") else row for row in found]


def sections(asked: dict[str, Any] | None = None, **training: Any) -> dict[str, Any]:
    return trials.job(Path(), Path(), {"do_train": False}, {**AUDIT, **training}, asked)["sections"]


def prepared(folder: Path, given: list[dict[str, str]], asked: dict[str, Any]) -> preflight.Ready:
    return preflight.ready(str(write_manifest(folder / "manifest.csv", given)), folder / "stores", [asked], ["group"])


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    folder = tmp_path_factory.mktemp("corpus")
    ready = prepared(folder, rows(folder), sections())
    assert not ready.notes
    return ready.store


def audited(store: Path, folder: Path, asked: dict[str, Any] | None = None, **training: Any) -> Path:
    trials.run(trials.job(store, folder, {"do_train": False}, {**AUDIT, **training}, asked))
    return folder


def shares(folder: Path, reduction: str) -> dict[str, float]:
    found = trials.table(folder, "shares")
    return {
        row["class"]: row["loss_share"] for row in found if (row["reduction"], row["column"]) == (reduction, "group")
    }


def names(folder: Path) -> set[str]:
    return {row["reduction"].partition("(")[0] for row in trials.table(folder, "shares")}


def expected(folder: Path, weight: dict[str, float], per_label: bool = False) -> dict[str, Any]:
    parts = dict.fromkeys(("sentence", "word"), 0.0)
    for row in trials.table(folder, "audit"):
        parts[row["group"]] += weight[row["group"]] * row["loss"] / (row["labels"] if per_label else 1)
    return {group: pytest.approx(part / sum(parts.values()), rel=1e-9) for group, part in parts.items()}


def test_groups_have_the_weight_that_their_number_in_training_gives_them(store, tmp_path) -> None:
    folder = audited(store.path, tmp_path / "trial")
    balanced = {group: 12 / (3 * number) for group, number in TRAINED.items()}
    assert shares(folder, "group_balanced") == expected(folder, balanced)
    tempered = {group: (number / 12) ** (1 / 5 - 1) for group, number in TRAINED.items()}
    assert shares(folder, "group_temperature(temperature=5)") == expected(folder, tempered)
    assert shares(folder, "group_balanced") != expected(folder, dict.fromkeys(TRAINED, 1.0))


def test_a_list_of_weights_belongs_to_the_classes_of_training_whichever_split_is_audited(store, tmp_path) -> None:
    asked = {"dataset_loss_weighting": [7.0, 0.5, 3.0]}
    folder = audited(store.path, tmp_path / "trial", asked)
    used = "dataset_weighted(phrase=7, sentence=0.5, word=3)"
    assert shares(folder, used) == expected(folder, {"sentence": 0.5, "word": 3.0}, per_label=True)


def test_what_training_knows_nothing_of_is_left_out_and_told(tmp_path) -> None:
    given = [row for row in rows(tmp_path) if (row["split"], row["group"]) != ("train", "sentence")]
    ready = prepared(tmp_path, given, sections())
    [note] = ready.notes
    assert note.startswith(
        "the audit of the split test leaves out reductions that weigh groups as the training set has"
    )
    assert "training has no utterance of sentence" in note
    folder = audited(ready.path, tmp_path / "trial")
    assert not names(folder) & BY_GROUP
    assert {"sum", "mean", "token_mean", "capped"} < names(folder)
    [summary] = [json.loads(path.read_text()) for path in (folder / "audits").glob("*/audit.json")]
    assert {name.partition("(")[0] for name in summary["left_out"]} == BY_GROUP


@pytest.mark.parametrize("reduction", ["group_balanced", "group_dro"])
def test_a_trial_that_weighs_groups_which_training_lacks_is_refused_before_it_starts(tmp_path, reduction) -> None:
    given = [row for row in rows(tmp_path) if (row["split"], row["group"]) != ("train", "sentence")]
    message = (
        rf"audit_split = test: reduction '{reduction}.*training has no utterance of sentence; audit a split of groups"
    )
    with pytest.raises(DataError, match=message):
        prepared(tmp_path, given, sections({"reduction": reduction}))


def test_without_training_data_only_weights_that_name_their_groups_are_audited(store, tmp_path) -> None:
    trials.run(trials.job(store.path, tmp_path / "trained", {"num_train_epochs": 1}))
    model = {"load_model": str(tmp_path / "trained" / "model")}
    given = [row for row in small_rows(tmp_path) if row["split"] == "test"]
    named = "dataset_weighted(sentence=0.5, word=3)"
    ready = prepared(tmp_path, given, sections({"reduction": named}, **model))
    assert "the data have no training utterances" in ready.notes[0]
    folder = audited(ready.path, tmp_path / "trial", {"reduction": named}, **model)
    assert not names(folder) & BY_GROUP
    assert shares(folder, named) == expected(folder, {"sentence": 0.5, "word": 3.0}, per_label=True)
    with pytest.raises(DataError, match=r"'group_balanced' weighs groups.*the data have no training utterances"):
        prepared(tmp_path, given, sections({"reduction": "group_balanced"}, **model))
