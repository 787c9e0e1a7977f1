"""Real studies on a real Ray: both backends, a trial that fails, an interruption. Two clusters in all."""

from __future__ import annotations

import json
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import small_rows, write_manifest
from launches import DEADLINE_SECONDS, ROOT, STUDY, environment, head, start
from mlflow import MlflowClient

from launcher import doors, results

pytestmark = pytest.mark.ray


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = small_rows(folder)
    rows.append({**rows[0], "utt_id": "gone", "audio": "gone.wav"})
    return write_manifest(folder / "manifest.csv", rows)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, int, str, str]:
    """The training function inside Tune, which starts fewer processes than Ray Train; one trial learns, one diverges."""
    folder = tmp_path_factory.mktemp("tune") / "out"
    process = start(folder, data, *STUDY, "--set", "learning_rate=0.003,1e30", "--backend", "tune", "--json")
    stdout, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    return folder, process.returncode, stdout, stderr


def test_a_failed_trial_keeps_its_row_with_its_error_and_the_exit_code_says_so(trained) -> None:
    folder, code, _, stderr = trained
    frame = results.load(folder).results.set_index("learning_rate")
    assert code == 3, stderr
    assert frame["status"].to_dict() == {0.003: "done", 1e30: "failed"}
    assert "Diverged: diverged at update" in frame.loc[1e30, "error"]
    assert "Diverged" in stderr


def test_stdout_is_json_alone(trained) -> None:
    _, _, stdout, _ = trained
    content = json.loads(stdout)
    assert [trial["status"] for trial in content["trials"]] == ["done", "failed"]


def test_rejected_utterances_are_counted_on_screen_and_listed(trained) -> None:
    folder, _, _, stderr = trained
    assert "Rejected 1 of 21 utterances: 1 missing_file (word 1); each is listed in rejects.parquet" in stderr
    assert list(results.load(folder).rejects["utt_id"]) == ["gone"]


def test_everything_ends_in_tables_report_and_tensorboard(trained) -> None:
    folder, _, _, _ = trained
    for name in ("results", "utterances", "history"):
        assert len(pd.read_parquet(folder / f"{name}.parquet")) > 0
    done = results.load(folder).results.query("status == 'done'")["trial_id"].item()
    (run,) = (folder / "tensorboard").glob(f"learning_rate=0.003-s1-{done.rpartition('-')[2]}")
    assert list(run.rglob("events.out.tfevents.*"))
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert done in page
    assert "diverged at update" in page


def test_no_secret_is_left_in_the_folder_or_at_home(trained) -> None:
    folder, _, _, _ = trained
    assert not (folder.parent / "home" / ".ray").exists()
    assert not [path for path in folder.rglob("*.pkl")]


@pytest.fixture(scope="module")
def interrupted(tmp_path_factory: pytest.TempPathFactory, data: Path) -> tuple[Path, int, str]:
    """Ray Train, interrupted once it has begun to learn."""
    folder = tmp_path_factory.mktemp("train") / "out"
    words = (*STUDY, "--set", "learning_rate=0.003")
    process = start(folder, data, *words)
    _wait_for_history(folder, process)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    again = start(folder, data, *words)
    _, later = again.communicate(timeout=DEADLINE_SECONDS)
    assert again.returncode == 0, later
    return folder, process.returncode, stderr


def _wait_for_history(folder: Path, process: subprocess.Popen[str]) -> None:
    until = time.monotonic() + DEADLINE_SECONDS
    while not list(folder.glob("trials/*/history.parquet")):
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < until
        try:
            process.wait(0.02)
        except subprocess.TimeoutExpired:
            continue


@pytest.mark.slow
def test_an_interrupted_study_says_how_to_go_on(interrupted) -> None:
    _, code, stderr = interrupted
    if code == 0:
        pytest.fail("the trial ended before it could be interrupted")
    assert code == 130
    assert "to go on: python launch.py --grid losses" in stderr


@pytest.mark.slow
def test_both_backends_give_the_same_numbers_even_across_an_interruption(trained, interrupted) -> None:
    ours: list[Any] = []
    for folder in (trained[0], interrupted[0]):
        tables = results.load(folder)
        trial = tables.results.query("status == 'done'")["trial_id"].item()
        ours.append(
            (
                tables.results.set_index("trial_id")
                .loc[trial, ["wer", "nll_per_label", "grad_norm", "updates"]]
                .to_list(),
                tables.history.query("trial_id == @trial").drop(columns="trial_id").reset_index(drop=True),
                tables.utterances.query("trial_id == @trial").drop(columns="trial_id").reset_index(drop=True),
            )
        )
    assert ours[0][0] == ours[1][0]
    pd.testing.assert_frame_equal(ours[0][1], ours[1][1], check_exact=True)
    pd.testing.assert_frame_equal(ours[0][2], ours[1][2], check_exact=True)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, dict[str, str]]]:
    """A cluster that is there already, with more logical CPUs than this machine has, and a token of its own."""
    home = tmp_path_factory.mktemp("cluster") / "home"
    with head({**environment(home), "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32)}) as started:
        yield started


@pytest.mark.slow
@pytest.mark.parametrize("workers", [2, 3])
def test_workers_of_ray_train_share_an_update_out_and_change_nothing(trained, data, cluster, tmp_path, workers) -> None:
    address, env = cluster
    command = [sys.executable, str(ROOT / "launch.py"), "--grid", "losses", "--data", str(data), "--out", str(tmp_path)]
    more = ("--workers", str(workers), "--set", "report_to=mlflow")
    words = [*STUDY, "--set", "learning_rate=0.003", "--address", address, *more]
    done = subprocess.run([*command, *words], capture_output=True, text=True, env=env, timeout=DEADLINE_SECONDS)
    assert done.returncode == 0, done.stderr
    one, many = results.load(trained[0]), results.load(tmp_path)
    assert many.results["workers"].item() == workers
    client = MlflowClient(tracking_uri=f"sqlite:///{tmp_path / 'mlflow.db'}")
    (made,) = client.search_runs([experiment.experiment_id for experiment in client.search_experiments()])
    assert made.data.metrics["wer"] == many.results["wer"].item(), "the first worker alone reports"
    trial = many.results["trial_id"].item()
    assert trial in set(one.results["trial_id"])
    for name in ("loss", "grad_norm", "eval_nll_per_label"):
        ours = many.history[name].dropna().to_list()
        assert ours == pytest.approx(one.history.query("trial_id == @trial")[name].dropna().to_list(), rel=1e-4)
    assert list(many.utterances["utt_id"]) == list(one.utterances.query("trial_id == @trial")["utt_id"])


@pytest.mark.slow
def test_a_cluster_is_not_entered_without_its_token(cluster, data, tmp_path) -> None:
    address, env = cluster
    assert not doors.is_open(address)
    command = [sys.executable, str(ROOT / "launch.py"), "--grid", "losses", "--data", str(data), "--out", str(tmp_path)]
    wrong = {**env, "RAY_AUTH_TOKEN": secrets.token_hex(32)}
    done = subprocess.run([*command, *STUDY, "--address", address], capture_output=True, text=True, env=wrong)
    assert done.returncode == 2, done.stderr
    assert "token" in done.stderr
    assert env["RAY_AUTH_TOKEN"] not in done.stderr
