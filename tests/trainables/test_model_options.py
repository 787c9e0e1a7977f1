"""Classes and tasks follow from the data by name, and what cannot be built is told before any model is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from model_worlds import checkpoint

from trainables import model_options, variants
from trainables.corpora import store as stores
from trainables.corpora.contents import PREPARATION_VERSION
from trainables.corpora.store import Store
from trainables.errors import DataError
from trainables.model_options import ModelOptions, ordered

ROOT = Path(__file__).resolve().parents[2]
GROUPS = ("control", "dysarthric", "l2", "control")


def store(folder: Path, groups: dict[str, tuple[str, ...]], **columns: list[str]) -> Store:
    """A store without sound: one utterance for each group of each split."""
    cells = [(split, group) for split, names in groups.items() for group in names]
    rows = [
        {
            "utt_id": f"u{place}", "transcript": "A", "speaker": f"s{place % 3}", "corpus": "c", "group": group,
            "split": split, "audio": b"\0\0", "samples": 1, **{name: values[place] for name, values in columns.items()},
        }
        for place, (split, group) in enumerate(cells)
    ]  # fmt: skip
    description = {
        "fingerprint": "0", "vocabulary": ["<pad>", "A"], "utterances": len(rows), "hours": 0.0, "counts": [], "rejects": {},
        "rejects_by_group": {}, "preparation_version": PREPARATION_VERSION,
    }  # fmt: skip
    return stores.write(folder / "store", lambda: iter([rows]), list, lambda _: description)


def of(data: Store, model_type: str, training: dict[str, Any] | None = None, **settings: Any) -> ModelOptions:
    sections = {"Model Configuration": {"model_type": model_type, "num_hidden_layers": 3, **settings}}
    return model_options.of({**sections, "Training Configuration": training or {}}, data)


@pytest.fixture
def speech(tmp_path: Path) -> Store:
    return store(tmp_path, {"train": GROUPS, "validation": GROUPS})


def test_classes_are_dysarthric_l2_control_and_then_the_others_by_name() -> None:
    assert ordered(["zulu", "control", "Alpha", "l2", "dysarthric"]) == ("dysarthric", "l2", "control", "Alpha", "zulu")
    assert ordered(["word", "control"]) == ("control", "word")


def test_numbers_of_classes_do_not_depend_on_the_hash_seed() -> None:
    program = (
        "from trainables.model_options import *; names = ordered({'s%d' % n for n in range(40)} | {'l2', 'control'}); "
        "print(names, ModelOptions(classes=names).class_codes({'group': ['s7', 'control', '', None, 's31']}))"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program], cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(said) == 1


def test_plain_models_need_nothing_of_the_data(speech: Store) -> None:
    assert of(speech, "tiny") == ModelOptions()
    assert of(speech, "tiny").columns == ()


def test_each_class_of_the_training_set_is_a_task(speech: Store) -> None:
    options = of(speech, "multitask", reinitialize_last_n_layers=2)
    assert options.tasks == ("dysarthric", "l2", "control")
    assert (options.branch_layers, options.reinitialized_layers, options.columns) == (2, 2, ("group",))
    assert options.task_codes({"group": ["l2", "control", "dysarthric"]}) == [1, 2, 0]
    assert of(speech, "multitask", reinitialize_last_n_layers=1, branch_layers=3).branch_layers == 3
    assert of(speech, "multitask").branch_layers == 0


def test_control_counts_as_dysarthric_where_that_is_asked_for(speech: Store) -> None:
    options = of(speech, "multitask", no_control_layer=True)
    assert options.tasks == ("dysarthric", "l2")
    assert options.task_codes({"group": ["l2", "control", "dysarthric"]}) == [1, 0, 0]
    assert of(speech, "multitask_aux", no_control_layer=True).classes == ("dysarthric", "l2")


def test_a_zero_shot_split_trains_the_branch_of_the_dysarthric_with_the_controls(tmp_path: Path) -> None:
    """In the original, the branch that wrote the dysarthric speech was one that no utterance had trained."""
    data = store(tmp_path, {"train": ("control", "l2"), "validation": ("dysarthric",)})
    assert of(data, "multitask", no_control_layer=True).tasks == ("dysarthric", "l2")
    with pytest.raises(DataError, match="branches for l2, control and the column group also holds 'dysarthric'"):
        of(data, "multitask")


def test_merging_controls_without_a_class_dysarthric_is_refused_with_the_classes_there_are(tmp_path: Path) -> None:
    data = store(tmp_path, {"train": ("word", "control"), "validation": ("word",)})
    with pytest.raises(DataError, match="no class dysarthric; it has: control, word"):
        of(data, "multitask", no_control_layer=True)


def test_classes_may_be_those_of_any_column_and_missing_ones_have_no_number(tmp_path: Path) -> None:
    groups = {"train": GROUPS, "validation": ("l2",)}
    data = store(tmp_path, groups, severity=["", "high", "low", "", "unheard of"])
    options = of(data, "multitask_aux", classes="severity")
    assert (options.classes, options.columns) == (("high", "low"), ("severity",))
    assert options.class_codes({"severity": ["low", "", None, "high", "unheard of"]}) == [1, -1, -1, 0, -1]
    assert of(data, "multitask_aux", classes="speaker").classes == ("s0", "s1", "s2")


def test_an_empty_task_is_refused(tmp_path: Path) -> None:
    data = store(tmp_path, {"train": ("a", "b"), "validation": ("a",)}, kind=["x", "", "x"])
    with pytest.raises(DataError, match="branches for x and the column kind also holds ''; fill or leave out"):
        of(data, "multitask", task_group="kind")
    with pytest.raises(DataError, match="no column nothing"):
        of(data, "multitask", task_group="nothing")


def test_the_first_task_is_the_one_that_is_not_supervised(speech: Store, tmp_path: Path) -> None:
    options = of(speech, "multitask_aux", training_type="unsupervised", classes="speaker")
    assert (options.unsupervised_task, options.classes) == ("dysarthric", ("s0", "s1", "s2"))
    assert options.columns == ("group", "speaker")
    assert options.unsupervised({"group": ["l2", "dysarthric", "control"]}) == [False, True, False]
    merged = of(speech, "multitask_aux", training_type="unsupervised", no_control_layer=True)
    assert merged.unsupervised({"group": ["l2", "dysarthric", "control"]}) == [False, True, True]
    alone = store(tmp_path / "alone", {"train": ("a", "a"), "validation": ("a",)})
    with pytest.raises(DataError, match=r"leaves no utterance with a CTC loss.* one class, a"):
        of(alone, "multitask_aux", training_type="unsupervised", classes="speaker")


def test_a_classifier_of_one_class_is_refused(tmp_path: Path) -> None:
    data = store(tmp_path, {"train": ("a", "a"), "validation": ("b",)})
    with pytest.raises(DataError, match="two classes or more, and the column group has a in the training set"):
        of(data, "multitask_aux")


def test_utterances_that_are_filtered_out_give_no_class(speech: Store) -> None:
    assert of(speech, "multitask", {"filter_controls": True}).tasks == ("dysarthric", "l2")


def test_a_model_that_is_only_scored_has_the_classes_that_it_was_trained_with(tmp_path: Path) -> None:
    from model_worlds import VOCABULARY

    from trainables.models import multitask

    name = checkpoint(tmp_path / "start")
    trained = multitask.build(VOCABULARY, {}, name, ModelOptions(tasks=("dysarthric", "l2"), branch_layers=1))
    trained.save_pretrained(tmp_path / "trained")
    data = store(tmp_path, {"train": ("l2",), "validation": ("l2", "dysarthric")})
    sections = {
        "Model Configuration": {"model_type": "multitask", "branch_layers": 1, "reinitialize_last_n_layers": 1},
        "Training Configuration": {"load_model": str(tmp_path / "trained")},
    }
    scored = {**sections, "Trainer Arguments": {"do_train": False}}
    assert model_options.of(scored, data).tasks == ("dysarthric", "l2")
    assert model_options.of(scored, data).reinitialized_layers == 0
    with pytest.raises(DataError, match="branches for l2 and the column group also holds 'dysarthric'"):
        model_options.of(sections, data)


def test_settings_that_contradict_each_other_or_do_nothing_are_refused(speech: Store) -> None:
    with pytest.raises(DataError, match="freeze_encoder = True would keep the 1 layers"):
        of(speech, "tiny", freeze_encoder=True, reinitialize_last_n_layers=1)
    assert of(speech, "multitask", freeze_encoder=True, reinitialize_last_n_layers=1).reinitialized_layers == 1
    with pytest.raises(DataError, match="no_control_layer = True has no effect with classes = speaker"):
        of(speech, "multitask_aux", no_control_layer=True, classes="speaker")
    with pytest.raises(DataError, match=r"domaincls_loc = 4: choose extractor, encoder, final or .* from 1 to 3"):
        of(speech, "multitask_aux", domaincls_loc=4)
    with pytest.raises(DataError, match=r"branch_layers = 4.* has 3 transformer layers"):
        of(speech, "multitask", branch_layers=4)


@pytest.mark.parametrize("name", variants.names("trainables.models"))
def test_every_model_names_the_keys_that_it_acts_on(name: str) -> None:
    assert variants.load("trainables.models", name).KEYS <= model_options.KEYS


def test_every_key_belongs_to_a_model() -> None:
    acted_on = set().union(*(variants.load("trainables.models", n).KEYS for n in variants.names("trainables.models")))
    assert acted_on == model_options.KEYS
