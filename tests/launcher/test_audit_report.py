"""The report says who has the gradient, in words, in a figure and in numbers that agree with the table of shares."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from plotly.offline import get_plotlyjs

from launcher import plots, report, results
from launcher.share_plots import OTHERS, share_bars, short_names
from launcher.share_sections import NO_SHARES, AuditSection
from launcher.share_stats import mean_shares, only_measured, own_reductions, sentence
from tests.launcher.audit_tables import audited_tables
from tests.launcher.report_tables import Tables, study_tables
from tests.launcher.test_report import CHROMIUM, browse
from tests.launcher.test_results import DONE, study_folder


def audited() -> Tables:
    """Return the invented study; made once, and not while tests are collected."""
    return audited_tables()


def section(tables: Any) -> AuditSection:
    return report.content(tables)["audit"]


@cache
def found_in_audited() -> AuditSection:
    return section(audited())


def shares(*rows: tuple[str, str, str, str, float, float]) -> pd.DataFrame:
    """Return shares from (trial, phase, reduction, class, utterance share, gradient share) of the column group."""
    names = ["trial_id", "phase", "reduction", "class", "utterance_share", "gradient_share"]
    return pd.DataFrame(rows, columns=names).assign(column="group")


def trials(**reduction: str) -> pd.DataFrame:
    return pd.DataFrame({"trial_id": list(reduction), "reduction": list(reduction.values())})


def two_classes(
    trial: str, phase: str, reduction: str, sentence: float
) -> list[tuple[str, str, str, str, float, float]]:
    return [(trial, phase, reduction, "sentence", 0.6, sentence), (trial, phase, reduction, "word", 0.4, 1 - sentence)]


def test_the_sentence_says_what_the_shares_say() -> None:
    rows = [
        *two_classes("a", "initial", "sum", 0.91),
        *two_classes("a", "initial", "mean", 0.2),
        *two_classes("a", "final", "sum", 0.71),
        *two_classes("b", "final", "mean", 0.333),
    ]
    means = mean_shares(shares(*rows), trials(a="sum", b="mean"))
    assert sentence(means, "group") == (
        "Before training, sum gives “sentence” 91 % of the gradient with 60 % of the utterances; mean gives it 20 %. "
        "After training, sum gives “sentence” 71 % of the gradient with 60 % of the utterances; mean gives it 33 %."
    )


def test_reductions_that_point_the_same_way_are_named_together() -> None:
    rows = [row for name in ("sum", "token_mean") for row in two_classes("a", "initial", name, 0.91)]
    found = sentence(mean_shares(shares(*rows), trials(a="sum", b="token_mean")), "group")
    assert "sum and token_mean give “sentence” 91 % of the gradient with 60 % of the utterances." in found


def test_of_many_reductions_the_sentence_names_the_ends() -> None:
    names = {f"t{k}": f"power(alpha={k})" for k in range(6)}
    rows = [row for k, name in enumerate(names.values()) for row in two_classes("t0", "initial", name, 0.9 - 0.1 * k)]
    found = sentence(mean_shares(shares(*rows), trials(**names)), "group")
    assert "power(alpha=0) gives “sentence” 90 %" in found
    assert found.endswith("power(alpha=5) gives it 40 %; the others lie between.")


def test_one_reduction_alone_is_compared_with_sum_and_mean() -> None:
    rows = [row for name, share in (("sum", 0.9), ("focal", 0.5), ("mean", 0.2)) for row in two_classes("a", "initial", name, share)]  # fmt: skip
    found = sentence(mean_shares(shares(*rows), trials(a="focal")), "group")
    assert all(name in found for name in ("sum gives", "focal gives", "mean gives"))


def test_a_class_that_pulls_against_the_others_keeps_its_sign_and_is_told_as_such() -> None:
    rows = [*two_classes("a", "initial", "sum", 1.2), *two_classes("a", "initial", "mean", -0.25)]
    found = sentence(mean_shares(shares(*rows), trials(a="sum", b="mean")), "group")
    assert found == (
        "Before training, sum gives “sentence” 120 % of the gradient with 60 % of the utterances (the rest pulls against it); "
        "mean gives it −25 % (it pulls against the rest). These shares are signed: those of all classes add up to 100 %."
    )


def cancelling(left: float | None = 0.25) -> pd.DataFrame:
    """Return two models trained with sum whose classes pull against each other, so that the signed share may be anything."""
    rows = [
        (trial, "final", reduction, name, 0.5, share)
        for trial, sentence in (("a", 0.757), ("b", -0.447))
        for reduction in ("sum", "mean")
        for name, share in (
            (("sentence", sentence), ("word", 1 - sentence)) if reduction == "sum" else (("sentence", 0.6), ("word", 0.4))
        )
    ]  # fmt: skip
    found = shares(*rows)
    of_lengths = {("a", "sentence"): 0.52, ("a", "word"): 0.48, ("b", "sentence"): 0.45, ("b", "word"): 0.55}
    found["gradient_norm_share"] = [of_lengths[key] for key in zip(found["trial_id"], found["class"])]
    found["cosine_to_rest"] = [-0.85 if trial == "a" else -0.91 for trial in found["trial_id"]]
    found["gradient_left"] = np.where(found["reduction"] == "sum", left, 0.9)
    return found


@pytest.mark.parametrize("left", [0.25, None])
def test_where_gradients_cancel_no_share_is_told_but_lengths_and_direction(left) -> None:
    means = mean_shares(cancelling(left), trials(a="sum", b="sum"))
    by_name = means[means["class"] == "sentence"].set_index("reduction")
    assert by_name.loc["sum", "cancels"]
    assert not by_name.loc["mean", "cancels"]
    assert by_name.loc["sum", "gradient_share"] == pytest.approx((0.757 - 0.447) / 2)
    assert np.isnan(by_name.loc["sum", "factor"])
    assert by_name.loc["mean", "factor"] == pytest.approx(1.2)
    told = sentence(means, "group")
    assert (
        "no share can be told; of their lengths “sentence” has 48 % under sum (cosine to the rest −0.88), with 50 %"
        in told
    )
    assert "mean gives “sentence” 60 % of the gradient" in told
    assert "sum gives" not in told


def test_where_gradients_cancel_the_median_of_models_stands_in_the_place_of_their_mean() -> None:
    more = [cancelling(), shares(*two_classes("c", "final", "sum", 9.0))]
    means = mean_shares(pd.concat(more), trials(a="sum", b="sum", c="sum")).set_index(["reduction", "class"])
    assert means.loc[("sum", "sentence"), "gradient_share"] == 0.757
    assert means.loc[("sum", "sentence"), "gradient_low"] == -0.447


def test_one_model_whose_gradients_cancel_is_enough_and_many_classes_are_not() -> None:
    found = cancelling(0.25).query("trial_id == 'a'")
    assert set(mean_shares(found, trials(a="sum")).query("cancels")["reduction"]) == {"sum"}
    assert not mean_shares(found.assign(gradient_left=0.35), trials(a="sum"))["cancels"].any()
    # Forty speakers whose gradients stand at right angles: a sixth of the lengths is left, and every share means something.
    rows = [("a", "final", "sum", f"s{number}", 1 / 40, 1 / 40) for number in range(40)]
    many = shares(*rows).assign(gradient_norm_share=1 / 40, gradient_left=40**-0.5)
    assert not mean_shares(many, trials(a="sum"))["cancels"].any()


def test_signs_that_differ_over_models_are_no_cancelling_where_most_of_the_gradient_is_left() -> None:
    """As of a class of small gradients at right angles to the rest: its share is about 0, now above and now below."""
    one, two = (shares(*two_classes(name, "final", "sum", share)) for name, share in (("a", 0.793), ("b", 1.007)))
    table = pd.concat([one.assign(gradient_left=0.934), two.assign(gradient_left=0.886)])
    table["gradient_norm_share"] = [0.755, 0.245, 0.898, 0.102]
    means = mean_shares(table, trials(a="sum", b="sum")).set_index("class")
    assert not means["cancels"].any()
    assert means.loc["sentence", "gradient_share"] == pytest.approx(0.9)
    assert means.loc["word", "factor"] == pytest.approx(0.1 / means.loc["word", "utterance_share"])
    assert mean_shares(table.drop(columns="gradient_left"), trials(a="sum", b="sum"))["cancels"].all()


def test_the_table_and_the_figure_mark_what_cancels() -> None:
    tables = audited()
    own = tables.shares["reduction"] == "sum"
    little = tables.shares["gradient_left"].mask(own, 0.1)
    (column, *_) = section(replace(tables, shares=tables.shares.assign(gradient_left=little))).columns
    place = column.table.head.index("gradient, signed [range]")
    factor = column.table.head.index("gradient / utterances")
    marked = {row[0].text for row in column.table.rows if row[place].text.startswith("cancels; median ")}
    assert marked == {"sum"}
    assert {row[factor].text for row in column.table.rows if row[0].text == "sum"} == {"–"}
    assert "the gradients of the classes cancel" in column.figures[0][1].caption


def test_the_table_and_the_figure_say_that_shares_of_the_gradient_are_signed() -> None:
    part = audited().shares["class"] == "word"
    signed = audited().shares["gradient_share"].where(~part, -1.57).where(part, 2.57)
    (column, *_) = section(replace(audited(), shares=audited().shares.assign(gradient_share=signed))).columns
    place = column.table.head.index("gradient, signed [range]")
    assert {row[place].text for row in column.table.rows} == {
        "−157.0 % [−157.0 to −157.0]", "257.0 % [257.0 to 257.0]"
    }  # fmt: skip
    of_lengths = [row[column.table.head.index("lengths of gradients")].value for row in column.table.rows]
    assert all(isinstance(value, float) and 0 <= value <= 100 for value in of_lengths)
    figure = column.figures[0][1]
    assert "pulls against the rest is left of 0, and the others then pass 100 %" in figure.caption
    assert "share (%), of the gradient signed" in figure.spec


def test_trials_that_start_from_one_model_count_once_before_training() -> None:
    rows = [
        *two_classes("a", "initial", "sum", 0.9), *two_classes("b", "initial", "sum", 0.9),
        *two_classes("c", "initial", "sum", 0.6),
    ]  # fmt: skip
    row = mean_shares(shares(*rows), trials(a="sum", b="mean", c="sum")).iloc[0]
    assert row["models"] == 2
    assert row["gradient_share"] == pytest.approx(0.75)
    assert (row["gradient_low"], row["gradient_high"]) == (0.6, 0.9)
    assert row["factor"] == pytest.approx(0.75 / 0.6)


def test_after_training_a_reduction_of_the_study_is_taken_on_the_models_that_it_trained() -> None:
    rows = [
        *two_classes("a", "final", "sum", 0.9), *two_classes("b", "final", "sum", 0.5),
        *two_classes("a", "final", "focal", 0.7), *two_classes("b", "final", "focal", 0.3),
    ]  # fmt: skip
    means = mean_shares(shares(*rows), trials(a="sum", b="mean"))
    by_name = means[means["class"] == "sentence"].set_index("reduction")
    assert (by_name.loc["sum", "gradient_share"], by_name.loc["sum", "models"]) == (0.9, 1)
    assert (by_name.loc["focal", "gradient_share"], by_name.loc["focal", "models"]) == (0.5, 2)


def test_reductions_of_the_study_come_first_in_its_order() -> None:
    means = mean_shares(audited().shares, audited().results)
    order = list(means["reduction"].unique())
    assert order[:4] == ["mean", "sum", "sqrt_length", "per_frame"]
    assert set(order[4:]) == set(audited().shares["reduction"]) - set(order[:4])


def test_the_reduction_of_a_trial_is_known_from_its_configuration_where_it_is_no_axis() -> None:
    frame = pd.DataFrame({"trial_id": ["a", "b"], "config": ['{"Model Configuration": {"reduction": "sum"}}', None]})
    assert own_reductions(frame) == {"a": "sum"}


def test_bars_have_the_shares_and_begin_with_the_utterances() -> None:
    rows = pd.DataFrame(
        {"reduction": ["sum", "sum", "mean", "mean"], "class": ["s", "w"] * 2, "share": [0.9, 0.1, 0.2, 0.8]}
    )
    figure: Any = share_bars(rows, pd.Series({"s": 0.6, "w": 0.4}), ["sum"])
    assert [trace.name for trace in figure.data] == ["s", "w"]
    assert list(figure.data[0].x) == pytest.approx([60, 90, 20])
    assert list(figure.data[1].x) == pytest.approx([40, 10, 80])
    assert list(figure.data[0].customdata) == ["<i>utterances</i>", "<b>sum</b>", "mean"]
    assert {shape.x0 for shape in figure.layout.shapes} == {60}


def test_more_classes_than_colours_are_folded_and_lose_nothing() -> None:
    names = [f"c{k}" for k in range(12)]
    share = np.arange(12, 0, -1) / 78
    rows = pd.DataFrame({"reduction": "sum", "class": names, "share": share[::-1]})
    figure: Any = share_bars(rows, pd.Series(share, index=names), [])
    assert len(figure.data) == len(plots.PALETTE)
    assert figure.data[-1].name == OTHERS
    assert not figure.layout.shapes
    assert np.sum([trace.x for trace in figure.data], axis=0) == pytest.approx([100, 100])


def test_names_are_shown_and_never_read_as_markup() -> None:
    rows = pd.DataFrame({"reduction": ["<b>x(y=1)", "<b>x(y=2)"], "class": ["<img>"] * 2, "share": [1.0, 1.0]})
    figure: Any = share_bars(rows, pd.Series({"<img>": 1.0}), [])
    assert figure.data[0].name == "&lt;img&gt;"
    assert "&lt;b&gt;x<br>(y=1)" in figure.layout.yaxis.ticktext


def test_parameters_are_left_out_where_no_other_reduction_has_the_name() -> None:
    spelt = ["ctc_dro(eta=0.0001, alpha=0.1)", "power(alpha=0.25)", "power(alpha=0.5)"]
    assert list(short_names(spelt).values()) == ["ctc_dro", "power(alpha=0.25)", "power(alpha=0.5)"]


def test_the_section_has_a_figure_per_phase_and_a_table_for_every_column() -> None:
    found = found_in_audited()
    assert [column.name for column in found.columns] == ["group", "speaker_type", "length"]
    assert all(
        [when for when, _ in column.figures] == ["Before training", "After training"] for column in found.columns
    )
    rows = found.columns[0].table.rows
    assert len(rows) == 10 * 2 * 2
    by_key = {tuple(cell.text for cell in row[:3]): row for row in rows}
    of_sum = audited().shares[(audited().shares["reduction"] == "sum") & (audited().shares["class"] == "word")]
    of_sum = of_sum[(of_sum["phase"] == "final") & of_sum["trial_id"].str.startswith("sum")]["gradient_share"]
    cell = by_key["sum", "word", "final"][4]
    assert cell.value == pytest.approx(of_sum.mean() * 100)
    assert cell.text.endswith(f"[{of_sum.min() * 100:.1f} to {of_sum.max() * 100:.1f}]")


def test_the_size_of_the_updates_at_which_shares_hold_is_said_where_it_is_known() -> None:
    assert found_in_audited().updates == ""
    sizes = np.where(audited().shares["trial_id"] == audited().shares["trial_id"].iloc[0], 8, 16)
    told = section(replace(audited(), shares=audited().shares.assign(update_size=sizes))).updates
    assert told.startswith("Shares hold for updates of 8 or 16 utterances")


def test_how_well_the_cheap_figure_stands_for_the_exact_one_is_told() -> None:
    table = found_in_audited().exact
    assert table is not None
    assert [row[0].text for row in table.rows] == ["initial", "final"]
    assert [cell.text for cell in table.rows[0][2:]] == ["120", "0.980", "0.970", "0.900", "1.0 points"]
    assert section(replace(audited(), exact=pd.DataFrame())).exact is None


def test_a_study_without_an_audit_says_so_and_still_compares_its_losses() -> None:
    found = section(study_tables())
    assert (found.sentence, found.columns, found.exact) == (NO_SHARES, (), None)
    assert "split: test" in found.losses.lines[0]
    groups = found.losses.tables[0]
    assert [row[1].text for row in groups.rows][:2] == ["sentence", "word"]
    assert groups.rows[0][2].value == 40


def test_an_utterance_counts_once_however_many_seeds_there_are() -> None:
    found = found_in_audited().losses
    assert "Losses of the final models in nats (split: train)" in found.lines[0]
    row = found.tables[0].rows[0]
    of_mean = audited().audit[
        (audited().audit["phase"] == "final") & audited().audit["trial_id"].str.startswith("mean")
    ]
    expected = of_mean.loc[of_mean["group"] == "sentence", "loss"].mean()
    assert (row[0].text, row[1].text, row[2].value) == ("reduction=mean", "sentence", 72)
    assert row[4].value == pytest.approx(expected)


def test_one_name_in_two_corpora_is_two_speakers_also_where_losses_are_compared() -> None:
    place = audited().audit["utt_id"].str[1:].astype(int)
    corpora = np.where(place % 16 < 8, "one", "two")
    apart = section(replace(audited(), audit=audited().audit.assign(corpus=corpora))).losses.tables[0]
    alone = found_in_audited().losses.tables[0]
    assert [row[3].value for row in alone.rows[:2]] == [8, 8]
    assert [row[3].value for row in apart.rows[:2]] == [16, 16]


def test_losses_that_are_not_finite_are_left_out_and_counted() -> None:
    audit = audited().audit.assign(loss=audited().audit["loss"].where(audited().audit["utt_id"] != "a003", np.inf))
    lines = section(replace(audited(), audit=audit)).losses.lines
    assert "reduction=mean: 3 utterances without a finite loss left out." in lines


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"utterances": pd.DataFrame()}, "No loss of an utterance was recorded."),
        ({"utterances": study_tables().utterances.drop(columns="labels")}, "No loss of an utterance with labels"),
        ({"utterances": study_tables().utterances.assign(loss=np.nan)}, "There is nothing to show: no loss is finite."),
        (
            {"utterances": study_tables().utterances.assign(group=lambda rows: rows["utt_id"])},
            "group has 80 classes, too many to compare",
        ),
    ],
)
def test_where_losses_cannot_be_compared_the_reason_is_told(changes: dict[str, Any], line: str) -> None:
    found = section(replace(study_tables(), **changes)).losses
    assert line in found.lines[0]
    assert found.tables == ()


def test_shares_that_could_not_be_measured_are_dashes() -> None:
    shares_ = audited().shares.assign(gradient_share=np.nan, cosine_to_rest=np.nan)
    found = section(replace(audited(), shares=shares_))
    assert found.sentence == "No gradient share of group could be measured."
    assert found.columns[0].table.rows[0][4].text == "–"


def test_text_of_the_audit_is_escaped_on_the_page() -> None:
    hostile = "</script><img src=x onerror=alert(1)>"
    tables = replace(audited(), shares=audited().shares.assign(**{"class": hostile, "reduction": hostile}))
    html = report.render(tables).replace(get_plotlyjs(), "")
    assert "<img" not in html
    assert '<section id="audit">' in html
    assert not re.search(r">\s*(?:nan|inf|None|NaT) ?%?<", html)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
def test_a_browser_draws_who_is_heard(tmp_path: Path) -> None:
    document, log = browse(report.write(audited(), tmp_path / "report.html"), tmp_path / "profile", draw=True)
    assert not [line for line in log.splitlines() if "CONSOLE" in line]
    figures = re.findall(r'<div class="plot[^>]*id="shares-(.*?)</figure>', document, flags=re.DOTALL)
    assert len(figures) == 6
    assert all('<svg class="main-svg"' in figure for figure in figures)


def test_shares_of_trials_are_joined_and_exported(tmp_path: Path) -> None:
    table = pa.Table.from_pylist([{"trial_id": "a", "phase": "initial", "reduction": "sum", "gradient_share": 0.9}])
    folder = study_folder(tmp_path, a={**DONE, "shares.parquet": table}, b={})
    tables = results.load(folder)
    assert list(tables.shares["gradient_share"]) == [0.9]
    assert tables.exact.empty
    assert tables.audit.empty
    results.write_tables(folder)
    assert pd.read_parquet(folder / "shares.parquet").equals(tables.shares)
    assert {path.name for path in results.export(folder, "csv")} == {"results.csv", "shares.csv"}


def test_where_nothing_was_trained_the_answer_is_the_audit_of_the_model_as_it_stands() -> None:
    of_final = audited().shares[audited().shares["phase"] == "final"]
    untrained = audited().results.assign(updates=0)
    means = mean_shares(of_final, untrained)
    assert set(means["phase"]) == {"measured"}
    assert not means["own"].any()
    page = report.content(replace(audited(), shares=of_final, results=untrained))
    assert page["answer"].headline == page["audit"].sentence
    assert page["answer"].headline.startswith("As it stands, ")
    assert not only_measured(audited().results.assign(updates=[0] * (len(audited().results) - 1) + [3]))
