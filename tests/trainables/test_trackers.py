"""What trackers get of a trial: real runs of MLflow in a database and of Weights & Biases on the disk, without network."""

from __future__ import annotations

import json
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import trials
from mlflow import MlflowClient
from mlflow.entities import Run
from trials import Session, interrupt, run, table
from wandb.proto.wandb_internal_pb2 import Record

from launcher import config, results, trackers
from launcher.places import Place
from search_spaces import losses

TRIAL = "mean-s1-00000000"
ROOT, DEADLINE_SECONDS = Path(__file__).resolve().parents[2], 240
BEGIN = """
import json, sys
from trainables.tracker_runs import MlflowRun
told = json.loads(sys.argv[1])
MlflowRun(f"trial-{told['number']}", told, {}, lambda run: None).finish("done", {"wer": 0.5}, 1)
"""
HEADER_BYTES, BLOCK_BYTES = 7, 32_768


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trials.small_store(tmp_path_factory)


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Making the tables of MLflow takes as long as the trials do: one database for all."""
    return f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"


def told(out: Path, names: str, **environment: str) -> Mapping[str, Any] | None:
    """What a launch tells the worker of a trial."""
    overrides = ("reduction=mean", "seed=1", f"report_to={names}")
    study = losses.study(config.load(None, overrides, defaults=losses.DEFAULTS)).with_data("data")
    (trial,) = study.trials()
    return trackers.told(study, trial, Place(out), environment)


def job(
    store: Path, out: Path, names: str, *, arguments: Mapping[str, Any] | None = None, **environment: str
) -> dict[str, Any]:
    folder = out / "trials" / TRIAL
    return trials.job(store, folder, arguments, trackers=told(out, names, **environment))


def runs_of(database: str, experiment: str) -> tuple[MlflowClient, list[Run]]:
    client = MlflowClient(tracking_uri=database)
    found = client.get_experiment_by_name(experiment)
    assert found is not None
    return client, list(client.search_runs([found.experiment_id]))


def test_mlflow_gets_name_group_parameters_curves_and_final_scores(store: Path, tmp_path: Path, database: str) -> None:
    out = tmp_path / "first"
    result = run(job(store, out, "mlflow", MLFLOW_TRACKING_URI=database))
    client, (made,) = runs_of(database, "losses-first")
    assert (made.info.run_name, made.info.status) == (TRIAL, "FINISHED")
    assert made.data.tags["trial_id"] == TRIAL
    assert made.data.tags["study"] == "losses"
    wanted = {"reduction": "mean", "seed": "1", "learning_rate": "0.006", "model_type": "tiny"}
    assert {name: made.data.params[name] for name in wanted} == wanted
    scores = [name for name in result if name.split("/")[0] in ("wer", "cer", "nll_per_label")]
    assert {"wer", "wer/word", "wer/sentence", "nll_per_label"} <= set(scores)
    assert {name: made.data.metrics[name] for name in scores} == {name: result[name] for name in scores}
    history = table(out / "trials" / TRIAL, "history")
    curve = [(point.step, point.value) for point in client.get_metric_history(made.info.run_id, "train/loss")]
    assert sorted(curve) == [(row["update"], row["loss"]) for row in history]
    assert len(client.get_metric_history(made.info.run_id, "validation/wer")) == 3


@pytest.mark.slow
def test_a_resumed_trial_goes_on_with_its_run_of_mlflow(store: Path, tmp_path: Path, database: str) -> None:
    asked = job(store, tmp_path / "resumed", "mlflow", MLFLOW_TRACKING_URI=database)
    interrupt(asked)
    assert [made.info.status for made in runs_of(database, "losses-resumed")[1]] == ["KILLED"]
    result = run(asked)
    client, (made,) = runs_of(database, "losses-resumed")
    assert (made.info.status, made.data.tags["status"]) == ("FINISHED", "done")
    assert made.data.metrics["wer"] == result["wer"]
    steps = [point.step for point in client.get_metric_history(made.info.run_id, "train/loss")]
    assert sorted(steps) == list(range(1, 10))


@pytest.mark.slow
def test_trials_that_begin_together_share_a_database_that_is_new(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "together"
    words = told(out, "mlflow")
    assert words is not None
    out.mkdir()
    processes = [
        subprocess.Popen([sys.executable, "-c", BEGIN, json.dumps({**words, "number": number})], cwd=ROOT)
        for number in range(2)
    ]
    assert [process.wait(DEADLINE_SECONDS) for process in processes] == [0, 0]
    _, made = runs_of(f"sqlite:///{out / 'mlflow.db'}", "losses-together")
    assert {one.info.run_name for one in made} == {"trial-0", "trial-1"}


def test_a_trial_that_fails_ends_its_run_as_failed(store: Path, tmp_path: Path, database: str) -> None:
    asked = job(store, tmp_path / "diverged", "mlflow", arguments={"learning_rate": 1e30}, MLFLOW_TRACKING_URI=database)
    run(asked, "failed")
    _, (made,) = runs_of(database, "losses-diverged")
    assert made.info.status == "FAILED"
    assert "wer" not in made.data.metrics


class LosesTheTable(Session):
    """Takes the table of the points away once the trial has reported."""

    def __init__(self, database: str) -> None:
        super().__init__()
        self.path = database.removeprefix("sqlite:///")

    def report(self, metrics: Mapping[str, Any]) -> None:
        if not self.reports:
            with sqlite3.connect(self.path) as connection:
                connection.execute("ALTER TABLE latest_metrics RENAME TO gone")
        super().report(metrics)

    def give_back(self) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.execute("ALTER TABLE gone RENAME TO latest_metrics")


@pytest.mark.slow
def test_a_tracker_that_fails_on_the_way_costs_no_trial_and_is_told(store: Path, tmp_path: Path, database: str) -> None:
    asked = job(store, tmp_path / "lost", "mlflow", MLFLOW_TRACKING_URI=database)
    session = LosesTheTable(database)
    reported = run(asked, session=session)
    session.give_back()
    alone = run(trials.job(store, tmp_path / "alone"))
    assert (reported["wer"], reported["nll_per_label"]) == (alone["wer"], alone["nll_per_label"])
    row = results.outcome(Path(asked["folder"]))
    assert row["status"] == "done"
    assert "mlflow got only a part of this trial" in row["tracker_warning"]
    assert "latest_metrics" in row["tracker_warning"]
    assert "tracker_warning" not in results.outcome(tmp_path / "alone")


@pytest.mark.parametrize("address", ["http://jo:geheim@127.0.0.1:9", "http://127.0.0.1:9/ml?token=geheim"])
def test_a_server_that_does_not_answer_costs_no_trial_and_shows_no_password(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:  # nobody listens at the port "discard"
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    asked = job(store, tmp_path, "mlflow", MLFLOW_TRACKING_URI=address)
    assert "geheim" not in json.dumps(asked)
    run(asked)
    assert "127.0.0.1" in results.outcome(Path(asked["folder"]))["tracker_warning"]
    assert "geheim" not in "".join(path.read_text() for path in Path(asked["folder"]).glob("*.json"))


def test_wandb_without_a_key_costs_no_trial(store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    asked = job(store, tmp_path, "wandb", WANDB_MODE="online", WANDB_BASE_URL="http://127.0.0.1:9")
    run(asked)
    assert "wandb got only a part" in results.outcome(Path(asked["folder"]))["tracker_warning"]


def records(path: Path) -> list[Record]:
    """Read a file of wandb: a header, then records in pieces, none of which crosses the end of a block (LevelDB's log)."""
    content, place, whole, found = path.read_bytes(), HEADER_BYTES, b"", []
    while place + HEADER_BYTES <= len(content):
        if BLOCK_BYTES - place % BLOCK_BYTES < HEADER_BYTES:
            place += BLOCK_BYTES - place % BLOCK_BYTES
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        whole += content[place + HEADER_BYTES : place + HEADER_BYTES + length]
        place += HEADER_BYTES + length
        if kind in (1, 4):  # all of it, or its last piece
            found.append(Record.FromString(whole))
            whole = b""
    return found


@pytest.mark.slow
def test_wandb_gets_the_same_and_a_resumed_trial_goes_on_with_its_run(store: Path, tmp_path: Path) -> None:
    out = tmp_path / "first"
    asked = job(store, out, "wandb", WANDB_MODE="offline")
    out.mkdir()
    interrupt(asked)
    result = run(asked)
    files = sorted((out / "wandb").glob("offline-run-*/*.wandb"))
    assert len(files) == 2
    before, after = (records(file) for file in files)
    one, other = (next(record.run for record in part if record.HasField("run")) for part in (before, after))
    assert one.run_id == other.run_id
    assert one.run_id.startswith(f"{TRIAL}-")
    assert (other.display_name, other.run_group, other.project) == (TRIAL, "losses-first", "lossgrid")
    given = {item.key: json.loads(item.value_json) for item in other.config.update}
    assert (given["reduction"], given["seed"], given["learning_rate"]) == ("mean", 1, 0.006)
    points = [
        {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
        for part in (before, after)
        for record in part
        if record.HasField("history")
    ]
    losses_of = {point["update"]: point["train/loss"] for point in points if "train/loss" in point}
    assert losses_of == {row["update"]: row["loss"] for row in table(Path(asked["folder"]), "history")}
    final: dict[str, Any] = {}
    for record in after:
        if record.HasField("summary"):
            final |= {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.summary.update}
    scores = ("wer", "wer/word", "wer/sentence", "nll_per_label")
    assert {name: final[name] for name in scores} == {name: result[name] for name in scores}
    assert final["status"] == "done"
    assert [record.exit.exit_code for record in after if record.HasField("exit")] == [0]
    assert "tracker_warning" not in results.outcome(Path(asked["folder"]))
