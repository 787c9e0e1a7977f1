"""Statistics against closed forms and hand-counted tables."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from launcher.stats import group_table, paired_to_baseline, summary_by_variant
from tests.launcher.report_tables import EMPTY, study_tables


def trials(*rows: tuple[str, int, str, float]) -> pd.DataFrame:
    """Return results from (variant, seed, status, wer)."""
    table = pd.DataFrame(rows, columns=["variant", "seed", "status", "wer"])
    return table.assign(trial_id=[f"{variant}-{seed}" for variant, seed, *_ in rows])


def scored(trial_id: str, errors: list[int], words: list[int], speakers: list[str] | None = None) -> pd.DataFrame:
    """Return final-phase utterances whose errors are all substitutions."""
    names = speakers or [f"S{k}" for k in range(len(errors))]
    return pd.DataFrame(
        {
            "trial_id": trial_id,
            "phase": "final",
            "utt_id": [f"u{k}" for k in range(len(errors))],
            "speaker": names,
            "group": "word",
            "substitutions": errors,
            "deletions": 0,
            "insertions": 0,
            "hits": np.array(words) - np.array(errors),
            "char_errors": errors,
            "chars": words,
        }
    )


def test_summary_counts_every_requested_trial_but_averages_only_finished_ones() -> None:
    results = trials(("a", 1, "done", 0.4), ("a", 2, "done", 0.6), ("a", 3, "failed", 0.0), ("b", 1, "pending", np.nan))
    table = summary_by_variant(results, "wer").set_index("variant")
    assert list(table.loc["a", ["n_requested", "n_done", "n_values"]]) == [3, 2, 2]
    assert table.loc["a", "mean"] == pytest.approx(0.5)
    assert table.loc["a", "sd"] == pytest.approx(0.2 / 2**0.5)
    assert list(table.loc["b", ["n_requested", "n_done", "n_values"]]) == [1, 0, 0]
    assert np.isnan(table.loc["b", "mean"])


def test_summary_leaves_out_values_that_are_not_finite_and_says_how_many_are_left() -> None:
    results = trials(("a", 1, "done", 0.4), ("a", 2, "done", np.inf), ("a", 3, "done", np.nan))
    row = summary_by_variant(results, "wer").iloc[0]
    assert (row["n_done"], row["n_values"], row["mean"]) == (3, 1, pytest.approx(0.4))


def test_group_rate_is_a_ratio_of_sums_not_a_mean_of_rates() -> None:
    table = group_table(scored("a-1", [1, 0], [1, 9]), trials(("a", 1, "done", 0.1)), "group")
    assert table.loc[0, "wer"] == pytest.approx(1 / 10)
    assert (table.loc[0, "n_utterances"], table.loc[0, "reference_words"]) == (2, 10)


def test_group_without_reference_words_has_no_rate() -> None:
    silent = scored("a-1", [0, 0], [0, 0]).assign(insertions=1)
    table = group_table(silent, trials(("a", 1, "done", np.nan)), "group")
    assert table["wer"].isna().all()


def test_grouping_by_an_unknown_column_names_those_there_are() -> None:
    with pytest.raises(ValueError, match=r"cannot group by 'severity'.*'speaker'"):
        group_table(scored("a-1", [0], [1]), trials(("a", 1, "done", 0.0)), "severity")


def test_utterances_without_a_group_are_a_class_of_their_own() -> None:
    rows = scored("a-1", [0, 1], [1, 1]).assign(group=pd.Series(["word", None]))
    table = group_table(rows, trials(("a", 1, "done", 0.5)), "group")
    assert dict(zip(table["value"], table["wer"], strict=True)) == {"word": 0.0, "(not given)": 1.0}


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
    row = paired_to_baseline(results, rows, "a").iloc[0]
    assert row["difference"] == pytest.approx(((0.25 - 0.5) + (0.5 - 1.0)) / 2)
    assert (row["n_seeds"], row["n_speakers"], row["n_utterances"]) == (2, 2, 2)


def test_equal_variants_differ_by_exactly_nothing() -> None:
    errors = [0, 1, 2, 3, 1, 0]
    rows = pd.concat([scored("a-1", errors, [4] * 6), scored("b-1", errors, [4] * 6)])
    row = paired_to_baseline(trials(("a", 1, "done", 0.3), ("b", 1, "done", 0.3)), rows, None).iloc[0]
    assert (row["baseline"], row["difference"], row["low"], row["high"]) == ("a", 0, 0, 0)


def test_a_difference_that_every_utterance_shares_has_an_interval_of_no_width() -> None:
    rows = pd.concat([scored("a-1", [2] * 9, [4] * 9), scored("b-1", [1] * 9, [4] * 9)])
    row = paired_to_baseline(trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.25)), rows, "a").iloc[0]
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((-0.25, -0.25, -0.25))


def test_copies_of_a_seed_do_not_make_the_interval_narrower() -> None:
    rng = np.random.default_rng(0)
    base, other = rng.integers(0, 4, 40).tolist(), rng.integers(0, 4, 40).tolist()
    speakers = [f"S{k % 10}" for k in range(40)]

    def width(num_seeds: int) -> float:
        seeds = range(num_seeds)
        results = trials(*((v, s, "done", 0.5) for v in "ab" for s in seeds))
        rows = [scored(f"{v}-{s}", e, [4] * 40, speakers) for v, e in (("a", base), ("b", other)) for s in seeds]
        row = paired_to_baseline(results, pd.concat(rows), "a").iloc[0]
        return row["high"] - row["low"]

    assert width(6) == pytest.approx(width(1), rel=1e-9)


def test_interval_of_single_words_agrees_with_the_normal_approximation() -> None:
    rng = np.random.default_rng(1)
    errors = {name: (rng.random(4000) < rate).astype(int) for name, rate in (("a", 0.5), ("b", 0.4))}
    rows = pd.concat([scored(f"{name}-1", errors[name].tolist(), [1] * 4000, ["S0"] * 4000) for name in errors])
    row = paired_to_baseline(trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.4)), rows, "a").iloc[0]
    half = 1.96 * (errors["b"] - errors["a"]).std() / 4000**0.5
    assert (row["high"] - row["low"]) / 2 == pytest.approx(half, rel=0.06)  # 2,000 rounds: about 2.5 % noise


def test_order_of_the_utterances_changes_nothing() -> None:
    tables = study_tables()
    shuffled = tables.utterances.sample(frac=1.0, random_state=3)
    one, two = (paired_to_baseline(tables.results, rows, "reduction=mean") for rows in (tables.utterances, shuffled))
    pd.testing.assert_frame_equal(one, two)


def test_few_seeds_and_few_speakers_are_cautioned_against() -> None:
    rows = pd.concat([scored("a-1", [1, 0], [1, 1]), scored("b-1", [0, 0], [1, 1])])
    results = trials(("a", 1, "done", 0.5), ("b", 1, "done", 0.0))
    caution = paired_to_baseline(results, rows, "a").iloc[0]["caution"]
    assert "1 paired seed (fewer than 5)" in caution
    assert "2 speakers (fewer than 8)" in caution


def test_enough_seeds_and_speakers_carry_no_caution() -> None:
    tables = study_tables(num_seeds=5)
    assert paired_to_baseline(tables.results, tables.utterances).loc[0, "caution"] == ""


def test_utterances_that_one_side_lacks_are_left_out_and_counted() -> None:
    rows = pd.concat([scored("a-1", [1, 1, 1], [1, 1, 1]), scored("b-1", [0, 0], [1, 1])])
    row = paired_to_baseline(trials(("a", 1, "done", 1.0), ("b", 1, "done", 0.0)), rows, "a").iloc[0]
    assert row["n_utterances"] == 2
    assert "1 utterance was not scored" in row["caution"]


def test_nothing_in_common_gives_no_number_and_says_why() -> None:
    results = trials(("a", 1, "done", 0.5), ("b", 2, "done", 0.5))
    rows = pd.concat([scored("a-1", [1], [1]), scored("b-2", [1], [1])])
    for utterances in (rows, EMPTY):
        row = paired_to_baseline(results, utterances, "a").iloc[0]
        assert np.isnan(row["difference"])
        assert np.isnan(row["low"])
        assert "No seed finished in both variants" in row["caution"]


def test_unscored_utterances_are_not_taken_for_perfect_ones() -> None:
    unscored = scored("b-1", [0, 0], [1, 1]).astype({"substitutions": float})
    unscored.loc[0, "substitutions"] = np.nan
    rows = pd.concat([scored("a-1", [1, 1], [1, 1]), unscored])
    row = paired_to_baseline(trials(("a", 1, "done", 1.0), ("b", 1, "done", 0.0)), rows, "a").iloc[0]
    assert row["n_utterances"] == 1


def test_unknown_baseline_names_the_variants() -> None:
    with pytest.raises(ValueError, match=r"baseline 'c' is not a variant.*\['a'\]"):
        paired_to_baseline(trials(("a", 1, "done", 0.5)), EMPTY, "c")
