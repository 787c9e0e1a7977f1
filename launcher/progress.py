"""What a person sees while a study runs: a live table on a terminal, a line per finished trial otherwise. To stderr."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from launcher import printable, results
from launcher.study import Trial

_COLOURS = {
    "done": "green",
    "failed": "red",
    "pruned": "yellow",
    "running": "cyan",
    "interrupted": "yellow",
    "pending": "dim",
    "waiting": "dim",
}
_MAX_ROWS, _LONGEST_ERROR = 30, 160


class Board:
    """Follows the trials of one run.

    Args:
        trials: the trials of the study, in the order of the plan.
        rows: what is known of each so far, by trial id.
        console: where to write; redraws only when it is a terminal.
    """

    def __init__(self, trials: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]], console: Console) -> None:
        self.trials, self.console = trials, console
        self.rows: dict[str, dict[str, Any]] = {name: dict(row) for name, row in rows.items()}
        self._began: dict[str, float] = {}
        self._started = time.monotonic()
        self._note, self._told_waiting = "", False
        # An id names the reduction alone.
        told = [trial for trial in trials if set(trial.axes) - {"reduction", "seed"}]
        self._variants = {trial.trial_id: f" ({printable.line(trial.variant)})" for trial in told}
        self._live = Live(
            get_renderable=self.table,
            console=console,
            refresh_per_second=2,
            transient=True,
            redirect_stdout=False,  # stdout is the caller's: data, or the log of Ray
            redirect_stderr=False,
        )

    def __enter__(self) -> Board:
        if self.console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.console.is_terminal:
            self._live.stop()

    def started(self, trial_id: str) -> None:
        """Note that a trial was given its resources."""
        self._began.setdefault(trial_id, time.monotonic())
        self.rows[trial_id]["status"] = "running"

    def waiting(self, trial_id: str) -> None:
        """Note that a trial waits for machines; without a live table say so of the first."""
        self._began.pop(trial_id, None)
        self.rows[trial_id]["status"] = "waiting"
        if not self._told_waiting and not self.console.is_terminal:
            told = f"{trial_id} waits: others hold the devices that it wants, or the machines are still to come"
            self.console.print(told, markup=False, highlight=False)
        self._told_waiting = True

    @property
    def unfinished(self) -> int:
        """How many trials have not ended."""
        return len(self.rows) - self._ended

    def reported(self, trial_id: str, metrics: Mapping[str, Any]) -> None:
        """Note the last scores of a running trial."""
        kept = ("update", "updates", "wer", "cer", "nll_per_label")
        self.rows[trial_id].update({name: metrics[name] for name in kept if name in metrics})

    def finished(self, trial_id: str, row: Mapping[str, Any]) -> None:
        """Note how a trial ended; print its line when there is no live table."""
        self.rows[trial_id].update(row)
        if row["status"] in results.ENDED and not self.console.is_terminal:
            name = f"{trial_id}{self._variants.get(trial_id, '')}"
            self.console.print(
                f"[{self._ended}/{len(self.rows)}] {name}: {outcome(row)}", markup=False, highlight=False
            )
        if row.get("tracker_warning"):
            warning = f"Warning: {trial_id}: {row['tracker_warning']}"
            self.console.print(warning, style="yellow", markup=False, highlight=False)

    def stopping(self, why: str) -> None:
        """Say that running trials finish their checkpoints."""
        told, twice = (f", as {why}", "twice") if why else ("", "again")
        self._note = f"stopping{told}: running trials finish their checkpoints (Ctrl-C {twice} stops at once)"
        if not self.console.is_terminal:
            self.console.print(self._note, markup=False, highlight=False)

    def table(self) -> Table:
        """Draw the trials as they stand."""
        rows = {
            trial.trial_id: {**self.rows[trial.trial_id], "seconds": self._seconds(trial.trial_id)}
            for trial in self.trials
        }
        return draw(rows, self._title(), self._note)

    @property
    def _ended(self) -> int:
        return sum(row["status"] in results.ENDED for row in self.rows.values())

    def _title(self) -> str:
        done, failed, pruned = ([row["status"] for row in self.rows.values()].count(name) for name in results.ENDED)
        told = f"{done} of {len(self.rows)} trials done, {failed} failed{f', {pruned} pruned' if pruned else ''}"
        return f"{told}, {_clock(time.monotonic() - self._started)}"

    def _seconds(self, trial_id: str) -> float | None:
        if (known := self.rows[trial_id].get("seconds")) is not None:
            return known
        return time.monotonic() - self._began[trial_id] if trial_id in self._began else None


def draw(rows: Mapping[str, Mapping[str, Any]], title: str, note: str = "") -> Table:
    """Draw trials as a table; of a long study those that have begun last.

    Args:
        rows: what is known of each trial, by its id, in the order of the plan; seconds is None before it begins.
        title: above the table.
        note: below it.
    """
    table = Table(title=Text(title), caption=Text(note) if note else None, title_justify="left", expand=False)
    for name, justify in (("trial", "left"), ("status", "left"), ("update", "right"), ("WER", "right"),
                          ("CER", "right"), ("NLL/label", "right"), ("time", "right")):  # fmt: skip
        table.add_column(name, justify=justify, no_wrap=True)  # type: ignore[arg-type]
    shown = list(rows)
    if len(shown) > _MAX_ROWS:
        order = {"running": 0, "failed": 1, "pruned": 2, "done": 3}
        shown = sorted(shown, key=lambda name: order.get(rows[name]["status"], 4))[:_MAX_ROWS]
    for name in shown:
        row, status = rows[name], rows[name]["status"]
        table.add_row(
            Text(printable.line(name)), Text(printable.line(status), _COLOURS.get(status, "white")), _updates(row), per_cent(row.get("wer")),
            per_cent(row.get("cer")), number(row.get("nll_per_label")),
            "" if row.get("seconds") is None else _clock(row["seconds"]),
        )  # fmt: skip
    return table


def outcome(row: Mapping[str, Any]) -> str:
    """Say in one line how a trial ended."""
    if row["status"] == "done":
        scores = (("WER", per_cent, "wer"), ("CER", per_cent, "cer"), ("NLL/label", number, "nll_per_label"))
        told = [f"{name} {write(row[key])}" for name, write, key in scores if row.get(key) is not None]
        return ", ".join(["done", *(told or ["not scored"]), _clock(row.get("seconds") or 0)])
    if row["status"] == "pruned":
        return f"pruned at update {row.get('updates', '?')}, behind others: NLL/label {number(row.get('nll_per_label')) or '?'}"
    return f"{row['status']}: {first_line(row['error'])}" if row.get("error") else row["status"]


def first_line(error: str | None) -> str:
    """Return the first line of an error, cut where it is long."""
    lines = (error or "").strip().splitlines() or ["no reason was recorded"]
    first = printable.line(lines[0])
    return first if len(first) <= _LONGEST_ERROR else f"{first[:_LONGEST_ERROR]}..."


def reading(console: Console, what: str) -> Progress:
    """Make the bar that shows how data are read: files done, files per second and time left."""
    return Progress(
        TextColumn(what), BarColumn(), MofNCompleteColumn(), TaskProgressColumn(show_speed=True), TimeRemainingColumn(),
        console=console, transient=True, disable=not console.is_terminal,
    )  # fmt: skip


def per_cent(value: float | None) -> str:
    """Write a fraction as per cent with one decimal; nothing when it is not known."""
    return "" if value is None or value != value else f"{100 * value:.1f} %"


def number(value: float | None) -> str:
    """Write a number with three decimals; nothing when it is not known."""
    return "" if value is None or value != value else f"{value:.3f}"


def _updates(row: Mapping[str, Any]) -> str:
    if row.get("update") is not None and row.get("updates"):
        return f"{row['update']}/{row['updates']}"
    return str(row.get("updates") or "")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
