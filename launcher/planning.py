"""`--plan`: what is done, what would run, how long it would take and how much disk."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from launcher import disk_estimate, estimate, live, machine, probing, progress, results, start
from launcher.disk_estimate import Disk
from launcher.estimate import Missing, Time
from launcher.quantities import size, span
from launcher.start import Placing
from launcher.study import Prepared, Study, Trial

Rows = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Asked:
    """What the command line asks of a plan; see `launch.py --help`."""

    placing: Placing
    retry_failed: bool = False
    fresh: bool = False
    probe: bool = False
    as_json: bool = False


@dataclass(frozen=True)
class Estimate:
    """What the trials that are missing take.

    Attributes:
        trials: how many are missing.
        source: what the figures come from, in words; empty: nothing is known.
        time: None: not known.
        disk: what they take on the disk.
        concurrent: trials at a time.
        placed: what `concurrent` was guessed from, in words.
        probe: what a probe measured.
    """

    trials: int
    source: str
    time: Time | None
    disk: Disk
    concurrent: int
    placed: str
    probe: Mapping[str, Any] | None = None

    def as_dict(self, now: datetime) -> dict[str, Any]:
        """Return everything, ready for JSON."""
        low, middle, high = self.time.seconds if self.time is not None else (None, None, None)
        return {
            "trials": self.trials,
            "source": self.source or None,
            "seconds": middle,
            "seconds_low": low,
            "seconds_high": high,
            "ends": None if middle is None else (now + timedelta(seconds=middle)).isoformat(timespec="seconds"),
            "trials_of_unknown_time": self.trials if self.time is None else self.time.unknown,
            "start_up_seconds": None if self.time is None else self.time.start_up_seconds,
            "start_up_measured": self.time is not None and self.time.start_up_measured,
            "concurrent": self.concurrent,
            "concurrent_from": self.placed,
            "disk": {**dataclasses.asdict(self.disk), "fits": self.disk.fits},
            "probe": self.probe,
        }


def execute(study: Study, trials: Sequence[Trial], data: Prepared, out: Path, asked: Asked, console: Console) -> None:
    """List the trials, then say how long the missing ones will take; run nothing, but for a probe that leaves nothing."""
    holder = live.holder(out / live.LOCK)
    rows = {trial.trial_id: live.outcome(results.trial_folder(out, trial.trial_id), holder) for trial in trials}
    count = _train_utterances(data)
    listed = [listing(number, trial, rows[trial.trial_id], asked, count) for number, trial in enumerate(trials)]
    if not asked.as_json:
        click.echo("\n".join(line(one) for one in listed))
    found = make_estimate(study, trials, rows, data, out, asked, console)
    if asked.as_json:
        content = {
            "study": study.name, "data_fingerprint": study.data_fingerprint, "trials": listed,
            "estimate": found.as_dict(datetime.now().astimezone()),
        }  # fmt: skip
        click.echo(json.dumps(content, indent=1, default=str))
    else:
        for sentence in summary(listed, found, datetime.now().astimezone()):
            console.print(sentence, markup=False, highlight=False)
    if holder.held:
        console.print(f"Note: {holder.words or 'a launch'} runs this study now", markup=False, highlight=False)
    if not found.disk.fits:
        console.print(
            f"Warning: that is more than the {size(found.disk.free_bytes)} that are free in {out}; free some, name another "
            "--out, or set save_model = False or a smaller save_total_limit",
            style="yellow", markup=False, highlight=False,
        )  # fmt: skip


def listing(
    number: int, trial: Trial, row: Mapping[str, Any], asked: Asked, train_utterances: int | None
) -> dict[str, Any]:
    """Describe one trial of the plan, ready for JSON."""
    sections = trial.configuration.as_dict()
    return {
        "number": number,
        "trial_id": trial.trial_id,
        "variant": trial.variant,
        "axes": dict(trial.axes),
        "status": row["status"],
        "error": row.get("error"),
        "will_run": will_run(row, asked),
        "update": row.get("update", row.get("updates") if row["status"] == "done" else 0),
        "updates": row.get("updates") or estimate.updates(sections, train_utterances),
    }


def will_run(row: Mapping[str, Any], asked: Asked) -> bool:
    """Tell whether a launch runs a trial; one that was pruned goes on where nothing is pruned any more."""
    ended = [name for name in results.ENDED if name != "pruned" or asked.placing.early_stopping]
    return asked.fresh or row["status"] not in ended or (asked.retry_failed and row["status"] == "failed")


def line(one: Mapping[str, Any]) -> str:
    """Write one trial of the plan as a line."""
    axes = " ".join(f"{name}={value}" for name, value in one["axes"].items())
    status, of = one["status"], f" of {one['updates']}" if one["updates"] else ""
    told = {
        "failed": f"failed: {progress.first_line(one['error'])}; {'runs again' if one['will_run'] else 'not run (--retry-failed)'}",
        "interrupted": f"interrupted at update {one['update']}{of}"
        if one["update"]
        else "interrupted before a checkpoint",
        "running": f"running, update {one['update'] or 0}{of}",
    }.get(status, f"{status}; runs again" if one["will_run"] and status in results.ENDED else status)
    return f"#{one['number']} {one['trial_id']}  {axes}  [{told}]"


def make_estimate(
    study: Study, trials: Sequence[Trial], rows: Rows, data: Prepared, out: Path, asked: Asked, console: Console
) -> Estimate:
    """Estimate what the missing trials take, from those that are done or from a probe."""
    missing = [trial for trial in trials if will_run(rows[trial.trial_id], asked)]
    sections = {trial.trial_id: trial.configuration.as_dict() for trial in trials}
    samples = estimate.samples_of(sections, rows)
    sizes, start_up = disk_estimate.measured(out, trials, rows), estimate.start_up(rows.values())
    source, probe = f"{len(samples)} finished trials" if samples else "", None
    unknown = [trial for trial in missing if not estimate.is_known(sections[trial.trial_id], samples)]
    if asked.probe and unknown:
        console.print(f"trying {unknown[0].trial_id} for a few updates ...", markup=False, highlight=False)
        probe = probing.run(study, unknown[0], data)
        source = " and ".join(filter(None, [source, f"a probe of {unknown[0].trial_id}"]))
        samples, sizes = [*samples, probe.sample], disk_estimate.larger(sizes, probe.sizes)
    elif asked.probe and missing:
        console.print(f"no probe: {len(samples)} finished trials tell more", markup=False, highlight=False)
    sized, placed = machine.sizing(
        asked.placing, [sections[trial.trial_id] for trial in missing], start.peak_memory(rows)
    )
    time = None
    if samples:
        time = estimate.time_left(
            [Missing(sections[trial.trial_id], _rest(rows[trial.trial_id], asked)) for trial in missing], samples,
            concurrent=sized.max_concurrent, start_up=start_up, assumed=_assumed_start_up(probe, asked.placing.backend),
            train_utterances=_train_utterances(data), first=0.0 if probe is None else probe.first(asked.placing.backend),
        )  # fmt: skip
        time = None if time.unknown == len(missing) > 0 else time
    disk = disk_estimate.need(
        out, [sections[trial.trial_id] for trial in missing], sizes, concurrent=sized.max_concurrent
    )
    return Estimate(
        len(missing), source, time, disk, sized.max_concurrent, placed, None if probe is None else probe.as_dict()
    )


def summary(listed: Sequence[Mapping[str, Any]], found: Estimate, now: datetime) -> list[str]:
    """Say in a few sentences what the plan comes to."""
    counts = Counter(one["status"] for one in listed)
    told = ", ".join(f"{counts[status]} {status}" for status in results.STATUSES if counts[status])
    sentences = [f"{len(listed)} trials: {told}; {found.trials} to run"]
    if found.probe is not None:
        sentences.append(_probe_sentence(found.probe))
    if found.trials:
        sentences += [_time_sentence(found, now, counts["done"]), _disk_sentence(found)]
    return sentences


def _time_sentence(found: Estimate, now: datetime, num_done: int) -> str:
    at_a_time = f"{found.concurrent} at a time ({found.placed})"
    if found.time is None:
        why = "no trial is done"
        if found.source:
            why = f"{found.source} have another model"
        elif num_done:
            why = "those that are done were interrupted on the way, and their last attempts alone were timed"
        return f"time left: not known, {why}; --plan --probe tries one for a few updates; {at_a_time}"
    low, middle, high = found.time.seconds
    ends = (now + timedelta(seconds=middle)).strftime("%H:%M" if middle < 43200 else "%a %d %b %H:%M")
    spread = f" ({span(low)} to {span(high)})" if span(low) != span(high) else ""
    start_up = f"{found.time.start_up_seconds:.0f} s"
    told = f"with {start_up} of start-up each" if found.time.start_up_measured else f"start-up assumed: {start_up} each"
    unknown = f"; {found.time.unknown} trials of a model not measured yet are not counted" if found.time.unknown else ""
    return f"time left: about {span(middle)}{spread}, until {ends} if begun now, {at_a_time}; from {found.source}, {told}{unknown}"


def _disk_sentence(found: Estimate) -> str:
    running, kept = found.disk.running_bytes, found.disk.kept_bytes
    told = [
        "checkpoints while running: " + ("not known" if running is None else size(running)),
        "what stays: " + ("not known" if kept is None else size(kept)),
    ]
    return f"disk: {', '.join(told)}; free: {size(found.disk.free_bytes)}"


def _probe_sentence(probe: Mapping[str, Any]) -> str:
    updates = sorted(probe.get("update_seconds") or [])
    told = [f"{updates[len(updates) // 2]:.3g} s per update"] if updates else []
    told.append(f"start-up {span(probe['start_up_seconds'] + probe['build_seconds'])}")
    if probe.get("evaluation_seconds"):
        told.append(f"evaluation {1000 * probe['evaluation_seconds']:.3g} ms per utterance")
    if probe.get("checkpoint_bytes"):
        told.append(f"checkpoint {size(probe['checkpoint_bytes'])} in {probe['checkpoint_seconds']:.2g} s")
    told.append(f"memory {size(probe['peak_memory_bytes'])} ({probe['device']})")
    return f"probe: {', '.join(told)}"


def _assumed_start_up(probe: probing.Probe | None, backend: str) -> float:
    return estimate.ASSUMED_START_UP_SECONDS[backend] if probe is None else probe.start_up(backend)


def _rest(row: Mapping[str, Any], asked: Asked) -> float:
    """Return the part of a trial that is left."""
    if asked.fresh or row["status"] not in ("interrupted", "running") or not row.get("updates"):
        return 1.0
    return 1 - min(1.0, (row.get("update") or 0) / row["updates"])


def _train_utterances(data: Prepared) -> int | None:
    counts = [one["utterances"] for one in data.description.get("counts", ()) if one["split"] == "train"]
    return sum(counts) or None
