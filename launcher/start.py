"""Run the trials of a study that are missing: connect, size, hand out."""

from __future__ import annotations

import functools
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from rich.console import Console

from launcher import address, apart, handover, progress, ray_file, results, trackers
from launcher.config import ConfigurationError
from launcher.places import Place
from launcher.retries import StorageError, at_length
from launcher.study import Prepared, Study, Trial

_UNWRITABLE = (
    "trials of {out} cannot write: {why}; all stopped behind their last checkpoints. "
    "Make room and give the same command again"
)
_UNREACHABLE = "{why}; all trials stopped behind their last checkpoints. The same command goes on once that works again"
_OPEN = (
    "Warning: the Ray cluster at {address} asks for no token: whoever reaches its ports runs code there as its user and reads "
    "what it reads; RAY_AUTH_MODE=disabled says that this is meant"
)
MAX_BREAKDOWNS = 3
"""How often in a row Ray is started again although no trial got further."""


class Halted(results.ResultsError):
    """Trials stopped behind their last checkpoints for a reason outside of the study; the same command goes on."""

    exit_code = 130


class Unbegun(results.ResultsError):
    """Trials could not be handed out; none has begun."""

    def __init__(self, why: results.ResultsError) -> None:
        super().__init__(str(why))
        self.exit_code = getattr(why, "exit_code", 2)


@dataclass(frozen=True)
class Placing:
    """Where and how trials are to run; see `launch.py --help`."""

    address: str | None
    workers: int
    backend: str
    max_concurrent: int | None
    gpus_per_worker: str
    cpus_per_worker: str
    fail_fast: bool
    early_stopping: bool


@dataclass(frozen=True)
class Order:
    """What the process that schedules trials is told.

    Attributes:
        trials: all trials of the study, for the table on the screen.
        rows: what is known of each, by id.
        jobs: those to run, as plain data.
        train_fn: "module:function" that runs one.
        placing: where.
        place: the study.
        stop_file: made when trials are to stop.
        width: of the terminal, in characters.
    """

    trials: Sequence[Trial]
    rows: Mapping[str, Mapping[str, Any]]
    jobs: Sequence[Mapping[str, Any]]
    train_fn: str
    placing: Placing
    place: Place
    stop_file: Path
    width: int


def run(
    study: Study, trials: Sequence[Trial], todo: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]],
    data: Prepared, place: Place, *, placing: Placing, launch: Mapping[str, Any], console: Console,
) -> bool:  # fmt: skip
    """Run trials until each has ended or the study was interrupted.

    Where Ray breaks down on this machine it is started again, for what is then missing.

    Args:
        study: what was asked for.
        trials: all of the study, for the table on the screen.
        todo: those to run.
        rows: what is known of each trial, by id.
        data: what they train on.
        place: the study.
        placing: where.
        launch: what this launch is made with, for the record; see `provenance.of_launch`.
        console: where progress goes.

    Returns:
        whether it was interrupted.

    Raises:
        Halted: nothing can be written, or Ray broke down again and again.
        ConfigurationError: the trials cannot be run so here; none has begun.
        Unbegun: they could not be handed out.
    """
    out = place.folder
    stop_file = out.resolve() / f".stop-{os.getpid()}"
    jobs = _handed_out(study, todo, rows, data, place, stop_file, launch=launch, console=console)
    in_vain, broke_down = 0, False
    begun = {name: row.get("attempts", 0) for name, row in rows.items()}
    try:
        while jobs:
            before = _progress_of(out)
            order = Order(trials, rows, jobs, study.train_fn, placing, place, stop_file, console.width)
            try:
                return _concluded(apart.call(schedule, order, log=out / "ray.log"), place)
            except OSError as error:
                raise Halted(_UNWRITABLE.format(out=out, why=error)) from error
            except ConfigurationError as error:
                if not broke_down:
                    raise
                raise _gave_up(out, f"Ray broke down, then: {error}") from error
            except apart.BrokenOff as error:
                if error.was_asked or stop_file.exists():
                    console.print(f"Ray broke down while trials stopped ({error})", markup=False, highlight=False)
                    return True
                _see(place)
                broke_down, in_vain = True, in_vain + 1 if _progress_of(out) == before else 0
                if in_vain >= MAX_BREAKDOWNS:
                    told = f"Ray broke down {in_vain} times and no trial got further, last: {error}"
                    raise _gave_up(out, told) from error
                console.print(
                    f"Ray broke down ({error}); starting it again", style="yellow", markup=False, highlight=False
                )
            rows = {trial.trial_id: results.outcome(results.trial_folder(out, trial.trial_id)) for trial in trials}
            jobs = [job for job in jobs if not _has_ended(rows[job["trial_id"]], begun.get(job["trial_id"], 0))]
        return False
    finally:
        if stop_file.exists():
            place.tidy(stop_file)


def _handed_out(
    study: Study, todo: Sequence[Trial], rows: Mapping[str, Mapping[str, Any]], data: Prepared, place: Place, stop_file: Path,
    *, launch: Mapping[str, Any], console: Console,
) -> list[dict[str, Any]]:  # fmt: skip
    """Write down what the trials are to do, and return what their processes are told.

    Raises:
        Unbegun: it cannot be written.
    """
    out = place.folder
    taken = handover.take_up(todo, rows, out, launch, console)
    try:
        handover.describe(todo, taken, out)
    except results.ResultsError as error:
        raise Unbegun(error) from error
    place.drop(stop_file)  # of an earlier launch that was killed and had this number
    place.drop_wishes()
    place.send()
    return [
        {
            **handover.job(study, trial, data, out.resolve(), stop_file), "uri": place.uri,
            "trackers": trackers.told(study, trial, place, os.environ),
        }
        for trial in todo
    ]  # fmt: skip


def _has_ended(row: Mapping[str, Any], begun: int) -> bool:
    """Tell whether a trial ended in this launch: a failure of an earlier one is what it is to try again."""
    return row["status"] == "done" or (row["status"] in results.ENDED and row["attempts"] > begun)


def schedule(order: Order, terminal: TextIO) -> Any:
    """Connect to Ray, size the trials and run them; called in a process of its own.

    Args:
        order: what is to be run.
        terminal: where progress goes.
    """
    from launcher import cluster, own_node
    from launcher.guard import Guard

    placing, console = order.placing, Console(file=terminal, width=order.width, soft_wrap=not terminal.isatty())
    choice, mode = address.choose(placing.address), os.environ.get("RAY_AUTH_MODE", "token")
    say = functools.partial(console.print, markup=False, highlight=False)
    say(choice.told)
    with ExitStack() as stack:
        joined = stack.enter_context(cluster.connected(choice))
        if joined.is_open:
            say(_OPEN.format(address=joined.address), style="yellow")
        elif mode != "token":
            say(f"RAY_AUTH_MODE = {mode} is set aside: a study asks for its token", style="yellow")
        if choice.was_found and joined.address is None:
            say(f"the cluster at {choice.address} does not take this machine's token; started Ray for this study alone")
        stack.enter_context(own_node.watched())
        stack.enter_context(ray_file.told(order.place.folder, joined.dashboard))
        guard = Guard(joined, order.place, order.jobs[0], say)
        connected = stack.enter_context(guard.watching())
        sizing = cluster.size(
            cluster.for_trials(connected, [job["sections"] for job in order.jobs]), len(order.jobs), workers=placing.workers, backend=placing.backend,
            max_concurrent=placing.max_concurrent, gpus_per_worker=placing.gpus_per_worker, cpus_per_worker=placing.cpus_per_worker,
            measured_bytes=peak_memory(order.rows), on_one_node=order.place.uri is not None,
        )  # fmt: skip
        cpus = f" ({sizing.cpus_per_worker:g} each)" if sizing.cpus_per_worker != 1 else ""
        device = f"GPU ({sizing.gpus_per_worker:g} each)" if sizing.use_gpu else f"CPU{cpus}"
        each = f"{sizing.max_concurrent} trials at a time, {sizing.workers} {device} worker(s) each"
        console.print(each, markup=False)
        if sizing.limit:
            console.print(sizing.limit, markup=False, highlight=False)
        more = {"threads": sizing.threads, "launch": uuid.uuid4().hex[:8]}
        from launcher import run  # imports Ray, which reads its environment once: not before it is set

        with progress.Board(order.trials, shown(order), console) as board:
            guard.wants(sizing, lambda: board.unfinished, backend=placing.backend)
            return run.run(
                [{**job, **more} for job in order.jobs], order.train_fn, cluster=connected, sizing=sizing,
                backend=placing.backend, stop_file=order.stop_file, fail_fast=placing.fail_fast,
                early_stopping=placing.early_stopping, listener=board, place=order.place, guard=guard,
            )  # fmt: skip


def shown(order: Order) -> dict[str, Mapping[str, Any]]:
    """Return what is known of each trial before the first begins; one that ended before and runs again is to come."""
    again = {job["trial_id"] for job in order.jobs}
    ended = {name for name in again if order.rows[name]["status"] in results.ENDED}
    return {name: {"status": "pending"} if name in ended else row for name, row in order.rows.items()}


def _see(place: Place) -> None:
    """Look how the trials stand, which Ray can tell no more."""
    try:
        at_length(lambda: place.fetch("trials"))
    except StorageError as error:
        raise Halted(f"Ray broke down, and {error}; the same command goes on from the last checkpoints") from error


def _gave_up(out: Path, why: str) -> Halted:
    """Write down how the trials stand, for whoever comes back."""
    try:
        results.write_tables(out)
    except results.ResultsError as unwritable:
        why = f"{why}; {unwritable}"
    return Halted(
        f"{why}. `python launch.py doctor` looks for the reason; the same command goes on from the last checkpoints"
    )


def _concluded(outcome: Any, place: Place) -> bool:
    if outcome is None:  # a second Ctrl-C
        return True
    if outcome.halted is not None:
        told = _UNWRITABLE if place.uri is None else _UNREACHABLE
        raise Halted(told.format(out=place.folder, why=outcome.halted))
    if outcome.unfit is not None:
        raise Halted(f"{outcome.unfit}; mend the nodes and give the same command again")
    return outcome.interrupted


def _progress_of(out: Path) -> set[str]:
    """Name what trials have behind them: ends and checkpoints."""
    ends = ("result.json", "failure.json", "pruned.json", "checkpoints/*/sealed.json")
    return {str(path) for end in ends for path in (out / "trials").glob(f"*/{end}")}


def peak_memory(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Return the highest memory of finished trials in bytes, by kind of device; empty when none has finished."""
    peaks: dict[str, float] = {}
    for row in rows.values():
        if row["status"] == "done" and row.get("peak_memory_bytes"):
            kind = "CPU" if row["device"] == "cpu" else "GPU"
            peaks[kind] = max(peaks.get(kind, 0.0), float(row["peak_memory_bytes"]))
    return peaks
