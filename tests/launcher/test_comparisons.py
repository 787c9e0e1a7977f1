"""Comparisons with the baseline against closed forms, hand-counted tables and other programs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from launcher.answer import within_margin
from launcher.comparisons import comparisons, group_comparisons
from launcher.noise import noise_floor
from launcher.tallies import tally
from tests.launcher.report_tables import EMPTY, study_tables, with_repeats
from tests.launcher.scored_trials import scored, trials


def compared(
    results: pd.DataFrame, utterances: pd.DataFrame, baseline: str | None = None, **options: Any
) -> pd.DataFrame:
    """Return the rows that compare a variant with the baseline."""
    table = comparisons(results, tally(results, utterances), baseline, **{"rounds": 2000, **options})
    return table[~table["is_baseline"].astype(bool)].reset_index(drop=True)


def drawn(
    num_seeds: int, num_speakers: int = 10, *, words: bool = False, seed: int = 0
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return results and utterances of two variants `a` and `b`, 4 utterances a speaker."""
    rng = np.random.default_rng(seed)
    number = 4 * num_speakers
    lengths = [1] * number if words else rng.integers(1, 6, number).tolist()
    speakers = [f"S{k % num_speakers}" for k in range(number)]
    rows = [scored(f"{name}-{k}", rng.binomial(lengths, rate).tolist(), lengths, speakers)
            for name, rate in (("a", 0.5), ("b", 0.4)) for k in range(num_seeds)]  # fmt: skip
    wers = {row["trial_id"].iloc[0]: row["substitutions"].sum() / sum(lengths) for row in rows}
    results = trials(*((name, k, "done", wers[f"{name}-{k}"]) for name in "ab" for k in range(num_seeds)))
    return results, pd.concat(rows, ignore_index=True)


def test_difference_is_the_mean_over_the_seeds_that_both_variants_finished() -> None:
    results = trials(*((v, s, "done", 0.5) for v in "ab" for s in (1, 2)), ("b", 3, "done", 0.0))
    rows = pd.concat(
        [
            scored("a-1", [2, 2], [4, 4]),
            scored("a-2", [4, 4], [4, 4]),
            scored("b-1", [1, 1], [4, 4]),
            scored("b-2", [2, 2], [4, 4]),
            scored("b-3", [0, 0], [4, 4]),
        ]
    )
    row = compared(results, rows, "a").iloc[0]
    assert row["difference"] == pytest.approx(((0.25 - 0.5) + (0.5 - 1.0)) / 2)
    assert (row["n_paired_seeds"], row["n_speakers"], row["n_utterances"]) == (2, 2, 2)


def test_equal_variants_differ_by_exactly_nothing() -> None:
    errors = [0, 1, 2, 3, 1, 0]
    rows = pd.concat([scored("a-1", errors, [4] * 6), scored("b-1", errors, [4] * 6)])
    row = compared(trials(("a", 1, "done", 0.3), ("b", 1, "done", 0.3)), rows, None).iloc[0]
    assert (row["baseline"], row["difference"], row["low"], row["high"]) == ("a", 0, 0, 0)


def test_a_difference_that_every_utterance_shares_has_an_interval_of_no_width() -> None:
    rows = pd.concat([scored("a-1", [2] * 9, [4] * 9), scored("b-1", [1] * 9, [4] * 9)])
    row = compared(trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.25)), rows, "a").iloc[0]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((-0.25, -0.25, -0.25))


def test_copies_of_a_seed_do_not_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(0)
    base, other = rng.integers(0, 4, 40).tolist(), rng.integers(0, 4, 40).tolist()
    speakers = [f"S{k % 10}" for k in range(40)]

    def width(num_seeds: int) -> float:
        seeds = range(num_seeds)
        results = trials(*((v, s, "done", 0.5) for v in "ab" for s in seeds))
        rows = [scored(f"{v}-{s}", e, [4] * 40, speakers) for v, e in (("a", base), ("b", other)) for s in seeds]
        row = compared(results, pd.concat(rows), "a").iloc[0]
        return row["high"] - row["low"]

    assert width(6) == pytest.approx(width(1), rel=1e-9)


def test_interval_of_single_words_agrees_with_the_normal_approximation() -> None:
    rng = np.random.default_rng(1)
    errors = {name: (rng.random(4000) < rate).astype(int) for name, rate in (("a", 0.5), ("b", 0.4))}
    rows = pd.concat([scored(f"{name}-1", errors[name].tolist(), [1] * 4000, ["S0"] * 4000) for name in errors])
    row = compared(trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.4)), rows, "a").iloc[0]
    half = 1.96 * (errors["b"] - errors["a"]).std() / 4000**0.5
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.06)  # 2,000 rounds: about 2.5 % noise


def test_order_of_the_utterances_changes_nothing() -> None:
    tables = study_tables()
    shuffled = tables.utterances.sample(frac=1.0, random_state=3)
    one, two = (compared(tables.results, rows, "reduction=mean") for rows in (tables.utterances, shuffled))
    pd.testing.assert_frame_equal(one, two)


def test_few_seeds_and_few_speakers_are_cautioned_against() -> None:
    rows = pd.concat([scored("a-1", [1, 0], [1, 1]), scored("b-1", [0, 0], [1, 1])])
    results = trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.0))
    caution = compared(results, rows, "a").iloc[0]["caution"]
    assert "1 paired seed (fewer than 5)" in caution
    assert "2 speakers (fewer than 8)" in caution


def test_enough_seeds_and_speakers_carry_no_caution() -> None:
    tables = study_tables(num_seeds=5)
    assert compared(tables.results, tables.utterances).loc[0, "caution"] == ""


def test_utterances_that_one_side_lacks_are_left_out_and_counted() -> None:
    rows = pd.concat([scored("a-1", [1, 1, 1], [1, 1, 1]), scored("b-1", [0, 0], [1, 1])])
    row = compared(trials(("a", 1, "done", 1.0), ("b", 1, "done", 0.0)), rows, "a").iloc[0]
    assert row["n_utterances"] == 2
    assert "1 utterance was not scored" in row["caution"]


def test_nothing_in_common_gives_no_number_and_says_why() -> None:
    results = trials(("a", 1, "done", 0.5), ("b", 2, "done", 0.5))
    rows = pd.concat([scored("a-1", [1], [1]), scored("b-2", [1], [1])])
    for utterances in (rows, EMPTY):
        row = compared(results, utterances, "a").iloc[0]
        assert np.isnan(row["difference"])
        assert np.isnan(row["low"])
        assert "No seed finished in both variants" in row["caution"]


def test_unscored_utterances_are_not_taken_for_perfect_ones() -> None:
    unscored = scored("b-1", [0, 0], [1, 1]).astype({"substitutions": float})
    unscored.loc[0, "substitutions"] = np.nan
    rows = pd.concat([scored("a-1", [1, 1], [1, 1]), unscored])
    row = compared(trials(("a", 1, "done", 1.0), ("b", 1, "done", 0.0)), rows, "a").iloc[0]
    assert row["n_utterances"] == 1


def test_unknown_baseline_names_the_variants() -> None:
    with pytest.raises(ValueError, match=r"baseline 'c' is not a variant.*\['a'\]"):
        compared(trials(("a", 1, "done", 0.5)), EMPTY, "c")


def test_every_variant_has_its_row_in_the_order_of_the_study_and_the_baseline_is_compared_with_nothing() -> None:
    tables = study_tables(num_seeds=3)
    table = comparisons(tables.results, tally(tables.results, tables.utterances), "reduction=sum")
    assert list(table["variant"]) == list(tables.results["variant"].unique())
    assert list(table["is_baseline"]) == [name == "reduction=sum" for name in table["variant"]]
    own = table[table["is_baseline"]].iloc[0]
    assert own[["difference", "p_holm", "tost_p", "seeds_needed"]].isna().all()
    assert (own["covers"], own["caution"], own["equivalent"]) == ("", "", False)


def test_interval_over_seeds_is_that_of_student() -> None:
    wers = [0.41, 0.44, 0.40, 0.47]
    results = trials(*(("a", k, "done", wer) for k, wer in enumerate(wers)))
    row = comparisons(results, tally(results, EMPTY)).iloc[0]
    expected = stats.t.interval(0.95, 3, np.mean(wers), stats.sem(wers))
    assert (row["seed_low"], row["seed_high"]) == pytest.approx(expected)


def test_interval_over_seeds_ends_where_a_rate_does() -> None:
    results = trials(("a", 1, "done", 0.1), ("a", 2, "done", 0.9), ("b", 1, "done", 0.9), ("b", 2, "done", 1.3))
    rows = comparisons(results, tally(results, EMPTY)).set_index("variant")
    assert list(rows["seed_low"]) == [0, 0]
    assert list(rows["seed_high"]) == [1, 1.3]


@pytest.mark.parametrize(
    ("errors", "base_errors", "low", "high"),
    [
        ([1, 9], [9, 9], -1.0, 1.0),  # Student's t of two speakers goes from -4.1 to 3.3
        ([9, 1], [5, 15], -1.5, 1.0),  # more errors than words: a rate of 1.5 has been seen
        ([16, 2], [1, 1], -1.0, 1.6),
    ],
)
def test_interval_of_a_difference_ends_where_differences_of_rates_do(errors, base_errors, low, high) -> None:
    rows = pd.concat([scored("a-1", base_errors, [10, 10]), scored("b-1", errors, [10, 10])])
    rates = [sum(base_errors) / 20, sum(errors) / 20]
    row = (
        compared(trials(("a", 1, "done", rates[0]), ("b", 1, "done", rates[1])), rows, "a")
        .set_index("variant")
        .loc["b"]
    )
    assert (row["low"], row["high"]) == (low, high)
    assert row["low"] < row["difference"] < row["high"]


def test_one_seed_has_no_spread_and_no_interval_over_seeds() -> None:
    row = compared(*drawn(1)).iloc[0]
    assert row[["seed_sd", "seed_low", "p_seeds", "effect_size", "seeds_needed"]].isna().all()
    assert row["covers"] == "other speakers, given this seed"
    assert np.isfinite(row["low"])


@pytest.mark.parametrize(
    ("num_seeds", "num_speakers", "covers"),
    [
        (2, 10, "other speakers, given these seeds"),
        (5, 10, "other seeds and other speakers"),
        (2, 1, "other utterances of this speaker, given these seeds"),
        (5, 1, "other seeds and other utterances of this speaker"),
    ],
)
def test_an_interval_says_what_it_speaks_of(num_seeds: int, num_speakers: int, covers: str) -> None:
    assert compared(*drawn(num_seeds, num_speakers)).loc[0, "covers"] == covers


def test_standard_error_over_speakers_is_that_of_regression_with_clustered_errors() -> None:
    """The difference of single words is a mean, whose clustered error statsmodels knows."""
    import statsmodels.api as sm

    results, rows = drawn(1, 12, words=True)
    row = compared(results, rows).iloc[0]
    wide = rows.pivot(index=["speaker", "utt_id"], columns="trial_id", values="substitutions")
    difference = (wide["b-0"] - wide["a-0"]).astype(float)
    fit = sm.OLS(difference.to_numpy(), np.ones(len(difference))).fit(
        cov_type="cluster", cov_kwds={"groups": pd.factorize(wide.index.get_level_values("speaker"))[0]}
    )
    small = len(difference) / (
        len(difference) - 1
    )  # statsmodels' own correction has (N - 1) / (N - 1) = 1 beside 12 / 11
    assert row["se"] == pytest.approx(fit.bse[0], rel=small - 1)
    assert row["df"] == pytest.approx(11)


def test_tests_over_seeds_are_those_of_scipy() -> None:
    results, rows = drawn(6)
    row = compared(results, rows).iloc[0]
    of = results.set_index("trial_id")["wer"]
    difference = np.array([of[f"b-{k}"] - of[f"a-{k}"] for k in range(6)])
    expected: Any = stats.ttest_1samp(difference, 0)
    assert row["difference"] == pytest.approx(difference.mean())
    assert row["p_seeds"] == pytest.approx(expected.pvalue)
    assert row["effect_size"] == pytest.approx(difference.mean() / difference.std(ddof=1))
    assert row["relative_reduction"] == pytest.approx(-difference.mean() / np.mean([of[f"a-{k}"] for k in range(6)]))


def test_only_single_words_have_a_test_of_mcnemar() -> None:
    assert np.isnan(compared(*drawn(1)).loc[0, "mcnemar_p"])
    results, rows = drawn(1, words=True)
    wide = rows.pivot(index="utt_id", columns="trial_id", values="substitutions")
    worse, better = ((wide[one] > wide[other]).sum() for one, other in (("b-0", "a-0"), ("a-0", "b-0")))
    expected = stats.binomtest(worse, worse + better).pvalue
    assert compared(results, rows).loc[0, "mcnemar_p"] == pytest.approx(expected)


def test_equal_variants_are_equivalent_and_a_large_difference_is_not() -> None:
    results, rows = drawn(5, 30)
    assert not compared(results, rows).loc[0, "equivalent"]
    copies = rows[rows["trial_id"].str.startswith("a")]
    same = pd.concat([copies, copies.assign(trial_id="b" + copies["trial_id"].str[1:])])
    row = compared(results, same).iloc[0]
    assert (row["tost_p"], row["equivalent"], row["p_sign_flip"], row["p_holm"]) == (0.0, True, 1.0, 1.0)


@pytest.mark.parametrize(
    ("num_seeds", "num_speakers", "equivalent"), [(5, 8, True), (4, 8, False), (1, 30, False), (5, 7, False)]
)
def test_few_seeds_or_speakers_do_not_show_that_variants_are_equivalent(num_seeds, num_speakers, equivalent) -> None:
    """The test of fewer is of these models or these speakers, which other seeds and speakers may contradict."""
    results, rows = drawn(num_seeds, num_speakers)
    copies = rows[rows["trial_id"].str.startswith("a")]
    same = pd.concat([copies, copies.assign(trial_id="b" + copies["trial_id"].str[1:])])
    row = compared(results, same).iloc[0]
    assert (row["tost_p"], row["equivalent"]) == (0.0, equivalent)
    assert within_margin(row, "yes") == ("yes" if equivalent else "too few seeds or speakers")


def test_a_wider_margin_makes_equivalence_easier() -> None:
    table = [compared(*drawn(5), margin=margin).loc[0, "tost_p"] for margin in (0.01, 0.1, 0.5)]
    assert table == sorted(table, reverse=True)
    assert table[-1] < 0.05


def test_margin_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="margin must be above 0, got 0"):
        compared(*drawn(1), margin=0)


def test_p_is_corrected_for_all_variants_of_the_study() -> None:
    tables = study_tables(num_seeds=2)
    table = compared(tables.results, tables.utterances)
    assert (table["p_holm"] >= table["p"]).all()
    assert table["p_holm"].min() == pytest.approx(min(1, 3 * table["p"].min()))


def test_difference_within_the_noise_floor_is_marked() -> None:
    tables = with_repeats(study_tables(), [0.0, 1.0])
    noise = noise_floor(tables.results, tables.utterances)
    assert compared(tables.results, tables.utterances, noise=noise)["within_noise"].all()
    assert not compared(tables.results, tables.utterances)["within_noise"].any()


def test_too_few_speakers_for_any_test_to_reach_its_level_are_told() -> None:
    row = compared(*drawn(5, 5)).iloc[0]
    assert row["smallest_p"] == 2 / 2**5
    assert "no test over so few can give p below 0.0625" in row["caution"]


def test_speakers_with_most_of_the_words_widen_the_interval_and_are_told() -> None:
    """Where 2 of 17 speakers have three quarters of the words, little is known of other speakers."""
    rng = np.random.default_rng(0)
    words = np.array([40] * 15 + [900] * 2)
    speakers = [f"S{k}" for k in range(17)]
    rows = pd.concat(
        [scored(f"{name}-1", rng.binomial(words, 0.4).tolist(), words.tolist(), speakers) for name in "ab"]
    )
    row = compared(trials(("a", 1, "done", 0.4), ("b", 1, "done", 0.4)), rows, "a").iloc[0]
    assert 1 < row["df"] < 2
    told = "2 of 17 speakers have half of the words or more: of other speakers this says as much as 2 speakers"
    assert told in row["caution"]
    alike = rows[rows["speaker"].isin(speakers[:15])]
    row = compared(trials(("a", 1, "done", 0.4), ("b", 1, "done", 0.4)), alike, "a").iloc[0]
    assert row["df"] == pytest.approx(14)
    assert "of the words" not in row["caution"]


@pytest.mark.parametrize("name", ["unknown", "", None, "no column"])
def test_where_speakers_are_not_known_nothing_is_tested_and_the_reason_is_told(name: str | None) -> None:
    """Utterances of one speaker resemble each other: taken as independent they find differences that are none."""
    results, rows = drawn(5)
    rows = rows.drop(columns="speaker") if name == "no column" else rows.assign(speaker=name)
    row = compared(results, rows).iloc[0]
    assert row[["n_speakers", "p", "p_holm", "p_sign_flip", "tost_p"]].isna().all()
    assert not row["equivalent"]
    assert np.isfinite(row[["low", "high", "p_interval", "p_seeds"]].astype(float)).all()
    assert row["covers"] == "other seeds and other utterances, if they are independent"
    assert row["caution"].startswith("Speakers are not known: utterances count as independent")
    by_group = group_comparisons(results, tally(results, rows, ["group"]), "group", rounds=200).iloc[0]
    assert by_group[["n_speakers", "p", "p_bh"]].isna().all()


def test_utterances_without_a_speaker_among_others_count_as_one_speaker_more_and_are_told() -> None:
    results, rows = drawn(5)
    names = rows["speaker"].replace({"S0": "", "S1": "unknown", "S2": None})
    row = compared(results, rows.assign(speaker=names)).iloc[0]
    assert row["n_speakers"] == 8
    assert np.isfinite(row["p"])
    assert "12 utterances have no known speaker: together they count as one speaker more." in row["caution"]


def test_seeds_that_contradict_each_other_are_told() -> None:
    results, rows = drawn(1, 10)
    other = {"a": "b", "b": "a"}
    turned = rows.assign(trial_id=rows["trial_id"].map(lambda name: f"{other[name[0]]}-1"))
    results = trials(*((name, k, "done", 0.5) for name in "ab" for k in (0, 1)))
    third = rows.assign(trial_id=rows["trial_id"].str.replace("-0", "-2"))
    results = pd.concat([results, trials(("a", 2, "done", 0.5), ("b", 2, "done", 0.4))])
    caution = compared(results, pd.concat([rows, turned, third])).loc[0, "caution"]
    assert "The seeds disagree: 2 of 3 have a difference of this sign." in caution


def test_a_study_whose_trials_all_failed_has_rows_and_reasons() -> None:
    results = trials(("a", 1, "failed", np.nan), ("b", 1, "failed", np.nan))
    table = comparisons(results, tally(results, EMPTY))
    assert list(table["variant"]) == ["a", "b"]
    assert table["mean_wer"].isna().all()
    assert "No seed finished" in table.loc[1, "caution"]
    assert group_comparisons(results, tally(results, EMPTY, ["speaker"]), "speaker").empty


def test_a_side_without_reference_words_has_no_difference() -> None:
    rows = pd.concat([scored(name, [0, 0], [0, 0]).assign(insertions=1) for name in ("a-1", "b-1")])
    row = compared(trials(("a", 1, "done", np.nan), ("b", 1, "done", np.nan)), rows).iloc[0]
    assert np.isnan(row["difference"])
    assert "no reference words" in row["caution"]
