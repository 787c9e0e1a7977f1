"""Equal runs give the noise floor, and are never counted as further seeds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from plotly.offline import get_plotlyjs

from launcher import comparison_sections, plots, report, results, stats
from launcher.answer import answer
from launcher.cli import cli
from launcher.comparisons import comparisons, group_rates
from launcher.noise import NoiseFloor, as_json, floor_by_class, noise_floor
from launcher.tallies import tally
from tests.launcher.report_tables import EMPTY, Tables, study_tables, with_repeats, write_study
from tests.launcher.scored_trials import scored, trials

PLAIN = study_tables(num_utterances=40)
FIRST_WER = float(PLAIN.results["wer"][0])


def floor_of(tables: Tables) -> NoiseFloor:
    floor = noise_floor(tables.results, tables.utterances)
    assert floor is not None
    return floor


def apart(*differences: float, differing: int = 0) -> Tables:
    """Further runs whose WER differs so from that of the first."""
    return with_repeats(PLAIN, [FIRST_WER + difference for difference in differences], differing)


def changed(tables: Tables, **columns: Any) -> Tables:
    """Change columns of the last run."""
    frame = tables.results.astype(dict.fromkeys(columns, object))
    frame.loc[len(frame) - 1, list(columns)] = list(columns.values())
    return replace(tables, results=frame)


def test_a_study_without_repeats_has_no_noise_floor() -> None:
    assert noise_floor(PLAIN.results, PLAIN.utterances) is None
    assert noise_floor(PLAIN.results.assign(repeat=0), EMPTY) is None
    assert noise_floor(EMPTY, EMPTY) is None
    assert as_json(None) is None


def test_equal_runs_repeat_bit_for_bit() -> None:
    floor = floor_of(apart(0.0, 0.0))
    assert floor.exact
    assert (floor.wer, floor.wer_sd, floor.hypotheses_differ, floor.utterances) == (0.0, 0.0, 0, 40)
    assert floor.sentence() == (
        "noise floor: 0: runs repeat bit for bit here, over 3 runs of the same cell with the same seed "
        "(reduction=mean, seed 1)"
    )


def test_the_floor_is_the_range_and_the_deviation_of_the_runs() -> None:
    floor = floor_of(apart(0.02, -0.01, differing=3))
    assert floor.wer == pytest.approx(0.03)
    assert floor.wer_sd == pytest.approx(np.std([0, 0.02, -0.01], ddof=1))
    assert (floor.hypotheses_differ, floor.utterances) == (3, 40)
    assert floor.sentence().startswith(
        "noise floor: WER differs by at most 3 points, sd 1.5, over 3 runs of the same cell with the same seed "
        "(reduction=mean, seed 1); 3 of 40 hypotheses differ;"
    )


def test_equal_rates_with_other_losses_or_words_are_not_bit_for_bit() -> None:
    words = floor_of(apart(0.0, differing=1))
    same = apart(0.0)
    losses = same.utterances["loss"] + 1e-9 * (same.utterances["trial_id"] == same.results["trial_id"].iloc[-1])
    loss = floor_of(replace(same, utterances=same.utterances.assign(loss=losses)))
    assert (words.exact, words.hypotheses_differ) == (False, 1)
    assert (loss.exact, loss.hypotheses_differ) == (False, 0)
    assert loss.loss == pytest.approx(1e-9, rel=1e-3)


def test_a_failed_repeat_is_told_and_the_floor_is_over_the_others() -> None:
    one_failed = floor_of(changed(apart(0.02, 0.3), status="failed", wer=None))
    assert one_failed.wer == pytest.approx(0.02)
    assert (
        "over 2 of 3 runs of the same cell with the same seed (reduction=mean, seed 1; 1 failed)"
        in one_failed.sentence()
    )
    none_left = floor_of(changed(apart(0.02), status="failed", wer=None))
    assert none_left.exact is None
    assert "not known, two runs are needed: a WER has 1 of 2 runs" in none_left.sentence()
    assert not none_left.hides(0.0)


def test_runs_that_were_not_made_alike_say_so() -> None:
    alike = replace(apart(0.02), results=apart(0.02).results.assign(device="cpu", node="n", git_sha="a"))
    assert "on the CPUs of one machine runs should repeat bit for bit, and these do not" in floor_of(alike).sentence()
    assert "with the same machine" in floor_of(changed(alike, node="other")).sentence()
    assert "with the same machine and code" in floor_of(changed(alike, node="other", git_sha="b")).sentence()


def test_a_repeat_is_never_counted_as_another_seed() -> None:
    """The most different repeats that there can be change nothing of what is compared."""
    repeated = with_repeats(PLAIN, [0.0, 1.0], differing=40)
    for name in ("wer", "cer"):
        ours, alone = (stats.summary_by_variant(tables.results, name) for tables in (repeated, PLAIN))
        pd.testing.assert_frame_equal(ours, alone)
    for compare in (
        lambda tables: comparisons(tables.results, tally(tables.results, tables.utterances), "reduction=mean"),
        lambda tables: group_rates(tables.results, tally(tables.results, tables.utterances, ["group"]), "group"),
        lambda tables: plots.curve_table(tables.history, tables.results, "nll_per_label"),
    ):
        pd.testing.assert_frame_equal(compare(repeated), compare(PLAIN))
    assert plots.seed_strip(repeated.results) == plots.seed_strip(PLAIN.results)
    assert comparison_sections.strip_figure(repeated.results) == comparison_sections.strip_figure(PLAIN.results)


def test_all_of_a_report_but_the_noise_floor_and_the_list_of_trials_is_the_same_with_repeats() -> None:
    shares = pd.DataFrame(
        [
            {"trial_id": trial_id, "phase": "final", "reduction": "mean", "column": "group", "class": name,
             "utterances": 4, "utterance_share": 0.5, "gradient_share": share}
            for trial_id, word in ((PLAIN.results["trial_id"][0], 0.3), ("mean-1-r1-00000001", 0.9))
            for name, share in (("word", word), ("sentence", 1 - word))
        ]
    )  # fmt: skip
    ours = report.content(replace(apart(0.0), shares=shares))
    alone = report.content(replace(PLAIN, shares=shares.iloc[:2]))
    assert alone["audit"].columns
    of_all_trials = {"trials", "progress", "cost", "made_with"}
    assert {name for name in alone if ours[name] != alone[name]} == {"noise", "groups", *of_all_trials}
    assert [section.rates for section in ours["groups"]] == [section.rates for section in alone["groups"]]
    for with_floor, without in zip(ours["groups"], alone["groups"], strict=True):
        assert with_floor.differences.head == (*without.differences.head, "noise floor, points")
        assert {row[-1].text for row in with_floor.differences.rows} == {"0.00"}  # the repeats are copies
        assert [row[:-1] for row in with_floor.differences.rows] == list(without.differences.rows)


def test_the_floor_of_a_class_is_the_largest_difference_of_its_wer_between_two_runs() -> None:
    results = trials(*((name, 1, "done", 0.5) for name in "abc"))
    groups = ["word", "word", "sentence", "silence"]
    errors = {"a": [0, 1, 2, 0], "b": [1, 1, 2, 0], "c": [1, 1, 3, 0]}
    rows = [scored(f"{name}-1", errors[name], [1, 1, 4, 0]).assign(group=groups) for name in errors]
    found = floor_by_class(tally(results, pd.concat(rows), ["group"]), "group")
    assert found == pytest.approx({"word": 0.5, "sentence": 0.25})
    alone = tally(results, rows[0], ["group"])
    assert floor_by_class(alone, "group") == {}


def test_differences_below_the_floor_are_marked_and_others_are_not() -> None:
    paired = comparisons(PLAIN.results, tally(PLAIN.results, PLAIN.utterances), "reduction=mean")
    named = paired.set_index("variant")["difference"]
    between = (named["reduction=per_frame"], named["reduction=sum"])
    assert abs(between[0]) < abs(between[1])
    smaller, larger = (floor_of(apart(wer)) for wer in (-(abs(between[0]) + abs(between[1])) / 2, 0.6))
    marks = comparisons(PLAIN.results, tally(PLAIN.results, PLAIN.utterances), "reduction=mean", noise=smaller)
    table = comparison_sections.main_table(PLAIN.results, marks)
    marked = {row[0].text for row in table.rows if "within the noise floor" in row[3].text}
    assert marked == {"reduction=per_frame"}
    summary = stats.summary_by_variant(PLAIN.results, "wer")
    assert (
        not answer(PLAIN.results, summary, paired, "reduction=mean", smaller).cautions[0].startswith("This difference")
    )
    assert (
        answer(PLAIN.results, summary, paired, "reduction=mean", larger)
        .cautions[0]
        .startswith("This difference is within the noise floor: WER differs by at most 60 points")
    )


def test_the_floor_is_in_the_report_the_terminal_and_the_json_of_a_study_folder(tmp_path: Path) -> None:
    folder = write_study(apart(0.02, -0.01, differing=3), tmp_path)
    tables = results.load(folder)
    sentence = floor_of(tables).sentence()  # type: ignore[arg-type]
    html = report.render(tables).replace(get_plotlyjs(), "")
    assert "WER differs by at most 3 points, sd 1.5, over 3 runs" in html
    assert html.count("mean-1-r2-00000002") == 2  # in the table of equal runs, and in that of all trials
    text = CliRunner().invoke(cli, ["status", str(folder)])
    assert sentence in text.stdout
    told = json.loads(CliRunner().invoke(cli, ["status", str(folder), "--json"]).stdout)
    assert told["noise_floor"]["sentence"] == sentence
    assert told["noise_floor"]["wer"] == pytest.approx(0.03)
    assert [trial["repeat"] for trial in told["trials"]] == [0] * 8 + [1, 2]
