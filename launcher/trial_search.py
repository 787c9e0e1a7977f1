"""Find trials by what a person writes: an id, the beginning of one, its hash, or the folder of a trial."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from launcher import results
from launcher.config import ConfigurationError
from launcher.config_values import shown

RESULTS = Path("results")
_MOST_NAMED, _FILES = 8, ("trial.json", "trial.conf", "attempts.json", "result.json")


@dataclass(frozen=True)
class Place:
    """A trial in a study.

    Attributes:
        trial_id: its id.
        study: folder of the study.
    """

    trial_id: str
    study: Path

    @property
    def folder(self) -> Path:
        """Folder of the trial; it need not be there yet."""
        return results.trial_folder(self.study, self.trial_id)


def studies(outs: Sequence[Path]) -> list[Path]:
    """Return the studies to search: those named, else all of results/.

    Raises:
        ConfigurationError: there is none.
    """
    found = list(outs) or sorted(path.parent for path in RESULTS.glob("*/study.json"))
    missing = [path for path in found if not (path / "study.json").is_file()]
    if missing:
        raise ConfigurationError(f"{missing[0]} holds no study (no study.json); give a folder that --out named")
    return found


def find(words: str, outs: Sequence[Path]) -> list[Place]:
    """Find a trial.

    Args:
        words: what was written.
        outs: studies to search; empty: all of results/.

    Returns:
        its place in each study that has it; those where it is done first.

    Raises:
        ConfigurationError: no trial, or several, are meant.
    """
    path = Path(words)
    if path.is_dir() and any((path / name).is_file() for name in _FILES):
        return [Place(path.resolve().name, path.resolve().parents[1])]
    searched = studies(outs)
    known = [place for study in searched for place in _trials(study)]
    ids = dict.fromkeys(place.trial_id for place in known)
    meant = [name for name in ids if name == words] or [
        name for name in ids if words and (name.startswith(words) or name.rpartition("-")[2] == words)
    ]
    if len(meant) > 1:
        more = f" and {len(meant) - _MOST_NAMED} more" if len(meant) > _MOST_NAMED else ""
        raise ConfigurationError(
            f"{shown(words)} begins several ids: {', '.join(meant[:_MOST_NAMED])}{more}; write more of the one you mean"
        )
    if not meant:
        raise ConfigurationError(_unknown(words, list(ids), searched))
    found = [place for place in known if place.trial_id == meant[0]]
    return sorted(found, key=lambda place: not (place.folder / "result.json").is_file())


def _trials(study: Path) -> Iterator[Place]:
    """Yield the trials that a study asked for last, then those of earlier launches."""
    requested = [trial["trial_id"] for trial in results.read_study(study)["trials"]]
    folders = sorted(path.name for path in (study / "trials").glob("*") if path.is_dir())
    for name in dict.fromkeys((*requested, *folders)):
        yield Place(name, study)


def _unknown(words: str, ids: Sequence[str], searched: Sequence[Path]) -> str:
    # A beginning is compared with beginnings: the hash would make all of them unlike.
    beginnings = {name[: len(words)]: name for name in reversed(ids)}
    near = [beginnings[found] for found in difflib.get_close_matches(words, beginnings, n=3, cutoff=0.5)]
    where = ", ".join(map(str, searched)) if searched else f"{RESULTS}/, which holds no study; name one with --out"
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    return f"no trial {shown(words)} in {where}{hint} (python launch.py status DIR lists the ids of a study)"
