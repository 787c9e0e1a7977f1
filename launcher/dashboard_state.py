"""What the dashboard tells of one study, as plain data: read from its folder alone, at any stage of it."""

from __future__ import annotations

import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from launcher import live, ray_file, reading, results
from launcher.answer import count
from launcher.dashboard_answer import NOTHING_DONE, Answers
from launcher.dashboard_curves import Histories, Subject, figures
from launcher.watch import ENDED, Snapshot

REST_SECONDS = 1.0
"""However many pages look, a folder is read once a second at most."""
NUM_UTTERANCES = 20
_SCORES = ("wer", "cer", "nll_per_label")
_FACTS = ("status", "attempts", "failure", "broken_off", "updates", "seconds", "node", "device", "peak_memory_bytes",
          "started", "finished")  # fmt: skip
_SHOWN = ("utt_id", "speaker", "reference", "hypothesis")
_ERRORS = ("substitutions", "deletions", "insertions")


class StudyView:
    """A study that is looked at again and again.

    Args:
        folder: of the study; it need not be there yet.
        rest_seconds: how old what is shown may be.
        clock: seconds.
        answers: keeps the answer.
    """

    def __init__(
        self, folder: Path, *, rest_seconds: float = REST_SECONDS, clock: Callable[[], float] = time.monotonic,
        answers: Answers | None = None,
    ) -> None:  # fmt: skip
        self.folder = folder
        self._rest, self._clock, self._answers = rest_seconds, clock, answers or Answers(folder)
        self._snapshot, self._histories = Snapshot(folder), Histories(folder)
        self._lock = threading.Lock()
        self._looked = -math.inf
        self._signature: tuple[int, int] | None = None
        self._study: dict[str, Any] = {}
        self._planned: dict[str, dict[str, Any]] = {}
        self._problem = ""
        self._drawn: tuple[Any, list[dict[str, Any]]] | None = None

    def summary(self) -> dict[str, Any]:
        """Tell in short how the study stands: name, folder, phase, total and counts by status.

        The phase is `waiting` (no study is there), `running`, `stopped` (nobody runs what is missing) or `ended`.
        """
        with self._lock:
            self._look()
            return self._summary()

    def state(self) -> dict[str, Any]:
        """Tell all that the page shows, save for the curves, whose version is told."""
        with self._lock:
            self._look()
            rows = self._snapshot.rows
            return {
                **self._summary(),
                "question": self._study.get("question"),
                "note": self._note(),
                "answer": self._answer(),
                "curves": str(hash(self._curves_key())),
                "unreadable": sorted(self._histories.unreadable.values()),
                "ray": self._ray(),
                "trials": [self._trial(name, row) for name, row in rows.items()],
            }

    def curves(self) -> list[dict[str, Any]]:
        """Draw the curves of all trials."""
        with self._lock:
            self._look()
            key = self._curves_key()
            if self._drawn is None or self._drawn[0] != key:
                subjects = [
                    Subject(name, self._planned[name]["variant"], row["status"] == "done")
                    for name, row in self._snapshot.rows.items()
                    if not self._planned[name].get("repeat")
                ]
                self._drawn = key, figures(subjects, self._histories.curves)
            return self._drawn[1]

    def trial(self, trial_id: str) -> dict[str, Any] | None:
        """Tell what is known of one trial; None when the study has no such trial."""
        with self._lock:
            self._look()
            if trial_id not in self._snapshot.rows:
                return None
            row, planned = self._snapshot.rows[trial_id], self._planned[trial_id]
        place = results.trial_folder(self.folder, trial_id)
        known = live.outcome(place, self._snapshot.holder)
        axes = planned["axes"].items()
        rates = (name for name in known if name.split("/")[0] in _SCORES and isinstance(known[name], (int, float)))
        return {
            "trial_id": trial_id,
            "axes": [[name, str(value)] for name, value in axes],
            "facts": [[name, str(known[name])] for name in _FACTS if known.get(name) is not None],
            "scores": [[name, finite(known[name])] for name in rates],
            "error": known.get("error"),
            "traceback": known.get("traceback"),
            "ended": [
                [str(entry.get("class")), str(entry.get("error") or "")] for entry in results.attempts(place)["ended"]
            ],
            "utterances": worst_utterances(place / "utterances.parquet") if row["status"] == "done" else [],
        }

    def _look(self) -> None:
        if self._clock() - self._looked < self._rest:
            return
        self._looked = self._clock()
        self._problem = ""
        try:
            self._read_plan()
            self._snapshot.read()
        except results.ResultsError as error:
            if not self._snapshot.rows:
                self._problem = str(error)
                return
        if set(self._snapshot.rows) - set(self._planned):  # study.json was replaced between the two looks
            self._signature = None
            self._read_plan()
        self._histories.read(self._snapshot.rows)

    def _read_plan(self) -> None:
        """Read what was asked for, if that has changed: 1,000 trials are megabytes of JSON."""
        try:
            found = (self.folder / "study.json").stat()
            signature = found.st_mtime_ns, found.st_size
        except OSError:
            signature = None
        if signature is None or signature != self._signature:
            self._study = results.read_study(self.folder)
            self._planned = {trial["trial_id"]: trial for trial in self._study["trials"]}
            self._signature = signature

    def _summary(self) -> dict[str, Any]:
        statuses = [row["status"] for row in self._snapshot.rows.values()]
        counts = {name: statuses.count(name) for name in results.STATUSES if name in statuses}
        name = self._study.get("study") or self.folder.resolve().name
        return {
            "name": name, "folder": str(self.folder), "phase": self._phase(counts), "counts": counts, "total": len(statuses),
        }  # fmt: skip

    def _phase(self, counts: Mapping[str, int]) -> str:
        if not counts:
            return "waiting"
        if self._snapshot.holder.held or "running" in counts:
            return "running"
        return "ended" if self._snapshot.ended else "stopped"

    def _note(self) -> str:
        """Say who runs the study, or why nobody does."""
        holder = self._snapshot.holder
        if not self._snapshot.rows:
            there = (
                ""
                if (self.folder / "study.json").exists()
                else "This page goes on looking and shows it once it is there."
            )
            return f"{self._problem}. {there}".strip()
        if holder.held:
            return f"Run by {holder.words or 'a launch'}."
        if holder.held is None:
            return f"{holder.words}: trials that run cannot be told from interrupted ones."
        if self._snapshot.ended:
            return "All trials have ended."
        command = self._study.get("command")
        return "Nobody runs this study now" + (f"; to go on: {command}" if command else ".")

    def _answer(self) -> dict[str, Any]:
        ended = {name: row for name, row in self._snapshot.rows.items() if row["status"] in ENDED}
        if not any(row["status"] == "done" for row in ended.values()):
            return {"headline": NOTHING_DONE, "cautions": [], "stale": False}
        told = sorted((name, row["status"], row.get("wer")) for name, row in ended.items())
        return self._answers.current(hash((self._signature, repr(told))))

    def _curves_key(self) -> Any:
        done = tuple(name for name, row in self._snapshot.rows.items() if row["status"] == "done")
        return self._histories.version, done, tuple(self._snapshot.rows)

    def _ray(self) -> dict[str, Any] | None:
        place = ray_file.read(self.folder) if self._snapshot.holder.held else None
        return place and {"url": place.url, "host": place.host, "here": place.is_here}

    def _trial(self, name: str, row: Mapping[str, Any]) -> dict[str, Any]:
        planned = self._planned[name]
        known = {key: finite(value) if isinstance(value, float) else value for key, value in row.items()}
        return {"trial_id": name, "variant": planned["variant"], "seed": planned["seed"], **known}


def finite(value: float) -> float | None:
    """Return a number as JSON can hold it."""
    return value if math.isfinite(value) else None


def worst_utterances(path: Path) -> list[dict[str, Any]]:
    """Read the utterances with most word errors after training, each with what was said and what was heard.

    Returns:
        utt_id, speaker, reference, hypothesis, errors; at most 20.
    """
    if not path.is_file():
        return []
    names = reading.schema(path).names
    columns = [name for name in (*_SHOWN, *_ERRORS, "phase") if name in names]
    table = reading.table(path, columns=columns, filters=[("phase", "=", "final")]).to_pandas()
    table = table.reindex(columns=[*_SHOWN, *_ERRORS])
    table["errors"] = table[list(_ERRORS)].sum(axis=1).astype(int)
    worst = table.sort_values(["errors", "utt_id"], ascending=[False, True]).head(NUM_UTTERANCES)
    worst = worst[[*_SHOWN, "errors"]]
    return worst.astype(object).where(pd.notna(worst), None).to_dict("records")


def told(summary: Mapping[str, Any]) -> str:
    """Say in words how a study stands, as in `3 of 8 trials done, 1 failed`."""
    rest = [f"{number} {name}" for name, number in summary["counts"].items() if name != "done"]
    return ", ".join([f"{summary['counts'].get('done', 0)} of {count(summary['total'], 'trial')} done", *rest])


def packed(content: Any) -> bytes:
    """Write plain data as JSON."""
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
