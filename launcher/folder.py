"""The folder of a study: who holds it, what was requested, what is kept aside."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime, timezone
from pathlib import Path
from typing import IO, Any

from launcher import masking, provenance, reading, results
from launcher.places import Place
from launcher.study import Prepared, Study, Trial, short_names

_FURTHER_TRIES, _PAUSE_SECONDS = 4, 0.05
_ENVIRONMENT = ("python", "git_sha", "git_patch", "host", "platform", "cpu_count")


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
            _take(lock)
        except BlockingIOError as error:
            lock.seek(0)
            raise results.ResultsError(
                f"{out} is in use by {lock.read().strip() or 'another launch'}; wait for it, or give another --out"
            ) from error
        except OSError as error:
            raise results.ResultsError(
                f"{out} is on a file system without locks ({error.strerror}); give an --out on another one, or have it mounted "
                "with them (Lustre: -o flock)"
            ) from error
        _sign(lock, out)
        _sweep(out)
        yield


def _sweep(out: Path) -> None:
    """Remove what a launch that was killed left behind: files half written, and what finished trials no longer need."""
    for torn in (*out.glob(".*.part"), *out.glob("export/.*.part")):
        torn.unlink(missing_ok=True)
    for result in out.glob("trials/*/result.json"):
        shutil.rmtree(result.parent / "checkpoints", ignore_errors=True)
        (result.parent / "progress.json").unlink(missing_ok=True)


def _sign(lock: IO[str], out: Path) -> None:
    """Write who holds the folder, past the buffer of the file: what waits in one on a full disk raises again when it is closed."""
    try:
        os.ftruncate(lock.fileno(), 0)
        os.write(lock.fileno(), f"process {os.getpid()} on {provenance.host()}\n".encode())
    except OSError as error:
        raise reading.unwritable(out / ".lock", error) from error


def _take(lock: IO[str]) -> None:
    """Take the lock; whoever only looks whether it is held (`launcher.live`) has it for an instant, so ask again."""
    for _ in range(_FURTHER_TRIES):
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_PAUSE_SECONDS)
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _lock_file(out: Path) -> IO[str]:
    try:
        out.mkdir(parents=True, exist_ok=True)
        return (out / ".lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise results.ResultsError(
            f"cannot write to --out {str(out)!r} ({error.strerror}); give another folder"
        ) from error


def set_aside(trials: Sequence[Trial], rows: dict[str, dict[str, Any]], place: Place) -> list[tuple[Path, Path]]:
    """Move what trials measured before, and their curves in TensorBoard, out of the way; nothing is deleted.

    Returns:
        what was moved: where it lay, and where it lies.

    Raises:
        ResultsError: something cannot be moved; all is where it lay.
    """
    stamp = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%S.%f")
    moved: list[tuple[Path, Path]] = []
    for trial in trials:
        aside = place.folder / "replaced" / f"{trial.trial_id}.{stamp}"
        board = place.folder / "tensorboard" / trial.run_name
        for old, new in ((results.trial_folder(place.folder, trial.trial_id), aside), (board, aside / "tensorboard")):
            if not old.exists():
                continue
            try:
                place.move(old, new)
            except OSError as error:
                put_back(moved, place)
                raise reading.unwritable(new, error) from error
            moved.append((old, new))
        rows[trial.trial_id] = {"status": "pending", "attempts": 0}
    return moved


def put_back(moved: Sequence[tuple[Path, Path]], place: Place) -> None:
    """Undo `set_aside`, for a launch that was refused before a trial began."""
    for old, new in reversed(moved):
        if old.exists():  # as it was handed out
            for file in [path for path in old.rglob("*") if path.is_file()]:
                place.drop(file)
            shutil.rmtree(old)
        place.move(new, old)


def describe_study(study: Study, trials: Sequence[Trial], data: Prepared, out: Path, launch: Mapping[str, Any]) -> None:
    """Write study.json, what was requested of what data by which launch, and the list of rejected utterances."""
    names = short_names(study.axes)
    content = {
        "study": study.name,
        "question": study.question,
        "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "command": launch["command"],
        "axes": {names[key]: list(values) for key, values in study.axes.items()},
        "baseline": study.baseline_variant(),
        "baseline_wanted": study.baseline,
        "groups": list(study.groups),
        "margin": study.margin,
        "data": {**data.description, "store": str(data.path)},
        "environment": {**{name: launch[name] for name in _ENVIRONMENT}, **launch["packages"]},
        "trials": [
            {"trial_id": trial.trial_id, "variant": trial.variant, "seed": trial.seed, "repeat": trial.repeat, "axes": dict(trial.axes),
             "configuration": trial.configuration.as_dict()}
            for trial in trials
        ],
    }  # fmt: skip
    # An address of data may hold a password.
    text = masking.without_passwords(json.dumps(content, ensure_ascii=False, default=str))
    results.write_json(out / "study.json", json.loads(text))
    rejects = Path(data.path) / "rejects.parquet"
    if rejects.is_file():
        results.write_whole(out / "rejects.parquet", lambda path: shutil.copyfile(rejects, path))
