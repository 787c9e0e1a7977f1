"""Shares of different kinds of models are kept apart: what a study varies beside reduction and seed is never averaged."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from launcher import report
from launcher.share_sections import MOST_DRAWN, AuditSection
from launcher.share_stats import cells, own_reductions, shares_by_cell
from tests.launcher.audit_tables import audited_tables
from tests.launcher.report_tables import Tables
from tests.launcher.test_audit_report import shares, two_classes

# A loaded model -> what `sum` gives the sentences in it.
MODELS = {"A": 0.2, "B": 0.8}


def one_kind() -> Tables:
    """Return the invented study; made once, and not while tests are collected."""
    return audited_tables(num_seeds=2)


def section(tables: Any) -> AuditSection:
    return report.content(tables)["audit"]


def measured(shares_of: dict[str, float]) -> Tables:
    """Return an audit of several models as they stand: an axis of models, one trial each."""
    rows = [
        row
        for model, share in shares_of.items()
        for reduction, gained in (("sum", share), ("mean", share / 2))
        for row in two_classes(f"t-{model}", "final", reduction, gained)
    ]
    names = list(shares_of)
    results = pd.DataFrame(
        {
            "trial_id": [f"t-{name}" for name in names], "variant": [f"load_model={name}" for name in names],
            "load_model": names, "seed": 1, "status": "done", "updates": 0, "wer": np.nan,
            "config": '{"Model Configuration": {"reduction": "mean"}}',
        }
    )  # fmt: skip
    study = {"study": "audit", "axes": {"seed": [1], "load_model": names}, "baseline": None, "groups": ["group"]}
    empty = pd.DataFrame()
    return Tables(study, results, empty, empty, empty, shares=shares(*rows))


def two_kinds() -> Tables:
    """Return a study of two kinds of models: the trials of the second have the gradients of the first turned round."""
    trials = one_kind().results.assign(model_type="tiny", variant="model_type=tiny, " + one_kind().results["variant"])
    others = trials.assign(
        model_type="multitask", trial_id="m-" + trials["trial_id"],
        variant=trials["variant"].str.replace("tiny", "multitask"),
    )  # fmt: skip
    turned = one_kind().shares.assign(
        gradient_share=1 - one_kind().shares["gradient_share"], trial_id="m-" + one_kind().shares["trial_id"]
    )
    exact = one_kind().exact.assign(trial_id="m-" + one_kind().exact["trial_id"], norm_pearson=0.1)
    study = {**one_kind().study, "baseline": "model_type=multitask, reduction=mean"}
    return replace(
        one_kind(),
        study={**study, "axes": {"model_type": ["tiny", "multitask"], **one_kind().study["axes"]}},
        results=pd.concat([trials, others], ignore_index=True),
        shares=pd.concat([one_kind().shares, turned], ignore_index=True),
        exact=pd.concat([one_kind().exact, exact], ignore_index=True),
    )


def test_reduction_and_seed_alone_are_one_kind_of_model() -> None:
    assert cells(one_kind().results, list(one_kind().study["axes"])) == {}
    assert cells(one_kind().results.assign(load_model="A"), ["load_model", "reduction", "seed"]) == {}
    assert cells(one_kind().results, ["a_column_that_no_table_has"]) == {}


def test_every_axis_that_varies_names_the_cell() -> None:
    results = pd.DataFrame(
        {"trial_id": list("abc"), "model_type": ["tiny", "tiny", "base"], "learning_rate": [0.1, 0.2, 0.1], "seed": 1}
    )
    assert cells(results, ["model_type", "learning_rate", "seed"]) == {
        "a": "model_type=tiny, learning_rate=0.1",
        "b": "model_type=tiny, learning_rate=0.2",
        "c": "model_type=base, learning_rate=0.1",
    }


def test_models_that_were_loaded_are_told_apart() -> None:
    found = section(measured(MODELS))
    assert found.sentence.startswith(
        "load_model=A (the first of 2 audited cells): As it stands, sum gives “sentence” 20 %"
    )
    (column,) = found.columns
    assert [when for when, _ in column.figures] == ["load_model=A: As it stands", "load_model=B: As it stands"]
    assert (
        len({figure.id for _, figure in column.figures})
        == len({figure.numbers.file for _, figure in column.figures})
        == 2
    )
    assert column.table.head[:4] == ("cell", "reduction", "group", "model")
    told = {tuple(cell.text for cell in row[:3]): row[5] for row in column.table.rows}
    for model, share in MODELS.items():
        cell = told[f"load_model={model}", "sum", "sentence"]
        assert cell.value == pytest.approx(100 * share)
        assert cell.text == f"{100 * share:.1f} %"  # of one model, so there is no range


def test_each_cell_has_the_shares_that_it_would_have_in_a_study_of_its_own() -> None:
    tables = two_kinds()
    found = shares_by_cell(tables.shares, tables.results, list(tables.study["axes"]))
    alone = shares_by_cell(one_kind().shares, one_kind().results, list(one_kind().study["axes"]))[""]
    assert list(found) == ["model_type=tiny", "model_type=multitask"]
    first, second = (found[name].drop(columns="cell") for name in found)
    pd.testing.assert_frame_equal(first, alone)
    assert list(second["gradient_share"]) == pytest.approx(list(1 - alone["gradient_share"]))
    assert list(second["models"]) == list(alone["models"])


@pytest.mark.slow
def test_the_sentence_speaks_of_the_cell_of_the_baseline_and_says_so() -> None:
    tables = two_kinds()
    found = section(tables)
    assert found.sentence.startswith("model_type=multitask (the baseline's among 2 audited cells): Before training, ")
    assert found.columns[0].figures[0][0] == "model_type=multitask: Before training"
    first = section(replace(tables, study={**tables.study, "baseline": None}))
    assert first.sentence == f"model_type=tiny (the first of 2 audited cells): {section(one_kind()).sentence}"
    of_tiny = tables.shares[~tables.shares["trial_id"].str.startswith("m-")]
    assert section(replace(tables, shares=of_tiny)).sentence.startswith(
        "model_type=tiny (the first of 1 audited cell): "
    )


def test_the_exact_gradient_is_compared_in_each_cell() -> None:
    table = section(two_kinds()).exact
    assert table is not None
    assert table.head[:2] == ("cell", "model")
    assert {(row[0].text, row[4].text) for row in table.rows} == {
        ("model_type=tiny", "0.980"), ("model_type=multitask", "0.100"),
    }  # fmt: skip


def test_of_many_cells_some_are_drawn_and_all_are_in_the_table() -> None:
    models = {f"M{number}": 0.1 * number for number in range(1, 9)}
    (column,) = section(measured(models)).columns
    assert len(column.figures) == MOST_DRAWN
    assert {row[0].text for row in column.table.rows} == {f"load_model={name}" for name in models}
    assert column.table.caption.endswith(f"the first {MOST_DRAWN} of 8 cells are drawn")


def test_every_trial_is_listed_with_its_model_which_its_id_does_not_name() -> None:
    tables = measured(MODELS)
    page = report.content(replace(tables, results=tables.results.assign(variant=["load_model=A", "load_model=B"])))
    assert [[cell.text for cell in row[:2]] for row in page["trials"].rows] == [
        ["t-A", "load_model=A"],
        ["t-B", "load_model=B"],
    ]


def test_ids_on_the_page_stay_unique_and_names_of_models_are_never_markup() -> None:
    html = report.render(measured({"<b>x": 0.2, "<b>y": 0.8}))
    assert "load_model=&lt;b&gt;x: As it stands" in html
    assert "<b>x" not in html.replace("\\u003cb>x", "")
    ids = [part.partition('"')[0] for part in html.split('<div class="plot" id="')[1:]]
    assert len(ids) == len(set(ids)) == 2


def test_the_reduction_that_a_trial_says_it_used_goes_before_what_was_asked() -> None:
    weighted = "dataset_weighted(word=1.3, sentence=0.7)"
    config = '{"Model Configuration": {"reduction": "mean", "dataset_loss_weighting": [1.3, 0.7]}}'
    frame = pd.DataFrame({"trial_id": list("abc"), "config": config, "reduction_used": [weighted, None, "sum"]})
    assert own_reductions(frame) == {"a": weighted, "b": "mean", "c": "sum"}
    assert own_reductions(frame.assign(reduction="mean"))["a"] == weighted
    assert set(own_reductions(frame.drop(columns="reduction_used")).values()) == {"mean"}
    assert own_reductions(frame.assign(reduction_used=np.nan, reduction="focal"))["a"] == "focal"


def test_weights_of_the_data_are_the_reduction_of_the_study_in_its_report() -> None:
    results = one_kind().results.assign(reduction_used="power(alpha=0.25)")
    means = shares_by_cell(one_kind().shares, results, ["reduction", "seed"])[""]
    assert set(means.loc[means["own"], "reduction"]) == {"power(alpha=0.25)"}
    assert "power(alpha=0.25) gives" in section(replace(one_kind(), results=results)).sentence
