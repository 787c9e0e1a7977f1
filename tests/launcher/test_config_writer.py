"""Promise of launcher.config_writer: what it writes loads to an equal configuration, whatever the values hold."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.config import Configuration, load
from launcher.config_schema import MODEL, TRAINER, TRAINING, keys

words = st.one_of(st.text(min_size=1, max_size=12), st.text("a,;#$\"'\\u0 ()[]~./=:%{}1", min_size=1, max_size=12))
texts = words.filter(lambda text: "\0" not in text and not any("\ud800" <= mark <= "\udfff" for mark in text))
axis = st.lists(texts, min_size=1, max_size=3, unique=True)
numbers = st.floats(1e-9, 1e9)
#: A value of each type of lossgrid's own keys, beside plain numbers and truths.
own_values = st.fixed_dictionaries(
    {},
    optional={
        f"{TRAINING}.load_model": st.one_of(st.none(), texts, st.sampled_from(["True", "false", "None"])),
        f"{TRAINING}.save_results": st.one_of(st.none(), texts),
        f"{TRAINING}.debug_dataset": st.one_of(st.none(), st.floats(1e-9, 1)),
        f"{TRAINING}.filter_controls": st.booleans(),
        f"{TRAINING}.filter_datasets": st.lists(texts, max_size=3),
        f"{TRAINING}.l2_speakers": st.lists(st.sampled_from(["None", "False", "1..3", "a]", "a", "[b"]), max_size=3),
        f"{TRAINING}.early_stopping": st.integers(0, 9),
        f"{TRAINING}.test_set": st.sampled_from(["validation", "test", "both"]),
        f"{MODEL}.model_type": st.one_of(texts, st.sampled_from(["wav2vec", "True"])),
        f"{MODEL}.task_weight": st.one_of(st.none(), st.tuples(numbers, st.floats(0, 1))),
        f"{MODEL}.dataset_loss_weighting": st.one_of(st.none(), st.lists(numbers, min_size=2, max_size=4)),
        f"{MODEL}.domaincls_loc": st.one_of(st.none(), st.integers(1, 24), st.just("encoder")),
        f"{MODEL}.classes": st.one_of(st.none(), texts, st.sampled_from(["task", "speakers", "False"])),
        f"{MODEL}.branch_layers": st.one_of(st.none(), st.integers(0, 24)),
        f"{MODEL}.gradient_reversal_lambda": st.one_of(st.none(), numbers),
    },
)
words_axis = st.lists(
    st.lists(texts, max_size=2).map(lambda words: tuple(sorted(set(words)))), min_size=1, max_size=3, unique=True
)
weights_axis = st.lists(st.one_of(st.none(), st.tuples(numbers, numbers)), min_size=1, max_size=3, unique=True)


@settings(max_examples=150, deadline=None)
@given(
    texts,
    texts,
    axis,
    axis,
    st.lists(texts, min_size=1, max_size=2, unique=True),
    st.floats(1e-9, 1e9),
    texts,
)
def test_what_is_written_loads_to_an_equal_configuration(
    tmp_path_factory: pytest.TempPathFactory,
    run_name: str,
    reduction: str,
    reductions: list[str],
    run_names: list[str],
    groups: list[str],
    rate: float,
    baseline: str,
) -> None:
    single = load(None).with_values(
        {
            f"{TRAINER}.run_name": run_name,
            f"{TRAINER}.learning_rate": rate,
            f"{TRAINER}.label_names": [run_name, "labels"],
            f"{TRAINER}.lr_scheduler_kwargs": {run_name: [rate, None, True]},
            f"{TRAINER}.eval_steps": None,
            f"{MODEL}.reduction": reduction,
        }
    )
    study = Configuration(
        trainer_arguments=single.trainer_arguments,
        training=single.training,
        model=single.model,
        axes={f"{MODEL}.reduction": tuple(reductions), f"{TRAINER}.run_name": tuple(run_names)},
        baseline=baseline,
        groups=tuple(groups),
    )
    path = tmp_path_factory.getbasetemp() / "written.conf"
    path.write_text(study.to_conf(), encoding="utf-8", newline="\n")
    again = load(path)
    assert again == study
    assert again.warnings == ()


@settings(max_examples=100, deadline=None)
@given(own_values, words_axis, weights_axis)
def test_every_own_key_is_written_and_read_back(
    tmp_path_factory: pytest.TempPathFactory,
    values: dict[str, Any],
    corpora: list[tuple[str, ...]],
    weights: list[tuple[float, float] | None],
) -> None:
    axes = {f"{TRAINING}.filter_datasets": tuple(corpora), f"{MODEL}.task_weight": tuple(weights)}
    study = dataclasses.replace(load(None).with_values(values), axes=axes)
    path = tmp_path_factory.getbasetemp() / "own.conf"
    path.write_text(study.to_conf(), encoding="utf-8", newline="\n")
    again = load(path)
    assert again == study
    assert again.warnings == ()
    assert again.as_dict() == study.as_dict()


def test_every_own_key_stands_in_the_file(tmp_path: Path) -> None:
    text = load(None).to_conf()
    for section in (TRAINING, MODEL):
        for key in keys(section):
            assert f"\n{key} = " in text.partition(f"[{section}]")[2]


def test_marks_inside_json_do_no_harm(tmp_path: Path) -> None:
    hostile = ['a"]', "b], [c", "\\", '\\"', "#;$", "{"]
    study = dataclasses.replace(load(None), axes={f"{TRAINER}.label_names": (hostile, ["x"], None)})
    path = tmp_path / "json.conf"
    path.write_text(study.to_conf(), encoding="utf-8", newline="\n")
    assert load(path) == study
