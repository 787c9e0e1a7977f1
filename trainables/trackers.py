"""Reports a trial to the trackers that `report_to` names, from rank 0; names of points are those of our TensorBoard files.

`trackers.json` in the folder of the trial: {"runs": {tracker: {"id", "where"}}, "warnings": [text]}; by it a resumed trial
goes on with its run, and the launcher knows of a tracker that failed.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from trainables import distributed, tables
from trainables.errors import DataError
from trainables.masking import without_passwords
from trainables.tracker_runs import RUNS, Run
from trainables.trial import Trial

NAME = "trackers.json"
_LONGEST_WARNING = 300


class Trackers(TrainerCallback):
    """Follows a trial; a tracker that fails is left out for the rest of the attempt, and that is noted.

    Args:
        trial: what is reported; one without trackers is not.
    """

    def __init__(self, trial: Trial) -> None:
        self._path, self._update = trial.folder / NAME, 0
        self._runs: dict[str, Run] = {}
        self._record: dict[str, Any] = {}
        if trial.trackers is not None and distributed.rank() == 0:
            self._record = _read(self._path)
            for name in trial.trackers["names"]:
                self._try(name, functools.partial(self._begin, name, trial.trial_id, trial.trackers))

    def on_log(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, logs: Mapping[str, Any], **_: Any
    ) -> None:
        """Report one point per number."""
        if self._runs and "update" in logs:
            self._update = state.global_step
            values = {
                f"validation/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}": float(value)
                for name, value in logs.items()
                if name != "update"
            }  # fmt: skip
            for name, run in list(self._runs.items()):
                self._try(name, functools.partial(run.log, values, self._update))

    def finish(self, status: str, scores: Mapping[str, Any] | None = None) -> None:
        """End the runs that are open: with its final scores that of a trial that is done."""
        final = {name: float(value) for name, value in (scores or {}).items() if value is not None}
        for name in list(self._runs):
            finish = self._runs.pop(name).finish
            self._try(name, functools.partial(finish, status, final, self._update))

    def _begin(self, name: str, trial_id: str, told: Mapping[str, Any]) -> None:
        def remember(run: Mapping[str, str]) -> None:
            self._record["runs"][name] = dict(run)
            tables.write_json(self._record, self._path)

        self._runs[name] = RUNS[name](trial_id, told, self._record["runs"].get(name, {}), remember)

    def _try(self, name: str, call: Callable[[], None]) -> None:
        """Call a tracker; the trial outlives whatever goes wrong in it."""
        try:
            call()
        except Exception as error:
            self._runs.pop(name, None)
            said = without_passwords(next(iter(str(error).strip().splitlines()), ""))[:_LONGEST_WARNING]
            warning = (
                f"{name} got only a part of this trial ({type(error).__name__}: {said}); the tables have all of it"
            )
            if warning not in self._record["warnings"]:
                self._record["warnings"].append(warning)
            tables.write_json(self._record, self._path)


@contextmanager
def of(trial: Trial) -> Iterator[Trackers]:
    """Report a trial for the time of the block; an error that leaves the block ends its runs as failed."""
    trackers = Trackers(trial)
    try:
        yield trackers
    except Exception:
        trackers.finish("failed")
        raise


def _read(path: Path) -> dict[str, Any]:
    """Read what is known of the runs of a trial.

    Raises:
        DataError: it cannot be read.
    """
    try:
        known = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise DataError(f"{path} is damaged ({error}); remove it, and the trial is reported as new runs") from error
    return {"runs": {}, "warnings": [], **known}
