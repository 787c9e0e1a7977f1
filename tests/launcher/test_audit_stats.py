"""Comparisons of losses against closed forms, other programs and what must not change them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from statsmodels.stats.multitest import multipletests

from launcher.loss_files import Losses
from launcher.loss_stats import ALL, LENGTH_ONLY, analyse, hedges_g, holm, stack
from launcher.resampling import bounds, pearson_rounds, resampling, spearman_rounds


def losses(group: Any, loss: Any, length: Any, speaker: Any = None, *, per_label: bool = False) -> Losses:
    frame = pd.DataFrame({"group": pd.Categorical(group, ordered=True), "loss": np.asarray(loss, float),
                          "length": np.asarray(length, float)})  # fmt: skip
    if speaker is not None:
        frame["speaker"] = speaker
    return Losses("test", frame, {}, per_label)


def drawn(seed: int = 3, n: int = 90, speakers: int | None = None) -> Losses:
    rng = np.random.default_rng(seed)
    group = np.where(np.arange(n) % 3 == 0, "word", "sentence")
    length = np.where(group == "word", rng.integers(1, 8, n), rng.integers(20, 60, n))
    loss = length * rng.gamma(3, 0.4, n)
    return losses(group, loss, length, None if speakers is None else [f"s{k % speakers}" for k in range(n)])


def test_groups_are_described_by_their_own_utterances() -> None:
    table = analyse(losses(list("aabb"), [1, 3, 4, 8], [1, 3, 4, 4])).groups.set_index("group")
    assert list(table["mean"]) == [2, 6]
    assert list(table["median"]) == [2, 6]
    assert list(table["utterance_share"]) == [0.5, 0.5]
    assert list(table["label_share"]) == pytest.approx([4 / 12, 8 / 12])
    assert list(table["loss_share"]) == pytest.approx([4 / 16, 12 / 16])
    assert list(table["loss_per_label"]) == pytest.approx([1.0, 1.5])


def test_pairs_have_the_tests_of_scipy_on_the_losses_of_the_two_groups() -> None:
    data = drawn()
    row = analyse(data).pairs.iloc[0]
    first, second = (data.frame.loc[data.frame["group"] == name, "loss"] for name in ("sentence", "word"))
    welch: Any = stats.ttest_ind(first, second, equal_var=False)
    ranked: Any = stats.mannwhitneyu(first, second)
    assert (row["first"], row["second"]) == ("sentence", "word")
    assert row["difference"] == pytest.approx(first.mean() - second.mean())
    assert (row["welch_t"], row["welch_p"], row["welch_df"]) == pytest.approx((welch.statistic, welch.pvalue, welch.df))
    assert (row["mann_whitney_u"], row["mann_whitney_p"]) == pytest.approx((ranked.statistic, ranked.pvalue))
    wins = np.sign(first.to_numpy()[:, None] - second.to_numpy()[None]).mean()
    assert row["cliffs_delta"] == pytest.approx(wins)


def test_hedges_g_is_the_difference_in_pooled_deviations_times_its_correction() -> None:
    first, second = np.array([1.0, 2.0, 3.0]), np.array([3.0, 5.0, 7.0])
    # Pooled variance (2 x 1 + 2 x 4) / 4; with 4 degrees of freedom J = gamma(2) / (sqrt(2) gamma(1.5)).
    assert hedges_g(first, second) == pytest.approx(-3 / 2.5**0.5 / (2**0.5 * np.pi**0.5 / 2))


@pytest.mark.parametrize("number", [1, 2, 12])
def test_holm_agrees_with_statsmodels(number: int) -> None:
    p = np.random.default_rng(number).beta(0.3, 3, number).round(3)
    assert list(holm(p)) == pytest.approx(list(multipletests(p, method="holm")[1]))


def test_a_pair_without_a_test_does_not_count_as_one() -> None:
    assert list(holm(np.array([0.02, np.nan, 0.03]))) == pytest.approx([0.04, np.nan, 0.04], nan_ok=True)


def test_analyses_of_one_family_are_corrected_together_and_others_are_not() -> None:
    parts = {"x": analyse(drawn(1)), "y": analyse(drawn(2))}
    single = np.array([parts[name].pairs["mann_whitney_p"][0] for name in parts])
    together = stack(parts, "variant", one_family=True).pairs
    assert list(together["variant"]) == ["x", "y"]
    assert list(together["mann_whitney_p_holm"]) == pytest.approx(list(holm(single)))
    assert list(stack(parts, "file", one_family=False).pairs["mann_whitney_p_holm"]) == pytest.approx(list(single))


def test_correlations_are_those_of_scipy_over_all_and_within_each_group() -> None:
    data = drawn()
    table = analyse(data).correlations.set_index("within")
    word = data.frame[data.frame["group"] == "word"]
    for name, rows in ((ALL, data.frame), ("word", word)):
        assert table.loc[name, "pearson"] == pytest.approx(np.corrcoef(rows["loss"], rows["length"])[0, 1])
        assert table.loc[name, "spearman"] == pytest.approx(stats.spearmanr(rows["loss"], rows["length"])[0])
        assert table.loc[name, "pearson_low"] < table.loc[name, "pearson"] < table.loc[name, "pearson_high"]


def test_what_lies_between_groups_is_not_taken_for_what_lies_within_them() -> None:
    rng = np.random.default_rng(0)
    length = np.concatenate([rng.uniform(1, 5, 60), rng.uniform(40, 44, 60)])
    loss = np.concatenate([30 - length[:60], 120 - length[60:]]) + rng.normal(0, 0.1, 120)
    table = analyse(losses(["word"] * 60 + ["sentence"] * 60, loss, length)).correlations.set_index("within")
    assert table.loc[ALL, "pearson"] > 0.9
    assert table.loc[["word", "sentence"], "pearson"].max() < -0.9


def test_rounds_that_draw_everything_once_give_the_correlations_themselves() -> None:
    data = drawn()
    draws = resampling(data.frame)
    once = type(draws)(draws.unit, draws.unit_N, np.ones_like(draws.weight_RP[:1]))
    x_N, y_N = data.frame["loss"].to_numpy(), data.frame["length"].to_numpy()
    for member_N in (np.ones(len(x_N), bool), (data.frame["group"] == "word").to_numpy()):
        assert pearson_rounds(once, x_N, y_N, member_N)[0] == pytest.approx(
            stats.pearsonr(x_N[member_N], y_N[member_N])[0]
        )
        assert spearman_rounds(once, x_N, y_N, member_N)[0] == pytest.approx(
            stats.spearmanr(x_N[member_N], y_N[member_N])[0]
        )


def test_each_round_has_the_correlations_of_the_utterances_that_it_drew() -> None:
    data = drawn(speakers=7)
    draws = resampling(data.frame)
    x_N, y_N, all_N = data.frame["loss"].to_numpy(), data.frame["length"].to_numpy(), np.ones(len(data.frame), bool)
    pearson_R, spearman_R = (f(draws, x_N, y_N, all_N) for f in (pearson_rounds, spearman_rounds))
    for number in (0, 5, 1999):
        rows = np.repeat(np.arange(len(x_N)), draws.weight_RP[number, draws.unit_N].astype(int))
        assert pearson_R[number] == pytest.approx(stats.pearsonr(x_N[rows], y_N[rows])[0])
        assert spearman_R[number] == pytest.approx(stats.spearmanr(x_N[rows], y_N[rows])[0])


def test_the_interval_of_a_mean_is_that_of_its_standard_error() -> None:
    rng = np.random.default_rng(1)
    loss = np.abs(rng.normal(50, 5, 4000))
    row = analyse(losses(["a"] * 4000, loss, np.arange(4000)), correlation_intervals=False).groups.iloc[0]
    half = 1.96 * loss.std(ddof=1) / 4000**0.5
    assert (row["mean"] - row["low"], row["high"] - row["mean"]) == pytest.approx((half, half), rel=0.1)


def test_speakers_are_drawn_whole() -> None:
    # Ten speakers, each a constant: the spread is that of ten values, however many utterances repeat them.
    means = np.arange(10.0)
    speaker = np.repeat([f"s{k}" for k in range(10)], 200)
    loss = np.repeat(means, 200)
    by_speaker, alone = losses(["a"] * 2000, loss, range(2000), speaker), losses(["a"] * 2000, loss, range(2000))
    row, alone = (analyse(one, correlation_intervals=False).groups.iloc[0] for one in (by_speaker, alone))
    assert row["high"] - row["low"] == pytest.approx(2 * 1.96 * means.std() / 10**0.5, rel=0.1)
    assert (alone["high"] - alone["low"]) < 0.2 * (row["high"] - row["low"])


def test_bundles_of_very_many_utterances_give_the_same_spread() -> None:
    loss = np.random.default_rng(2).gamma(2, 3, 40_000)
    data = losses(["a"] * 40_000, loss, np.arange(40_000))
    draws = resampling(data.frame)
    assert draws.weight_RP.shape[1] == 8000
    low, high = bounds((draws.sums(loss[:, None]) / draws.sums(np.ones((40_000, 1))))[:, 0])
    assert high - low == pytest.approx(2 * 1.96 * loss.std() / 200, rel=0.1)


def test_speakers_who_are_in_both_groups_are_drawn_for_both_at_once() -> None:
    speaker = [f"s{k}" for k in range(12)]
    level = np.random.default_rng(4).normal(50, 20, 12)
    data = losses(["word"] * 12 + ["sentence"] * 12, [*level, *(level + 3)], range(24), speaker * 2)
    row = analyse(data).pairs.iloc[0]
    # Each speaker has the same difference, so drawing other speakers does not change it.
    assert (row["difference"], row["low"], row["high"]) == pytest.approx((3, 3, 3))


def test_patients_and_controls_are_drawn_apart_so_that_every_round_has_both() -> None:
    data = losses(["dys"] * 4 + ["ctl"] * 40, range(44), range(44), [f"s{k // 2}" for k in range(44)])
    draws = resampling(data.frame)
    member_N = (data.frame["group"] == "dys").to_numpy()
    assert set(draws.sums(member_N[:, None].astype(float))[:, 0]) == {4.0}


def test_a_group_of_one_speaker_has_no_interval() -> None:
    data = losses(
        ["dys"] * 5 + ["ctl"] * 5, range(10), [1, 2, 3, 4, 6] * 2, ["s0"] * 5 + ["s1", "s2", "s3", "s4", "s5"]
    )
    found = analyse(data)
    table = found.groups.set_index("group")
    assert np.isnan(table.loc["dys", "low"])
    assert np.isfinite(table.loc["ctl", "low"])
    assert any("Fewer than 8 speakers in ctl (5), dys (1)" in note for note in found.notes)


def test_speakers_who_are_a_group_each_still_differ_from_round_to_round() -> None:
    speaker = [f"s{k % 9}" for k in range(90)]
    loss, length = (drawn().frame[name].to_numpy() for name in ("loss", "length"))
    of_each, of_one = (analyse(losses(group, loss, length, speaker)) for group in (speaker, ["all"] * 90))
    columns = ["pearson", "pearson_low", "pearson_high", "spearman_low", "spearman_high"]
    row, same = (found.correlations.set_index("within").loc[ALL, columns] for found in (of_each, of_one))
    assert list(row) == list(same)
    assert row["pearson_low"] < row["pearson"] < row["pearson_high"]
    assert np.isnan(of_each.groups["low"]).all()


def test_a_group_of_one_speaker_is_drawn_with_the_smallest_other() -> None:
    groups = ["dys"] + ["l2"] * 3 + ["ctl"] * 9
    draws = resampling(losses(groups, range(13), range(13), [f"s{k}" for k in range(13)]).frame)
    drawn_R3 = draws.sums(np.stack([[group == name for group in groups] for name in ("dys", "l2", "ctl")], 1) * 1.0)
    assert set(drawn_R3[:, 0]) == {0.0, 1.0, 2.0, 3.0, 4.0}
    assert set(drawn_R3[:, 0] + drawn_R3[:, 1]) == {4.0}
    assert set(drawn_R3[:, 2]) == {9.0}


def test_which_independence_is_assumed_is_said() -> None:
    assert "speakers are drawn" in analyse(drawn(speakers=9)).method
    assert "utterances are drawn" in analyse(drawn()).method
    assert any("no speaker is known" in note for note in analyse(drawn()).notes)
    assert any("only one speaker" in note for note in analyse(drawn(speakers=1)).notes)


@pytest.mark.parametrize("name", ["unknown", "", " Unknown ", "(not given)"])
def test_utterances_of_nobody_known_are_not_those_of_one_speaker(name: str) -> None:
    """Else their interval would be as if one person had spoken, and where all are nobody's it would say that one is known."""
    plain, data = analyse(drawn()), drawn()
    nobodys = analyse(losses(data.frame["group"], data.frame["loss"], data.frame["length"], [name] * 90))
    pd.testing.assert_frame_equal(nobodys.groups, plain.groups)
    assert nobodys.notes == plain.notes
    half = [name if place % 2 else f"s{place % 9}" for place in range(90)]
    some = analyse(losses(data.frame["group"], data.frame["loss"], data.frame["length"], half))
    assert any(
        "45 utterances of no known speaker: together they count as one speaker more" in one for one in some.notes
    )
    named = data.frame["group"][::2]
    known = [len({half[place] for place in named.index[named == group]}) for group in some.groups["group"]]
    assert list(some.groups["speakers"]) == known


def test_the_regression_finds_what_the_losses_were_made_from() -> None:
    rng = np.random.default_rng(5)
    length = rng.uniform(1, 60, 300)
    group = np.where(np.arange(300) % 2 == 0, "a", "b")
    table = analyse(losses(group, 40 + 0.8 * length - 15 * (group == "b"), length)).regression
    assert list(table["term"]) == ["intercept", "length (each label)", "b (against a)"]
    assert list(table["coefficient"]) == pytest.approx([40, 0.8, -15])


def test_the_errors_of_the_regression_are_hc3_or_clustered_in_closed_form() -> None:
    data = drawn(speakers=15)
    frame = data.frame
    x_NK = np.column_stack([np.ones(len(frame)), frame["length"], frame["group"] == "word"]).astype(float)
    bread = np.linalg.inv(x_NK.T @ x_NK)
    residual_N = frame["loss"] - x_NK @ (bread @ x_NK.T @ frame["loss"])
    scaled_N = residual_N / (1 - np.einsum("nk,kl,nl->n", x_NK, bread, x_NK))
    hc3 = bread @ (x_NK.T * scaled_N.to_numpy() ** 2) @ x_NK @ bread
    plain = analyse(losses(frame["group"], frame["loss"], frame["length"])).regression
    assert set(plain["errors"]) == {"HC3"}
    assert list(plain["standard_error"]) == pytest.approx(list(np.sqrt(np.diag(hc3))))
    scores = pd.DataFrame(x_NK * residual_N.to_numpy()[:, None]).groupby(frame["speaker"]).sum().to_numpy()
    small = 15 / 14 * (len(frame) - 1) / (len(frame) - 3)
    clustered = analyse(data).regression
    assert set(clustered["errors"]) == {"clustered by speaker"}
    expected = np.sqrt(np.diag(bread @ (scores.T @ scores) @ bread) * small)
    assert list(clustered["standard_error"]) == pytest.approx(list(expected))


@pytest.mark.parametrize(
    ("data", "note"),
    [
        (losses(list("aabb"), [1, 2, 3, 4], [2, 2, 5, 5]), "length does not vary apart from the groups"),
        (
            losses(["a"] * 6, [1, 4, 2, 3, 9, 2], [5, 5, 5, 5, 5, 9]),
            "length varies apart from the groups in one utterance",
        ),
        (losses(list("aaabbb"), range(6), [2, 2, 7, 3, 3, 3], list("rstuvw")), "which leaves no error to estimate"),
        (losses(list("ab"), [1, 2], [1, 2]), "leaves out groups of one utterance: a, b"),
        (losses(list("aaa"), [2, 2, 2], [1, 2, 3]), "all losses are equal"),
        (losses(["a"] * 6, range(6), range(6), list("xyxyxy")), "2 speakers are too few for 2 terms"),
    ],
)
def test_without_a_regression_the_reason_is_told(data: Losses, note: str) -> None:
    found = analyse(data)
    assert found.regression.empty
    assert any(note in line for line in found.notes)


@pytest.mark.parametrize("place", range(5))
def test_a_regression_does_not_hang_on_the_order_of_the_rows(place: int) -> None:
    # One utterance that determines its own fit has a residual of rounding, which HC3 divides by rounding.
    loss, length = [3.1, 4.7, 2.2, 6.9, 5.3], [5.0] * 5
    length[place] = 11.0
    assert analyse(losses(["a"] * 5, loss, length)).regression.empty
    length[place - 1] = 8.0  # a second one that varies, and there is an error to estimate
    ordered = np.argsort(length, kind="stable")
    given = analyse(losses(["a"] * 5, loss, length)).regression
    sorted_ = analyse(losses(["a"] * 5, np.array(loss)[ordered], np.array(length)[ordered])).regression
    assert list(given["standard_error"]) == pytest.approx(list(sorted_["standard_error"]))


def test_one_utterance_and_equal_losses_give_dashes_not_errors() -> None:
    assert analyse(losses(["a"], [1.0], [2])).pairs.empty
    flat = analyse(losses(list("aabb"), [2.0] * 4, [1, 2, 3, 5]))
    assert np.isnan(flat.pairs.loc[0, "welch_t"])
    assert flat.pairs.loc[0, "cliffs_delta"] == 0
    assert flat.correlations["pearson"].isna().all()
    zero = analyse(losses(list("ab"), [0.0, 0.0], [0, 0]))
    assert list(zero.groups["loss_share"]) == [0, 0]


def test_length_only_reductions_share_the_loss_as_their_weights_say() -> None:
    data = losses(list("ab"), [10.0, 30.0], [4, 16])
    shares = analyse(data).shares.set_index(["reduction", "group"])["loss_share"]
    assert shares["sum", "a"] == pytest.approx(10 / 40)
    assert shares["mean", "a"] == pytest.approx((10 / 4) / (10 / 4 + 30 / 16))
    assert shares["power(alpha=0.5)", "a"] == pytest.approx((10 / 2) / (10 / 2 + 30 / 4))


def test_losses_per_label_give_the_same_shares_as_the_nats_they_were_divided_from() -> None:
    data = drawn()
    divided = losses(
        data.frame["group"], data.frame["loss"] / data.frame["length"], data.frame["length"], per_label=True
    )
    for column in ("loss_share", "factor"):
        assert list(analyse(divided).shares[column]) == pytest.approx(list(analyse(data).shares[column]))
    assert list(analyse(divided).groups["loss_per_label"]) == pytest.approx(
        list(analyse(data).groups["loss_per_label"])
    )


def test_shares_of_a_reduction_add_up_to_one() -> None:
    shares = analyse(drawn()).shares.groupby("reduction")["loss_share"].sum()
    assert list(shares) == pytest.approx([1.0] * len(LENGTH_ONLY))


def test_the_same_losses_give_the_same_numbers() -> None:
    first, second = (analyse(drawn(speakers=11)) for _ in range(2))
    for name, table in first.frames().items():
        pd.testing.assert_frame_equal(table, second.frames()[name])
