"""How much disk the trials that are missing will take: from those that are done, or from a probe."""

from __future__ import annotations

import dataclasses
import os
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from launcher import results
from launcher.estimate import TRAINER, TRAINING, Sections
from launcher.study import Trial

_MOST_LOOKED_AT = 20
# Of a model's size: its weights, and the two running means of AdamW.
_CHECKPOINT_PER_MODEL = 3


@dataclass(frozen=True)
class Sizes:
    """What one trial takes.

    Attributes:
        checkpoint_bytes: one checkpoint; None: not known.
        model_bytes: a saved model; None: not known.
        tables_bytes: its tables and its TensorBoard file; the tables twice, as those of the study are their union;
            None: not known.
    """

    checkpoint_bytes: float | None = None
    model_bytes: float | None = None
    tables_bytes: float | None = None


@dataclass(frozen=True)
class Disk:
    """What the missing trials take.

    Attributes:
        running_bytes: checkpoints of the trials that run at a time; None: not known.
        kept_bytes: what stays of all that are missing; None: not known.
        free_bytes: free where the study lies.
    """

    running_bytes: float | None
    kept_bytes: float | None
    free_bytes: int

    @property
    def fits(self) -> bool:
        """Whether what is known fits."""
        return (self.running_bytes or 0) + (self.kept_bytes or 0) <= self.free_bytes


def measured(out: Path, trials: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]]) -> Sizes:
    """Measure the folders of some trials that are done, and the checkpoints of those that are not."""
    done = [trial for trial in trials if rows[trial.trial_id]["status"] == "done"][:_MOST_LOOKED_AT]
    begun = [trial for trial in trials if rows[trial.trial_id]["status"] in ("interrupted", "running", "failed")]
    models, tables = [], []
    for trial in done:
        place = results.trial_folder(out, trial.trial_id)
        model = bytes_in(place / "model")
        models += [model] if model else []
        own = bytes_in(place) - model - bytes_in(place / "checkpoints")
        tables.append(2 * own + bytes_in(out / "tensorboard" / trial.run_name))
    found = [_checkpoint_bytes(results.trial_folder(out, trial.trial_id)) for trial in begun[:_MOST_LOOKED_AT]]
    checkpoint = max(found, default=0)
    return Sizes(
        checkpoint_bytes=checkpoint or (_CHECKPOINT_PER_MODEL * max(models) if models else None),
        model_bytes=max(models, default=None),
        tables_bytes=sum(tables) / len(tables) if tables else None,
    )


def larger(one: Sizes, other: Sizes) -> Sizes:
    """Take the larger of two sizes where both are known, else the one that is."""
    pairs = zip(dataclasses.astuple(one), dataclasses.astuple(other), strict=True)
    return Sizes(*(max((value for value in pair if value is not None), default=None) for pair in pairs))


def need(out: Path, missing: Sequence[Sections], sizes: Sizes, *, concurrent: int) -> Disk:
    """Add up what missing trials take.

    Args:
        out: folder of the study; it need not be there yet.
        missing: configuration of each.
        sizes: what one takes.
        concurrent: trials at a time.
    """
    running = kept = None
    if sizes.checkpoint_bytes is not None:
        each = sorted((_checkpoints(sections) * sizes.checkpoint_bytes for sections in missing), reverse=True)
        running = sum(each[:concurrent])
    if sizes.tables_bytes is not None or sizes.model_bytes is not None:
        saved = sum(_saves_model(sections) for sections in missing)
        kept = saved * (sizes.model_bytes or 0) + len(missing) * (sizes.tables_bytes or 0)
    return Disk(running, kept, shutil.disk_usage(nearest(out)).free)


def _checkpoints(sections: Sections) -> int:
    """Count the checkpoints that a trial has on the disk at most: the one that is written comes before one is dropped."""
    given = sections[TRAINER]
    if given.get("do_train") is False:
        return 0
    if given.get("save_strategy") == "no":
        return 1  # behind which it stops when it is asked to
    return int(given.get("save_total_limit") or 1) + 1 + bool(given.get("load_best_model_at_end"))


def _saves_model(sections: Sections) -> bool:
    return sections[TRAINER].get("do_train") is not False and bool(sections[TRAINING].get("save_model", True))


def _checkpoint_bytes(folder: Path) -> int:
    return max((bytes_in(seal.parent) for seal in (folder / "checkpoints").glob("checkpoint-*/sealed.json")), default=0)


def bytes_in(folder: Path) -> int:
    """Add up the sizes of all files in a folder, also while they come and go."""
    return sum(_sizes(folder))


def _sizes(folder: Path) -> Iterable[int]:
    """Yield the size of each file; one that vanishes meanwhile, of a trial that runs, takes no room any more."""
    for place, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(os.path.join(place, name)).st_size
            except FileNotFoundError:
                continue


def nearest(place: Path) -> Path:
    """Return a path itself, or the nearest folder around it that exists."""
    place = place.expanduser().absolute()
    # Where a folder may not be entered, Path.exists raises; os.path.exists says no.
    return next(path for path in (place, *place.parents) if os.path.exists(path))
