"""`status`: the trials of a study as they are, once or until all have ended. Reads only, also while the study runs."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table

from launcher import live, printable, progress, results, show
from launcher.live import Holder

ENDED = results.ENDED
_TOLD = ("status", "update", "updates", "wer", "cer", "nll_per_label", "seconds", "error")
_TELLS = ("status", "update", "error")


@dataclass
class Snapshot:
    """The trials of a study, read again and again; what did not change since is not read again.

    Attributes:
        folder: of the study.
        rows: what is known of each trial, in the order of the plan.
        holder: who runs the study.
    """

    folder: Path
    rows: dict[str, dict[str, Any]] = field(default_factory=dict)
    holder: Holder = field(default_factory=lambda: Holder(False))
    _names: list[str] = field(default_factory=list)
    _plan: tuple[int, int] | None = None
    _seen: dict[str, tuple[int, int]] = field(default_factory=dict)

    def read(self) -> None:
        """Read what is new.

        A file that vanishes or changes while it is read leaves its trial as it was until the next reading: the study
        goes on beside this one.

        Raises:
            ResultsError: the folder is no study; only at the first reading.
        """
        try:
            self._read_plan()
        except results.ResultsError:
            if not self._names:
                raise
        self.holder = live.holder(self.folder / live.LOCK)
        before, self.rows = self.rows, {}
        for name in self._names:
            self.rows[name] = self._row(name, before.get(name))

    @property
    def ended(self) -> bool:
        """Whether every trial has ended."""
        return all(row["status"] in ENDED for row in self.rows.values())

    def _read_plan(self) -> None:
        """Read which trials there are, if that has changed: 1,000 trials are megabytes of JSON."""
        try:
            found = (self.folder / "study.json").stat()
            signature = found.st_mtime_ns, found.st_size
        except OSError:  # the reading says what is wrong
            signature = None
        if signature is None or signature != self._plan:
            self._names = [trial["trial_id"] for trial in results.read_study(self.folder)["trials"]]
            self._plan = signature

    def _row(self, name: str, before: dict[str, Any] | None) -> dict[str, Any]:
        place = results.trial_folder(self.folder, name)
        try:
            changed = place.stat().st_mtime_ns
        except FileNotFoundError:
            return {"status": "pending"}
        seen, times = self._seen.get(name, (0, 0))
        # Read twice after a change: two changes in one tick of the file system's clock look like one.
        if before is not None and before["status"] in ENDED and changed == seen and times > 1:
            return before
        self._seen[name] = changed, times + 1 if changed == seen else 1
        try:
            row = live.outcome(place, self.holder)
        except (OSError, ValueError):
            return before or {"status": "pending"}
        return {key: row[key] for key in _TOLD if row.get(key) is not None}


def once(folder: Path, *, as_json: bool) -> int:
    """Print the results table as it is now, with the trials that run, and to stderr why trials failed or were pruned.

    Returns:
        3 when some trials failed, else 0.
    """
    study = results.read_study(folder)
    frame = results.results_table(folder, study).to_pandas()
    holder = live.holder(folder / live.LOCK)
    for place in frame.index[frame["status"] == "interrupted"]:
        row = live.outcome(results.trial_folder(folder, str(frame.loc[place, "trial_id"])), holder)
        if row["status"] == "running":  # one that has ended since keeps the status that goes with its empty scores
            frame.loc[place, "status"] = "running"
    code = show.results_table(study, frame, as_json=as_json, floor=show.noise_floor(folder, frame))
    if not as_json:
        show.shortfalls(frame, Console(stderr=True, soft_wrap=True))
    return code


def follow(folder: Path, interval: float, *, as_json: bool) -> int:
    """Show a study until all its trials have ended, or Ctrl-C.

    On a terminal the table is drawn again and again; elsewhere each change is one line (with `as_json` one JSON object).

    Args:
        folder: of the study.
        interval: seconds between two readings.
        as_json: write JSON lines, also on a terminal.

    Returns:
        0; 3 when all have ended and some failed.
    """
    snapshot, console = Snapshot(folder), Console()
    try:
        if console.is_terminal and not as_json:
            _redraw(snapshot, interval, console)
        else:
            for change in changes(snapshot, interval, Console(stderr=True, soft_wrap=True)):
                click.echo(json.dumps(show.plain(change)) if as_json else line(change))
    except KeyboardInterrupt:
        return show.EXIT_DONE
    failed = any(row["status"] == "failed" for row in snapshot.rows.values())
    return show.EXIT_FAILED_TRIALS if failed else show.EXIT_DONE


def changes(snapshot: Snapshot, interval: float, remarks: Console) -> Iterator[dict[str, Any]]:
    """Yield what changed: first every trial as it is, then each that has moved, until all have ended.

    Args:
        snapshot: of the study.
        interval: seconds between two readings.
        remarks: is told who runs the study, whenever that changes.
    """
    told: dict[str, tuple[Any, ...]] = {}
    said = ""
    while True:
        snapshot.read()
        if (caption := _caption(snapshot)) != said:
            said = caption
            if caption:
                remarks.print(caption, markup=False, highlight=False)
        for name, row in snapshot.rows.items():
            state = tuple(row.get(key) for key in _TELLS)
            if told.get(name) != state:
                told[name] = state
                yield {"trial_id": name, **row}
        if snapshot.ended:
            return
        time.sleep(interval)


def line(change: Mapping[str, Any]) -> str:
    """Write a change as one line."""
    status, of = change["status"], f" of {change['updates']}" if change.get("updates") else ""
    if status in ENDED:
        told = progress.outcome(change)
    elif change.get("update") is not None:
        score = progress.per_cent(change.get("wer"))
        told = f"{status}, update {change['update']}{of}{', WER ' + score if score else ''}"
    else:
        told = status
    return printable.line(f"{change['trial_id']}: {told}")


def drawing(snapshot: Snapshot) -> Table:
    """Draw the trials as they are."""
    statuses = [row["status"] for row in snapshot.rows.values()]
    told = ", ".join(f"{statuses.count(name)} {name}" for name in results.STATUSES if name in statuses)
    return progress.draw(
        snapshot.rows, f"{snapshot.folder.resolve().name}: {len(statuses)} trials: {told}", _caption(snapshot)
    )


def _caption(snapshot: Snapshot) -> str:
    holder = snapshot.holder
    if holder.held:
        return f"run by {printable.line(holder.words) or 'a launch'}"
    if holder.held is None:
        return f"{holder.words}: trials that run cannot be told from interrupted ones"
    return "" if snapshot.ended else "nobody runs this study now"


def _redraw(snapshot: Snapshot, interval: float, console: Console) -> None:
    snapshot.read()

    def picture() -> RenderableType:
        return drawing(snapshot)

    with Live(get_renderable=picture, console=console, auto_refresh=False) as screen:
        while not snapshot.ended:
            time.sleep(interval)
            snapshot.read()
            screen.refresh()
