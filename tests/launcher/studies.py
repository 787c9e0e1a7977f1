"""What tests of folders of studies share: a study on disk, its trials in any state, locks that are held."""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from launcher import config, results
from launcher.study import Study
from search_spaces import losses

ONE_ATTEMPT: dict[str, Any] = {"attempts": 1, "open": False, "launch": "one", "ended": []}


def study(*overrides: str, data: str = "fingerprint") -> Study:
    """The default study, or one with some keys set."""
    return losses.study(config.load(None, overrides, defaults=losses.DEFAULTS)).with_data(data)


def write_study(out: Path, made: Study) -> Path:
    """Write study.json as a launch does, as far as readers look at it."""
    trials = [
        {"trial_id": trial.trial_id, "variant": trial.variant, "seed": trial.seed, "axes": dict(trial.axes),
         "configuration": trial.configuration.as_dict()}
        for trial in made.trials()
    ]  # fmt: skip
    content = {
        "study": made.name, "axes": {"reduction": ["sum", "mean"], "seed": [1, 2]}, "groups": ["group"],
        "data": {"fingerprint": made.data_fingerprint}, "environment": {}, "baseline": None, "trials": trials,
    }  # fmt: skip
    results.write_json(out / "study.json", content)
    return out


def put(out: Path, trial_id: str, **files: Any) -> Path:
    """Put JSON files into the folder of a trial: result={...} makes result.json."""
    place = results.trial_folder(out, trial_id)
    place.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (place / f"{name}.json").write_text(json.dumps(content), encoding="utf-8")
    return place


def finished(seconds: float = 20.0, **more: Any) -> Mapping[str, Any]:
    """What a trial writes when it is done."""
    return {
        "status": "done", "groups": ["group", "speaker_type"], "wer": 0.5, "cer": 0.25, "nll_per_label": 1.0, "updates": 297,
        "seconds": seconds, "resumed": False, "device": "cpu", "peak_memory_bytes": 500_000_000, **more,
    }  # fmt: skip


def checkpoint(place: Path, update: int, updates: int, *, sealed: bool = True, size: int = 1000) -> None:
    """Write what a checkpoint looks like from outside."""
    folder = place / "checkpoints" / f"checkpoint-{update}"
    folder.mkdir(parents=True)
    (folder / "trainer_state.json").write_text(json.dumps({"global_step": update, "max_steps": updates}))
    (folder / "model.safetensors").write_bytes(b"\0" * size)
    if sealed:
        (folder / "sealed.json").write_text("{}")


@contextmanager
def locked(path: Path, words: str = "process 7 on ward") -> Iterator[None]:
    """Hold a lock file as a launch or a worker does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.truncate(0)
        lock.write(words + "\n")
        lock.flush()
        yield
