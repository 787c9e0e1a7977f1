"""Where trials are reported to beside the tables of the study: `report_to` of [Trainer Arguments]. Pure.

Nothing is reported unless it is asked for. TensorBoard files are written anyway (the key `tensorboard`); the others are
packages of their own, which `trainables.trackers` talks to.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from launcher import masking
from launcher.config import Configuration
from launcher.config_rules import TRACKERS, trackers_of
from launcher.config_schema import TRAINER
from launcher.config_values import ConfigurationError
from launcher.masking import without_passwords
from launcher.places import Place
from launcher.study import Study, Trial, short_names

_PACKAGES = {"wandb": ("wandb",), "mlflow": ("mlflow-skinny",)}
_DATABASE = re.compile(r"^(sqlite|postgresql|mysql|mssql)[+:]")
_FOLDER = re.compile(r"^(file:|[^:]*$)")
_WANDB = {"WANDB_ENTITY": "entity", "WANDB_MODE": "mode", "WANDB_BASE_URL": "base_url"}


def check(configurations: Iterable[Configuration], out: Path | str, environment: Mapping[str, str]) -> None:
    """Look whether the trackers that are asked for can be used from here.

    Args:
        configurations: the cells of a study.
        out: folder of the study, or its URI.
        environment: the variables of this process.

    Raises:
        ConfigurationError: a package is missing, or MLflow is told to write where it cannot keep the scores.
    """
    names = {name for configuration in configurations for name in trackers_of(configuration)}
    uri = environment.get("MLFLOW_TRACKING_URI", "")
    found = []
    for name in TRACKERS:
        wanted = list(_PACKAGES.get(name, ())) if name in names else []
        if wanted and name == "mlflow" and (not uri or _DATABASE.match(uri)):
            wanted += ["sqlalchemy", "alembic"]
        if missing := [package for package in wanted if not _is_installed(package)]:
            found.append(
                f"report_to = {name} needs {' and '.join(missing)}, not installed here; run: pip install {' '.join(missing)}"
            )
    if "mlflow" in names and not uri and "://" in str(out):
        found.append(
            f"report_to = mlflow with --out {without_passwords(str(out))} needs a server: set MLFLOW_TRACKING_URI"
        )
    if "mlflow" in names and uri not in ("", "databricks") and _FOLDER.match(uri):
        found.append(
            f"MLFLOW_TRACKING_URI = {uri} is a folder, and MLflow's store of files cannot hold both wer and wer/GROUP; name a "
            "server (http://HOST:5000) or a database (sqlite:////FOLDER/mlflow.db), or leave it out: OUT/mlflow.db"
        )
    address = environment.get("WANDB_BASE_URL", "")
    if "wandb" in names and without_passwords(address) != address:
        found.append(
            f"WANDB_BASE_URL = {without_passwords(address)} holds a password; Weights & Biases takes a key: WANDB_API_KEY"
        )
    if found:
        raise ConfigurationError(*found)


def told(study: Study, trial: Trial, place: Place, environment: Mapping[str, str]) -> dict[str, Any] | None:
    """Write down what the worker of a trial is told about its trackers, as plain data; no password and no key.

    Args:
        study: what the trial is part of; with the name of its folder it names the group.
        trial: what is to be run.
        place: where the study lies.
        environment: the variables of this process. What they say of addresses and modes holds for workers on other
            machines too; passwords and keys are read where the worker runs.

    Returns:
        None when a trial is reported nowhere but to TensorBoard.
    """
    names = [name for name in trackers_of(trial.configuration) if name != "tensorboard"]
    if not names:
        return None
    out = place.folder.resolve()
    name = out.name if place.uri is None else place.shown().partition("?")[0].rstrip("/").rpartition("/")[2]
    group = study.name if name == study.name else f"{study.name}-{name}"
    uri = environment.get("MLFLOW_TRACKING_URI") or f"sqlite:///{out / 'mlflow.db'}"
    return {
        "names": names,
        "group": group,
        "parameters": _parameters(trial),
        "tags": {
            "study": study.name,
            "variant": without_passwords(trial.variant),
            "data_fingerprint": study.data_fingerprint,
        },
        "mlflow": {
            # One with a password does not travel: the worker finds it in its own environment.
            "uri": uri if without_passwords(uri) == uri else None,
            "where": hashlib.sha256(uri.encode()).hexdigest()[:12],
            "experiment": without_passwords(environment.get("MLFLOW_EXPERIMENT_NAME") or group),
        },
        "wandb": {
            "project": without_passwords(environment.get("WANDB_PROJECT") or "lossgrid"),
            "dir": environment.get("WANDB_DIR") or str(out),
            **{key: without_passwords(environment[name]) for name, key in _WANDB.items() if environment.get(name)},
        },
    }


def _parameters(trial: Trial) -> dict[str, Any]:
    """Return the resolved configuration and the axes, flat: keys by their name alone where one section has them."""
    sections = trial.configuration.as_dict()
    values = {f"{section}.{key}": value for section, keys in sections.items() for key, value in keys.items()}
    values.pop(f"{TRAINER}.report_to", None)
    named = {name: values[key] for key, name in short_names(values).items()} | dict(trial.axes)
    return {name: masking.of_key(name, value) for name, value in named.items()}


def _is_installed(package: str) -> bool:
    try:
        metadata.version(package)
    except metadata.PackageNotFoundError:
        return False
    return True
