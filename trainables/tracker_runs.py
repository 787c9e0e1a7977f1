"""A trial as a run of MLflow or of Weights & Biases. Their packages are imported where a run begins; nothing else is heavy here.

transformers' own callbacks do not serve. They call the Trainer's inner settings the configuration (it always runs with
accumulation 1), end the run before the final scores, and MLflow's hands points to a thread that loses its errors.
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from trainables.errors import DataError

_FINISH_SECONDS = 60.0
# MLflow's own would hold training up for minutes when its server is gone (7 retries, each later than the one before).
_MLFLOW_PATIENCE = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "3", "MLFLOW_HTTP_REQUEST_TIMEOUT": "20"}
_MLFLOW_STATUS = {"done": "FINISHED", "failed": "FAILED"}
_NO_NAME_IN_MLFLOW = re.compile(r"[^\w\-. :/]")


class Run(Protocol):
    """One trial in one tracker; every method raises what the tracker raises."""

    def log(self, values: Mapping[str, float], update: int) -> None:
        """Add one point to each curve."""

    def finish(self, status: str, scores: Mapping[str, float], update: int) -> None:
        """Add the final scores, and end."""


class MlflowRun:
    """A run of MLflow. Through its client: the `mlflow.start_run` of a process is shared by all that runs in it.

    Parameters cannot change: a resumed run keeps those that it has.

    Args:
        trial_id: its name.
        told: see `launcher.trackers.told`.
        known: {"id", "where"} of the run that an earlier attempt made; empty: there is none.
        remember: called with the same of the run that is made.

    Raises:
        DataError: the address of the server is not known here.
        MlflowException: the server does not answer, or refuses.
    """

    def __init__(
        self, trial_id: str, told: Mapping[str, Any], known: Mapping[str, str], remember: Callable[[Mapping[str, str]], None]
    ) -> None:  # fmt: skip
        os.environ.update({name: os.environ.get(name, value) for name, value in _MLFLOW_PATIENCE.items()})
        import mlflow
        from mlflow.entities import Param
        from mlflow.utils.validation import MAX_PARAM_VAL_LENGTH, MAX_PARAMS_TAGS_PER_BATCH

        settings = told["mlflow"]
        uri = settings["uri"] or os.environ.get("MLFLOW_TRACKING_URI")
        if not uri:
            raise DataError(
                "MLFLOW_TRACKING_URI is not set where the trial runs; set it there (it holds a password, so it stays there)"
            )
        with _only_one(uri):
            self.client = mlflow.MlflowClient(tracking_uri=uri)
            experiment = self._experiment(settings["experiment"])
        if known.get("where") == settings["where"]:
            self.id = known["id"]
            self.client.update_run(self.id, status="RUNNING")
        else:
            tags = {**told["tags"], "trial_id": trial_id, "group": told["group"]}
            made = self.client.create_run(experiment, run_name=trial_id, tags=tags)
            self.id = made.info.run_id
            remember({"id": self.id, "where": settings["where"]})
        has = self.client.get_run(self.id).data.params
        missing = [
            Param(key, str(value)[:MAX_PARAM_VAL_LENGTH])
            for name, value in told["parameters"].items()
            if (key := _NO_NAME_IN_MLFLOW.sub("_", name)) not in has
        ]
        for start in range(0, len(missing), MAX_PARAMS_TAGS_PER_BATCH):
            self.client.log_batch(self.id, params=missing[start : start + MAX_PARAMS_TAGS_PER_BATCH])

    def _experiment(self, name: str) -> str:
        from mlflow.exceptions import MlflowException

        found = self.client.get_experiment_by_name(name)
        if found is None:
            try:
                return self.client.create_experiment(name)
            except MlflowException:  # another trial was quicker, or it cannot be made
                found = self.client.get_experiment_by_name(name)
                if found is None:
                    raise
        return found.experiment_id

    def log(self, values: Mapping[str, float], update: int) -> None:
        """Add one point to each curve; in one request."""
        from mlflow.entities import Metric

        now = round(time.time() * 1000)
        points = [Metric(_NO_NAME_IN_MLFLOW.sub("_", name), value, now, update) for name, value in values.items()]
        self.client.log_batch(self.id, metrics=points)

    def finish(self, status: str, scores: Mapping[str, float], update: int) -> None:
        """Add the final scores, and end."""
        if scores:
            self.log(scores, update)
        self.client.set_tag(self.id, "status", status)
        self.client.set_terminated(self.id, _MLFLOW_STATUS.get(status, "KILLED"))


class WandbRun:
    """A run of Weights & Biases. It is written to the disk first, and sent from there by a process of wandb.

    Args:
        trial_id: its name.
        told: see `launcher.trackers.told`.
        known: {"id", "where"} of the run that an earlier attempt made; empty: there is none.
        remember: called with the same of the run that is made.

    Raises:
        wandb.Error: there is no key, or no answer.
    """

    def __init__(
        self, trial_id: str, told: Mapping[str, Any], known: Mapping[str, str], remember: Callable[[Mapping[str, str]], None]
    ) -> None:  # fmt: skip
        import wandb

        settings = {"entity": None, "mode": None, "base_url": None, **told["wandb"]}
        # With the id of the trial alone a study that begins anew would be written into the runs of the old one.
        run_id = known.get("id") or f"{trial_id}-{secrets.token_hex(3)}"
        remember({"id": run_id, "where": settings["project"]})
        address = {"base_url": settings["base_url"]} if settings["base_url"] else {}
        self.run = wandb.init(
            project=settings["project"], entity=settings["entity"], mode=settings["mode"], dir=settings["dir"], id=run_id,
            resume="allow", reinit="create_new", name=trial_id, group=told["group"], config=dict(told["parameters"]),
            notes=told["tags"]["variant"], allow_val_change=True,
            settings=wandb.Settings(
                silent=True, console="off", disable_git=True, disable_code=True, finish_timeout=_FINISH_SECONDS,
                finish_timeout_raises=True, **address,
            ),
        )  # fmt: skip
        self.run.config.update(
            {name: told["tags"][name] for name in ("study", "data_fingerprint")}, allow_val_change=True
        )
        self.run.define_metric("update")
        self.run.define_metric("*", step_metric="update")

    def log(self, values: Mapping[str, float], update: int) -> None:
        """Add one point to each curve."""
        self.run.log({**values, "update": update})

    def finish(self, status: str, scores: Mapping[str, float], update: int) -> None:
        """Add the final scores, and wait until all is sent."""
        self.run.summary.update({**scores, "status": status})
        self.run.finish(exit_code=0 if status == "done" else 1)


RUNS: Mapping[str, Callable[..., Run]] = {"mlflow": MlflowRun, "wandb": WandbRun}


@contextmanager
def _only_one(uri: str) -> Iterator[None]:
    """Hold a database that is a file: two trials that find it empty would both make its tables."""
    if not uri.startswith("sqlite:///"):
        yield
        return
    with Path(f"{uri.removeprefix('sqlite:///')}.lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
