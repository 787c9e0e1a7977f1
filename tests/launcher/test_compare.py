"""Two studies side by side: the same statistics as within one, on what both scored, and which trials agree bit for bit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import s3
from click.testing import CliRunner, Result
from scipy import stats

from launcher import comparing, two_studies
from launcher.agreement import agree
from launcher.cli import cli
from launcher.comparisons import comparisons, group_comparisons
from launcher.matching import Match, match
from launcher.mirror import Mirror
from launcher.reading import ResultsError
from launcher.tallies import tally
from launcher.two_studies import Side
from launcher.utterance_files import open_study
from tests.launcher.report_tables import Tables, study_tables, with_repeats, write_study

BOTH = replace(study_tables(num_seeds=3), results=study_tables(num_seeds=3).results.assign(repeat=0))
GROUPS = ["group", "speaker_type"]


def only(variant: str, tables: Tables = BOTH, **columns: Any) -> Tables:
    """Return a study of one variant, whose trials have other values in some columns."""
    results = tables.results[tables.results["variant"] == f"reduction={variant}"].assign(**columns)
    kept = tables.utterances["trial_id"].isin(results["trial_id"])
    return replace(tables, results=results, utterances=tables.utterances[kept], study={**tables.study, "margin": 0.01})


def side(name: str, tables: Tables) -> Side:
    return Side(name, tables.results, tables.utterances)


def run(*words: str | Path) -> Result:
    return CliRunner().invoke(cli, ["compare", *map(str, words)])


def refusal(*words: str | Path) -> str:
    error = run(*words).exception
    assert isinstance(error, ResultsError), error
    return str(error)


def test_two_studies_of_one_variant_say_what_one_study_of_both_says() -> None:
    within = comparisons(BOTH.results, tally(BOTH.results, BOTH.utterances), "reduction=mean").set_index("variant")
    matches = [Match("reduction=mean", "reduction=sum")]
    scores = two_studies.collect(side("A", only("mean")), side("B", only("sum")), matches, GROUPS)
    row = two_studies.compared(scores, matches, 0.01, None).iloc[0]
    wanted = within.loc["reduction=sum"]
    for name in (
        "difference",
        "low",
        "high",
        "p",
        "p_sign_flip",
        "p_seeds",
        "tost_p",
        "effect_size",
        "mapsswe_p",
        "covers",
    ):
        assert row[name] == wanted[name], name
    assert row["n_paired_seeds"] == 3
    assert row["wer_b"] - row["wer_a"] == pytest.approx(row["difference"], abs=1e-12)
    assert row["wer_a"] == pytest.approx(within.loc["reduction=mean", "mean_wer"])
    by_group = two_studies.compared_by_group(scores, matches, "group", {}, rounds=200)
    inside = group_comparisons(
        BOTH.results, tally(BOTH.results, BOTH.utterances, GROUPS), "group", "reduction=mean", rounds=200
    )
    inside = inside[inside["variant"] == "reduction=sum"]
    assert by_group is not None
    assert by_group["difference"].tolist() == inside["difference"].tolist()
    assert by_group["low"].tolist() == inside["low"].tolist()


def _corpus(utterances: pd.DataFrame, number: int) -> pd.Series:
    """Spread the utterances of each of the 8 speakers over so many corpora, which are as many speakers of one name."""
    return "corpus" + (utterances["utt_id"].str[3:].astype(int) // 8 % number).astype(str)


@pytest.mark.parametrize("corpora", [1, 2])
def test_only_utterances_that_both_scored_with_one_reference_are_compared(corpora: int) -> None:
    one, other = (
        replace(tables, utterances=tables.utterances.assign(corpus=_corpus(tables.utterances, corpora)))
        for tables in (only("mean"), only("sum"))
    )
    ours = one.utterances[~one.utterances["utt_id"].isin(["utt0000", "utt0001"])]
    theirs = other.utterances[other.utterances["utt_id"] != "utt0007"]
    respelt = theirs["utt_id"] == "utt0005"
    theirs = theirs.assign(reference=theirs["reference"].where(~respelt, theirs["reference"].str.upper()))
    matches = [Match("reduction=mean", "reduction=sum")]
    scores = two_studies.collect(
        side("A", replace(one, utterances=ours)), side("B", replace(other, utterances=theirs)), matches, GROUPS
    )
    assert scores.left_out == {"A": 1, "B": 2, "other_reference": 1}
    assert scores.common == 80 - 4

    def rate(table: pd.DataFrame) -> float:
        left = table["utt_id"].isin(["utt0000", "utt0001", "utt0007", "utt0005"])
        kept = table[(table["phase"] == "final") & ~left]
        sums = kept.groupby("trial_id")[["substitutions", "deletions", "insertions", "hits"]].sum()
        words = sums["substitutions"] + sums["deletions"] + sums["hits"]
        return ((sums["substitutions"] + sums["deletions"] + sums["insertions"]) / words).mean()

    row = two_studies.compared(scores, matches, 0.01, None, rounds=100).iloc[0]
    assert row["difference"] == pytest.approx(rate(theirs) - rate(ours), abs=1e-7)
    assert row["n_utterances"] == 76
    assert row["n_speakers"] == 8 * corpora


def test_studies_without_a_common_seed_are_compared_over_their_means_and_say_so() -> None:
    one, other = only("mean"), only("sum")
    other = replace(other, results=other.results.assign(seed=[7, 8, 9]))
    matches = [Match("reduction=mean", "reduction=sum")]
    row = two_studies.compared(
        two_studies.collect(side("A", one), side("B", other), matches, []), matches, 0.01, None, rounds=500
    ).iloc[0]
    assert not row["paired"]
    assert row["n_paired_seeds"] == 0
    assert not row["equivalent"]
    assert row["difference"] == pytest.approx(other.results["wer"].mean() - one.results["wer"].mean(), abs=1e-7)
    welch = np.asarray(stats.ttest_ind(other.results["wer"], one.results["wer"], equal_var=False))[1]
    assert row["p_seeds"] == pytest.approx(welch, rel=1e-4)
    assert row["covers"] == "other speakers, given these seeds"
    assert row["caution"].startswith("No seed is in both: each side is averaged over its own (3 and 3)")
    assert "paired seed" not in row["caution"]


def test_seeds_without_a_partner_are_named() -> None:
    one, other = only("mean"), only("sum")
    other = replace(other, results=other.results.assign(seed=[2, 3, 4]))
    matches = [Match("reduction=mean", "reduction=sum")]
    scores = two_studies.collect(side("A", one), side("B", other), matches, [])
    row = two_studies.compared(scores, matches, 0.01, None, rounds=100).iloc[0]
    assert (row["n_paired_seeds"], row["seeds_left_out"]) == (2, "1 of A; 4 of B")


def plan(*cells: dict[str, Any], rate: float = 0.1) -> dict[str, Any]:
    trials = [
        {"trial_id": f"t{k}", "variant": ", ".join(f"{n}={v}" for n, v in cell.items()), "seed": 1,
         "axes": {**cell, "seed": 1}, "configuration": {"Trainer Arguments": {"learning_rate": rate}}}
        for k, cell in enumerate(cells)
    ]  # fmt: skip
    return {"trials": trials}


def test_variants_match_by_what_either_study_varies() -> None:
    reductions = plan({"reduction": "sum"}, {"reduction": "mean"})
    both = [Match("reduction=sum", "reduction=sum"), Match("reduction=mean", "reduction=mean")]
    assert match(reductions, plan({"reduction": "mean"}, {"reduction": "sum"}, {"reduction": "x"}, rate=0.5)) == both
    rates = plan(
        {"reduction": "sum", "learning_rate": 0.1}, {"reduction": "sum", "learning_rate": 0.2},
        {"reduction": "mean", "learning_rate": 0.1},
    )  # fmt: skip
    assert match(reductions, rates) == [
        Match("reduction=sum", "reduction=sum, learning_rate=0.1"),
        Match("reduction=mean", "reduction=mean, learning_rate=0.1"),
    ]
    assert match(plan({"reduction": "sum"}), plan({"reduction": "mean"})) == [Match("reduction=sum", "reduction=mean")]


@pytest.mark.parametrize(
    ("wanted", "told"),
    [
        (["A=sum,B=nothing"], "'nothing' is no variant of the study B; choose one of: reduction=sum; reduction=mean"),
        (["sum"], 'write it as --variant "A=NAME,B=NAME"'),
    ],
)
def test_a_pair_of_variants_that_is_none_is_told_with_what_there_is(wanted: list[str], told: str) -> None:
    study = plan({"reduction": "sum"}, {"reduction": "mean"})
    assert match(study, study, ["A=sum, B=reduction=mean"]) == [Match("reduction=sum", "reduction=mean")]
    with pytest.raises(ResultsError, match=told):
        match(study, study, wanted)


def test_no_common_variant_is_told_with_those_of_both() -> None:
    with pytest.raises(
        ResultsError, match=r"no variant is in both.*A has reduction=a; reduction=b; B has reduction=c; reduction=d"
    ):
        match(plan({"reduction": "a"}, {"reduction": "b"}), plan({"reduction": "c"}, {"reduction": "d"}))


def test_equal_trials_agree_and_one_letter_or_bit_is_seen() -> None:
    row = BOTH.results.iloc[0].to_dict()
    said = BOTH.utterances[BOTH.utterances["trial_id"] == row["trial_id"]]
    same = agree(row, row, said, said.sample(frac=1, random_state=1))
    assert same.identical
    assert same.scored == 160
    last = said.index[-1]
    other = said.assign(hypothesis=said["hypothesis"].where(said.index != last, "other words"))
    found = agree(row, row, said, other)
    assert (found.identical, found.hypotheses_differ) == (False, 1)
    assert found.first[0]["b"] == "other words"
    one_bit = said["loss"].astype(float).where(said.index != last, np.nextafter(said["loss"][last], 1e9))
    assert not agree(row, row, said, said.assign(loss=one_bit)).identical
    assert not agree(row, row, said, said.assign(loss=said["loss"].where(said.index != last))).identical
    assert not agree(row, row, said, said.iloc[1:]).identical
    assert agree(row, {**row, "wer": row["wer"] + 1e-16}, said, said).scores_differ == ("wer",)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    place = tmp_path_factory.mktemp("studies")
    return write_study(BOTH, place / "a"), write_study(BOTH, place / "b")


def test_a_study_that_was_repeated_exactly_is_recognised(folders: tuple[Path, Path]) -> None:
    ran = run(*folders)
    assert ran.exit_code == 0, ran.exception
    assert "Nothing differs: 11 trials are identical in every hypothesis, loss and score." in ran.stdout
    assert "Data, code, versions, machine and configuration: nothing that was recorded differs." in ran.stdout
    assert "Compared on 80 utterances that both scored; left out: 0 of A alone" in ran.stdout
    assert "A is not finished: 11 of 12 trials done, 1 failed" in ran.stderr


def test_what_was_made_differently_is_listed(folders: tuple[Path, Path], tmp_path: Path) -> None:
    made = BOTH.results.assign(data_fingerprint="ffff", node="node-9")
    other = write_study(replace(BOTH, results=made, study={**BOTH.study, "margin": 0.02}), tmp_path / "other")
    study = json.loads((other / "study.json").read_text())
    study["data"]["fingerprint"] = "ffff"
    for trial in study["trials"]:
        trial["configuration"] = {"Trainer Arguments": {"num_train_epochs": 3}}
    (other / "study.json").write_text(json.dumps(study))
    ran = run(folders[0], other)
    assert "  data_fingerprint: ab12cd34 | ffff\n  node: node-0 | node-9\n" in ran.stdout
    assert "Trainer Arguments.num_train_epochs: its default | 3" in ran.stdout
    assert "the margin of A is 0.01 and that of B 0.02" in ran.stderr


def test_json_is_alone_on_stdout_and_has_every_figure(folders: tuple[Path, Path], tmp_path: Path) -> None:
    changed = BOTH.utterances.assign(
        hypothesis=BOTH.utterances["hypothesis"].where(BOTH.utterances["utt_id"] != "utt0003", "x")
    )
    other = write_study(replace(BOTH, utterances=changed), tmp_path / "other")
    ran = run(folders[0], other, "--json", "--variant", "A=mean,B=sum", "--margin", "0.2")
    found = json.loads(ran.stdout)
    (row,) = found["variants"]
    assert (row["variant_a"], row["variant_b"], row["margin"]) == ("reduction=mean", "reduction=sum", 0.2)
    assert row["difference"] == pytest.approx(row["wer_b"] - row["wer_a"])
    assert set(found["groups"]) == set(GROUPS)
    assert [trial["same_trial"] for trial in found["trials"]] == [False] * 3
    assert found["utterances"] == {"common": 80, "left_out": {"A": 0, "B": 0, "other_reference": 0}}
    text = run(folders[0], other, "--variant", "A=mean,B=mean").stdout
    assert "Of 3 pairs of trials of the same variant and seed, 0 are identical" in text
    assert "final utt0003: " in text


def test_the_noise_floor_of_either_study_marks_what_is_within_it(folders: tuple[Path, Path], tmp_path: Path) -> None:
    noisy = with_repeats(BOTH, [0.1, 0.99], differing=4)
    other = write_study(noisy, tmp_path / "noisy")
    ran = run(folders[0], other, "--variant", "A=mean,B=sum")
    assert "within the noise floor" in ran.stdout
    assert "(of B)" in ran.stdout


def test_a_request_that_cannot_be_met_says_why(folders: tuple[Path, Path], tmp_path: Path) -> None:
    one = folders[0]
    assert "are the same folder; name two studies" in refusal(one, one)
    assert "no study.json" in refusal(one, tmp_path / "nowhere")
    waiting = write_study(replace(BOTH, results=BOTH.results.assign(status="failed", error="no")), tmp_path / "waiting")
    assert "no trial of B that is to be compared is done (12 failed)" in refusal(one, waiting)
    elsewhere = BOTH.utterances.assign(utt_id="other-" + BOTH.utterances["utt_id"])
    apart = write_study(replace(BOTH, utterances=elsewhere), tmp_path / "apart")
    assert "scored no utterance in common: A alone 80" in refusal(one, apart)
    counted = ["substitutions", "deletions", "insertions", "hits"]
    old = write_study(replace(BOTH, utterances=BOTH.utterances.drop(columns=counted)), tmp_path / "old")
    assert "B has no utterances with counted errors (it was written by an older version" in refusal(one, old)
    assert run(one, folders[1], "--margin", "0").exit_code == 2


def test_the_comparison_only_reads(folders: tuple[Path, Path]) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for folder in folders for path in folder.rglob("*"))
    comparing.compare(open_study(folders[0]), open_study(folders[1]), folders, wanted=["A=mean,B=mean"])
    assert before == sorted((path, path.stat().st_mtime_ns) for folder in folders for path in folder.rglob("*"))


def test_studies_in_a_bucket_compare_as_those_in_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with s3.bucket() as bucket:
        for name in ("mean", "sum"):
            write_study(only(name), tmp_path / name)
            mirror = Mirror(bucket.uri(name), tmp_path / name)
            mirror.push(mirror.files())
        there = run(bucket.uri("mean"), tmp_path / "sum", "--json")
        both = run(bucket.uri("mean"), bucket.uri("sum"), "--json")
    assert there.exit_code == 0, there.exception
    here = json.loads(run(tmp_path / "mean", tmp_path / "sum", "--json").stdout)
    for said in (there, both):
        told = json.loads(said.stdout)
        assert {**told, "a": None, "b": None} == {**here, "a": None, "b": None}
        assert "endpoint_override" in json.dumps(told["a"])
