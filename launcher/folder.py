"""The folder of a study: who holds it, what was requested, what is kept aside."""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from launcher import environment, results
from launcher.study import Prepared, Study, Trial, short_names


@contextmanager
def held(out: Path, *, wanted: bool) -> Iterator[None]:
    """Hold the folder of a study; a second launch on it is told who has it.

    Raises:
        ResultsError: another launch runs, or the folder cannot be written to.
    """
    if not wanted:
        yield
        return
    with _lock_file(out) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            lock.seek(0)
            raise results.ResultsError(
                f"{out} is in use by {lock.read().strip() or 'another launch'}; wait for it, or give another --out"
            ) from error
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {environment.host()}\n")
        lock.flush()
        yield


def _lock_file(out: Path) -> IO[str]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return (out / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise results.ResultsError(
            f"cannot write to --out {str(out)!r} ({error.strerror}); give another folder"
        ) from error


def set_aside(trials: Sequence[Trial], rows: dict[str, dict[str, Any]], out: Path) -> None:
    """Move what trials measured before out of the way; nothing finished is deleted."""
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S")
    for trial in trials:
        folder = results.trial_folder(out, trial.trial_id)
        if folder.exists():
            aside = out / "replaced" / f"{trial.trial_id}.{stamp}"
            aside.parent.mkdir(parents=True, exist_ok=True)
            folder.rename(aside)
        rows[trial.trial_id] = {"status": "pending", "attempts": 0}


def describe_study(study: Study, trials: Sequence[Trial], data: Prepared, out: Path, command: str) -> None:
    """Write study.json, what was requested and of what data, and the list of rejected utterances."""
    names = short_names(study.axes)
    content = {
        "study": study.name,
        "question": study.question,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": command,
        "axes": {names[key]: list(values) for key, values in study.axes.items()},
        "baseline": study.baseline_variant(),
        "baseline_wanted": study.baseline,
        "groups": list(study.groups),
        "data": {**data.description, "store": str(data.path)},
        "environment": environment.describe(),
        "trials": [
            {"trial_id": trial.trial_id, "variant": trial.variant, "seed": trial.seed, "axes": dict(trial.axes),
             "configuration": trial.configuration.as_dict()}
            for trial in trials
        ],
    }  # fmt: skip
    results.write_json(out / "study.json", content)
    rejects = Path(data.path) / "rejects.parquet"
    if rejects.is_file():
        results.write_whole(out / "rejects.parquet", lambda path: shutil.copyfile(rejects, path))
