"""What a launch looks at, and tells its workers, when `report_to` names a tracker."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from launcher import config, config_rules, grid, trackers
from launcher.config import ConfigurationError
from launcher.places import Place
from launcher.progress import Board
from launcher.study import Study
from search_spaces import losses

OUT = Place(Path("/studies/first"))


def study(*overrides: str) -> Study:
    configuration = config.load(None, ("reduction=mean", "seed=1", *overrides), defaults=losses.DEFAULTS)
    return losses.study(configuration).with_data("data")


def told(*overrides: str, **environment: str) -> dict[str, Any]:
    made = study(*overrides)
    found = trackers.told(made, made.trials()[0], OUT, environment)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (
            ["report_to=comet_ml"],
            "report_to = comet_ml is not supported; choose of tensorboard, wandb, mlflow, or none",
        ),
        (["report_to=wandb, all"], "report_to = all is not supported"),
        (["report_to=tensorboard", "tensorboard=False"], "report_to = tensorboard contradicts tensorboard = False"),
    ],
)
def test_what_is_not_supported_is_refused_with_what_is(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        grid.check(study(*overrides))


@pytest.mark.parametrize("name", ["none", "None", "tensorboard"])
def test_nothing_is_reported_unless_it_is_asked_for(name: str) -> None:
    for made in (study(), study(f"report_to={name}")):
        grid.check(made)
        assert trackers.told(made, made.trials()[0], OUT, {"MLFLOW_TRACKING_URI": "http://x"}) is None


def test_where_a_trial_is_reported_does_not_change_its_id() -> None:
    names = [study(*words).trials()[0].trial_id for words in ((), ("report_to=mlflow",), ("report_to=wandb, mlflow",))]
    assert len(set(names)) == 1


@pytest.mark.parametrize(
    ("names", "environment", "message"),
    [
        ("wandb", {}, "report_to = wandb needs wandb, not installed here; run: pip install wandb"),
        ("mlflow", {}, "pip install mlflow-skinny sqlalchemy alembic"),
        ("mlflow", {"MLFLOW_TRACKING_URI": "http://host:5000"}, "run: pip install mlflow-skinny$"),
    ],
)
def test_a_package_that_is_missing_is_told_with_how_to_get_it(
    monkeypatch: pytest.MonkeyPatch, names: str, environment: dict[str, str], message: str
) -> None:
    cells = study(f"report_to={names}").configurations
    trackers.check(cells, OUT.folder, environment)
    monkeypatch.setattr(sys, "path", [str(OUT.folder)])  # where nothing is installed
    with pytest.raises(ConfigurationError, match=message) as caught:
        trackers.check(cells, OUT.folder, environment)
    assert caught.value.is_request_error


@pytest.mark.parametrize("uri", ["mlruns", "/studies/mlruns", "file:///studies/mlruns"])
def test_a_folder_that_mlflow_cannot_keep_the_scores_in_is_refused(uri: str) -> None:
    with pytest.raises(ConfigurationError, match="is a folder, and MLflow's store of files cannot hold both"):
        trackers.check(study("report_to=mlflow").configurations, OUT.folder, {"MLFLOW_TRACKING_URI": uri})


@pytest.mark.parametrize(
    "uri", ["http://host:5000", "sqlite:////studies/mlflow.db", "databricks", "databricks://profile"]
)
def test_servers_and_databases_of_mlflow_are_taken(uri: str) -> None:
    trackers.check(study("report_to=mlflow").configurations, OUT.folder, {"MLFLOW_TRACKING_URI": uri})
    assert told("report_to=mlflow", MLFLOW_TRACKING_URI=uri)["mlflow"]["uri"] == uri


def test_a_worker_is_told_group_parameters_and_where() -> None:
    found = told("report_to=wandb, tensorboard, mlflow", WANDB_MODE="offline", WANDB_PROJECT="ward")
    assert found["names"] == ["wandb", "mlflow"]
    assert found["group"] == found["mlflow"]["experiment"] == "losses-first"
    assert found["mlflow"]["uri"] == "sqlite:////studies/first/mlflow.db"
    assert found["wandb"] == {"project": "ward", "mode": "offline", "dir": "/studies/first"}
    assert found["parameters"]["reduction"] == "mean"
    assert found["parameters"]["learning_rate"] == losses.DEFAULTS["Trainer Arguments"]["learning_rate"]
    assert found["parameters"]["audit_utterances"] == 2000
    assert json.loads(json.dumps(found)) == found


def test_no_password_and_no_key_travels() -> None:
    address = "postgresql://jo:geheim@host/mlflow"
    found = told(
        "report_to=wandb, mlflow", "dataset_path=s3://jo:geheim@store/words.csv", MLFLOW_TRACKING_URI=address,
        WANDB_API_KEY="geheim", MLFLOW_TRACKING_PASSWORD="geheim", WANDB_BASE_URL="https://jo:geheim@wandb.ward",
    )  # fmt: skip
    assert found["mlflow"]["uri"] is None
    assert "geheim" not in json.dumps(found)


def test_no_secret_of_a_path_or_of_an_axis_travels_and_none_is_in_the_name_of_a_trial() -> None:
    one, other = "s3://KEY:gehe/im geheim@store/w", "https://store/w?X-Amz-Signature=geheim&part=1"
    made = study("report_to=wandb,mlflow", f"pretrained_model_name={one},{other}", f"dataset_path={one}",
                 f"filter_datasets=a, {other}", "audit=False")  # fmt: skip
    environment = {"MLFLOW_TRACKING_URI": "https://host/?token=geheim", "MLFLOW_EXPERIMENT_NAME": other}
    for trial in made.trials():
        found = trackers.told(made, trial, OUT, environment)
        assert found is not None
        assert "geheim" not in json.dumps(found)
        assert "geheim" not in trial.trial_id + trial.run_name
        assert found["tags"]["variant"].startswith("pretrained_model_name=")


def test_an_address_of_wandb_with_a_password_is_refused_without_showing_it() -> None:
    environment = {"WANDB_BASE_URL": "https://jo:geheim@wandb.ward"}
    with pytest.raises(ConfigurationError, match=r"https://jo:\*\*\*@wandb.ward holds a password") as caught:
        trackers.check(study("report_to=wandb").configurations, OUT.folder, environment)
    assert "geheim" not in str(caught.value)


@pytest.mark.parametrize("terminal", [False, True])
def test_a_tracker_that_failed_is_told_on_the_screen(capsys: pytest.CaptureFixture[str], terminal: bool) -> None:
    (trial,) = study().trials()
    console = Console(stderr=True, width=200, force_terminal=terminal, color_system=None)
    row = {"status": "done", "tracker_warning": "mlflow got only a part of this trial (MlflowException: gone)"}
    with Board([trial], {trial.trial_id: {"status": "pending"}}, console) as board:
        board.finished(trial.trial_id, row)
    assert f"Warning: {trial.trial_id}: mlflow got only a part" in capsys.readouterr().err


def test_a_line_names_what_the_id_of_its_trial_does_not(capsys: pytest.CaptureFixture[str]) -> None:
    for overrides, name in (((), ""), (("learning_rate=0.5,0.25",), " (learning_rate=0.5)")):
        trial = study(*overrides).trials()[0]
        with Board([trial], {trial.trial_id: {"status": "pending"}}, Console(stderr=True, width=200)) as board:
            board.finished(trial.trial_id, {"status": "done", "seconds": 2})
        assert capsys.readouterr().err == f"[1/1] {trial.trial_id}{name}: done, not scored, 0:02\n"


def test_every_tracker_that_may_be_asked_for_is_known_to_the_workers() -> None:
    from trainables.tracker_runs import RUNS

    assert set(config_rules.TRACKERS) == {*RUNS, "tensorboard"}
