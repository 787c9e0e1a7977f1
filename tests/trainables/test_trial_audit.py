"""Every trial audits its model before and after training, once per distinct model, and is none the different for it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import trials
from safetensors.torch import load_file

AUDIT = {"audit": True, "audit_split": "train", "audit_utterances": 2000, "audit_exact": 0}


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trials.small_store(tmp_path_factory)


def job(store: Path, out: Path, reduction: str, **training: Any) -> dict[str, Any]:
    return trials.job(
        store, out / "trials" / reduction, {"num_train_epochs": 2}, {**AUDIT, **training},
        {"reduction": reduction, "hidden_dropout": 0.1}, trial_id=f"{reduction}-s1-00000000",
        axes={"reduction": reduction}, stop_file=str(out / "stop"), audits=str(out / "audits"), reductions=["sum", "mean"],
    )  # fmt: skip


def run(configuration: dict[str, Any]) -> Path:
    trials.run(configuration)
    return Path(configuration["folder"])


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory, store: Path) -> Path:
    folder = tmp_path_factory.mktemp("study")
    for reduction in ("sum", "mean"):
        run(job(store, folder, reduction))
    return folder


def test_trials_that_start_from_one_model_share_its_audit(out) -> None:
    tables = [pd.read_parquet(out / "trials" / reduction / "shares.parquet") for reduction in ("sum", "mean")]
    initial = [table.query("phase == 'initial'").drop(columns="trial_id").reset_index(drop=True) for table in tables]
    pd.testing.assert_frame_equal(*initial, check_exact=True)
    final = [table.query("phase == 'final'").drop(columns="trial_id").reset_index(drop=True) for table in tables]
    assert not final[0].equals(final[1])
    assert len(list((out / "audits").iterdir())) == 3


def test_the_gradient_shares_of_the_classes_of_a_column_add_up_to_one(out) -> None:
    table = pd.read_parquet(out / "trials" / "mean" / "shares.parquet")
    sums = table.groupby(["phase", "reduction", "column"])[["gradient_share", "loss_share", "utterance_share"]].sum()
    assert sums.to_numpy() == pytest.approx(1, abs=1e-6)
    assert {"group", "length"} == set(table["column"])


def test_shares_name_the_size_of_the_updates_that_training_makes(out, store, tmp_path) -> None:
    assert set(pd.read_parquet(out / "trials" / "mean" / "shares.parquet")["update_size"]) == {4}
    configuration = job(store, tmp_path, "mean")
    configuration["sections"]["Trainer Arguments"] |= {"gradient_accumulation_steps": 2, "do_train": False}
    folder = run(configuration)
    shares = pd.read_parquet(folder / "shares.parquet").set_index(["reduction", "column", "class"])
    assert set(shares["update_size"]) == {8}
    few = pd.read_parquet(out / "trials" / "mean" / "shares.parquet").query("phase == 'initial'")
    words = [one.loc[("token_mean", "group", "word"), "loss_share"] for one in (
        shares, few.set_index(["reduction", "column", "class"])
    )]  # fmt: skip
    assert words[0] < words[1]


def test_an_audit_changes_nothing_of_the_training(out, store, tmp_path) -> None:
    without = run(job(store, tmp_path, "mean", audit=False))
    ours, plain = (load_file(folder / "model" / "model.safetensors") for folder in (out / "trials" / "mean", without))
    assert all((ours[name] == plain[name]).all() for name in plain)
    assert not (without / "shares.parquet").exists()
    assert not (tmp_path / "audits").exists()


def test_an_interrupted_trial_ends_with_the_same_audits(out, store, tmp_path) -> None:
    configuration = job(store, tmp_path, "mean")
    trials.interrupt(configuration)
    folder = run(configuration)
    for part in ("shares", "audit", "cosines"):
        one, other = (pd.read_parquet(place / f"{part}.parquet") for place in (out / "trials" / "mean", folder))
        pd.testing.assert_frame_equal(one, other, check_exact=True)


@pytest.mark.parametrize("change", ["other columns", "audits lost"])
def test_what_happened_between_interruption_and_resumption_does_not_cost_the_trial(store, tmp_path, change) -> None:
    configuration = job(store, tmp_path, "mean")
    trials.interrupt(configuration)
    if change == "other columns":
        configuration["groups"] = ["group", "speaker"]
    else:
        shutil.rmtree(tmp_path / "audits")
    folder = run(configuration)
    shares = pd.read_parquet(folder / "shares.parquet")
    assert set(shares["phase"]) == {"initial", "final"}
    assert set(shares["column"]) == {*configuration["groups"], "length"}
    utterances = pd.read_parquet(folder / "utterances.parquet")
    assert utterances[configuration["groups"]].notna().to_numpy().all()


def test_a_list_of_weights_is_audited_as_the_loss_that_it_makes(store, tmp_path) -> None:
    configuration = job(store, tmp_path, "mean")
    configuration["sections"]["Model Configuration"]["dataset_loss_weighting"] = [5.0, 0.1]
    folder = run(configuration)
    used = json.loads((folder / "result.json").read_text())["reduction_used"]
    assert used.startswith("dataset_weighted(")
    assert used in set(pd.read_parquet(folder / "shares.parquet")["reduction"])


def test_two_models_that_differ_in_their_configuration_alone_have_two_audits(store, tmp_path) -> None:
    for name, heads in (("four", 4), ("two", 2)):
        configuration = job(store, tmp_path, "mean")
        configuration["folder"] = str(tmp_path / "trials" / name)
        configuration["sections"]["Trainer Arguments"]["do_train"] = False
        configuration["sections"]["Model Configuration"]["num_attention_heads"] = heads
        run(configuration)
    assert len(list((tmp_path / "audits").iterdir())) == 2


def test_a_sample_and_whole_gradients_on_request(out, store, tmp_path) -> None:
    folder = run(job(store, tmp_path, "mean", audit_utterances=6, audit_exact=4))
    assert len(pd.read_parquet(folder / "audit.parquet").query("phase == 'final'")) == 6
    exact = pd.read_parquet(folder / "exact.parquet")
    assert set(exact["phase"]) == {"initial", "final"}


def test_the_audit_says_what_it_saw(out) -> None:
    (summary, *_) = [json.loads(path.read_text()) for path in (out / "audits").glob("*/audit.json")]
    assert summary["split"] == ["train"]
    assert summary["excluded"] == 0
    assert "power(alpha=0.25)" in summary["reductions"]
