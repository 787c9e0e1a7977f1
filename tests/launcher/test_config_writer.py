"""Promise of launcher.config_writer: what it writes loads to an equal configuration, whatever the values hold."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from launcher.config import Configuration, load
from launcher.config_schema import MODEL, TRAINER

words = st.one_of(st.text(min_size=1, max_size=12), st.text("a,;#$\"'\\u0 ()[]~./=:%{}1", min_size=1, max_size=12))
texts = words.filter(lambda text: "\0" not in text and not any("\ud800" <= mark <= "\udfff" for mark in text))
axis = st.lists(texts.filter(lambda text: text not in ("wav2vec", "wav2vec2")), min_size=1, max_size=3, unique=True)


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
