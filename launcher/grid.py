"""`--grid`: plan, prepare the data, run what is missing, write tables and report."""

from __future__ import annotations

import importlib
import os
import pkgutil
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console

from launcher import (
    config,
    config_rules,
    devices,
    folder,
    machine,
    places,
    planning,
    progress,
    provenance,
    pruning,
    results,
    show,
    start,
    trackers,
)
from launcher.config import Configuration, ConfigurationError
from launcher.places import Place
from launcher.study import Prepared, Study, Trial

EXIT_DONE, EXIT_INTERRUPTED = 0, 130
_DATASET = "Training Configuration.dataset_path"
_WIDE = 100_000
_WITHOUT_FRESH = ". Leave --fresh out then: it would begin all trials again"


@dataclass(frozen=True)
class Request:
    """What the command line asked for; see `launch.py --help`."""

    grid: str
    command: str
    out: Path | str | None = None
    config: Path | None = None
    data: str | None = None
    overrides: tuple[str, ...] = ()
    plan: bool = False
    probe: bool = False
    as_json: bool = False
    address: str | None = None
    workers: int = 1
    backend: str = "train"
    max_concurrent: int | None = None
    retry_failed: bool = False
    fresh: bool = False
    fail_fast: bool = False
    gpus_per_worker: str = "1"
    cpus_per_worker: str = "1"
    early_stopping: bool = False
    aa: int | None = None

    @property
    def asked(self) -> planning.Asked:
        """Which trials are to run, and what a plan is to tell."""
        return planning.Asked(self.placing, self.retry_failed, self.fresh, probe=self.probe, as_json=self.as_json)

    @property
    def placing(self) -> start.Placing:
        """Where and how the trials are to run."""
        return start.Placing(
            self.address, self.workers, self.backend, self.max_concurrent, self.gpus_per_worker, self.cpus_per_worker, self.fail_fast,
            self.early_stopping,
        )  # fmt: skip


def execute(request: Request) -> int:
    """Carry out a request.

    Returns:
        the exit code: 0 all done, 3 some trials failed, 130 interrupted.

    Raises:
        ValueError: with `is_request_error`, when the request cannot be carried out as it stands.
    """
    devices.asked(request.workers, request.backend, request.gpus_per_worker, request.cpus_per_worker)
    console = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE, soft_wrap=not sys.stderr.isatty())
    study, location = plan(request, console)
    if not request.plan:  # one may be made for another machine
        machine.check(request.placing, [configuration.as_dict() for configuration in study.configurations])
    wanted = not request.plan
    with places.launched(location, wanted=wanted) as place, folder.held(place.folder, wanted=wanted):
        out = place.folder
        data = _prepare(study, out, console)
        study = study.with_data(data.fingerprint, data.weights)
        trials = study.trials()
        _say_rejects(data, console)
        if request.plan:
            planning.execute(study, trials, data, out, request.asked, console)
            return EXIT_DONE
        rows = {trial.trial_id: results.outcome(results.trial_folder(out, trial.trial_id)) for trial in trials}
        launch = provenance.of_launch(out, request.command)
        if launch["git_problem"]:
            console.print(
                f"Warning: the code of this launch is not fully recorded: {launch['git_problem']}",
                style="yellow", markup=False, highlight=False,
            )  # fmt: skip
        folder.describe_study(study, trials, data, out, launch)
        moved = folder.set_aside(trials, rows, place) if request.fresh else []
        todo = _todo(trials, rows, study.groups, place, request, console)
        try:
            interrupted = bool(todo) and start.run(
                study, trials, todo, rows, data, place, placing=request.placing, launch=launch, console=console
            )
        except (ConfigurationError, start.Unbegun):
            folder.put_back(moved, place)
            raise
        except start.Halted as halted:
            raise start.Halted(f"{halted}{_WITHOUT_FRESH if request.fresh else ''}") from halted
        return _conclude(place, request, console, interrupted)


def plan(request: Request, console: Console) -> tuple[Study, Path | str]:
    """Resolve the configuration and let the search space make its study; warnings go to the console.

    Returns:
        the study, and its folder or the URI of that.
    """
    space = _search_space(request.grid)
    configuration = config.load(request.config, request.overrides, defaults=space.DEFAULTS)
    if request.data is not None:
        configuration = configuration.with_values({_DATASET: request.data})
    if _DATASET in configuration.axes:
        raise ConfigurationError(
            f"dataset_path cannot be an axis: {configuration.axes[_DATASET]}; run one study per corpus"
        )
    study, warnings = check(space.study(configuration))
    if request.early_stopping:
        pruning.check(study.trials())
    if study.baseline is not None and study.baseline_variant() is None and _num_variants(study) > 1:
        warnings.append(
            f"baseline = {study.baseline} names no variant of this study, or several; compared with the first instead, "
            f"{study.trials()[0].variant}; name one like that"
        )
    out = request.out or configuration.training.save_results or Path("results") / request.grid
    trackers.check(study.configurations, out, os.environ)
    if request.out is not None and configuration.training.save_results is not None:
        warnings.append(f"save_results = {configuration.training.save_results} has no effect: --out says {request.out}")
    for warning in dict.fromkeys((*configuration.warnings, *warnings)):
        console.print(f"Warning: {warning}", style="yellow", markup=False, highlight=False)
    return replace(study, runs=request.aa or 1), out


def _num_variants(study: Study) -> int:
    return len({trial.variant for trial in study.trials()})


def check(study: Study) -> tuple[Study, list[str]]:
    """Check what holds between the keys of each cell of a study.

    Returns:
        the study with the values that follow from others, and what has no effect.

    Raises:
        ConfigurationError: keys contradict each other.
    """
    checked = [config_rules.check(cell) for cell in study.configurations]
    warnings = [warning for _, found in checked for warning in found]
    return replace(study, configurations=tuple(cell for cell, _ in checked)), warnings


def _search_space(name: str) -> ModuleType:
    import search_spaces

    names = (module.name for module in pkgutil.iter_modules(search_spaces.__path__))
    known = sorted(name for name in names if not name.startswith("_"))
    if name not in known:
        raise ConfigurationError(f"unknown --grid {name!r}; choose one of: {', '.join(known)}")
    return importlib.import_module(f"search_spaces.{name}")


def _prepare(study: Study, out: Path, console: Console) -> Prepared:
    source = _one_source(study.configurations)
    sections = [configuration.as_dict() for configuration in study.configurations]
    with progress.reading(console, "reading audio") as bar:
        task = bar.add_task("audio", total=None)
        data = pkgutil.resolve_name(study.prepare)(
            source, out / "stores", sections, study.groups,
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    for note in data.notes:
        console.print(f"Warning: {note}", style="yellow", markup=False, highlight=False)
    return data


def _one_source(configurations: Sequence[Configuration]) -> str:
    (source,) = {configuration.training.dataset_path for configuration in configurations}
    return source


def _say_rejects(data: Prepared, console: Console) -> None:
    description = data.description
    for column, value in description.get("filled", {}).items():
        console.print(f"Note: the manifest has no column {column}; {value!r} stands in for it", markup=False)
    rejects: Mapping[str, int] = description["rejects"]
    if rejects:
        groups = description["rejects_by_group"]
        reasons = "; ".join(
            f"{count} {reason} ({', '.join(f'{group} {number}' for group, number in groups[reason].items())})"
            for reason, count in rejects.items()
        )
        console.print(
            f"Rejected {sum(rejects.values())} of {sum(rejects.values()) + description['utterances']} utterances: "
            f"{reasons}; each is listed in rejects.parquet and in the report",
            style="yellow", markup=False, highlight=False,
        )  # fmt: skip


def _todo(
    trials: Sequence[Trial], rows: dict[str, dict[str, Any]], study_groups: Sequence[str], place: Place, request: Request,
    console: Console,
) -> list[Trial]:  # fmt: skip
    """Choose the trials to run: what is neither done nor failed, and more on request."""
    failed = [trial for trial in trials if rows[trial.trial_id]["status"] == "failed"]
    done = sum(row["status"] == "done" for row in rows.values())
    again = failed if request.retry_failed else []
    todo = [trial for trial in trials if planning.will_run(rows[trial.trial_id], request.asked)]
    stale = [name for name, row in rows.items() if row["status"] == "done" and set(study_groups) - set(row["groups"])]
    if stale:
        console.print(
            f"Warning: {len(stale)} finished trials have no scores by {', '.join(study_groups)}; --fresh runs them again",
            style="yellow", markup=False, highlight=False,
        )  # fmt: skip
    otherwise = [trial for trial in trials if _audited_otherwise(trial, rows[trial.trial_id])]
    if otherwise:
        model = place.shown(results.trial_folder(place.folder, otherwise[0].trial_id) / "model")
        console.print(
            f"Warning: {len(otherwise)} finished trials were audited otherwise than asked for now; to audit their models so: "
            f"--grid audit --set {shlex.quote(f'load_model={model}')} ..., or --fresh",
            style="yellow", markup=False, highlight=False,
        )  # fmt: skip
    kept = f"; {len(failed)} failed before (--retry-failed runs them again)" if failed and not again else ""
    pruned = sum(row["status"] == "pruned" for row in rows.values()) if request.early_stopping else 0
    kept += f"; {pruned} pruned before (without --early-stopping they go on)" if pruned else ""
    console.print(f"{len(trials)} trials: {done} done, {len(todo)} to run{kept}", markup=False, highlight=False)
    return todo


def _audited_otherwise(trial: Trial, row: Mapping[str, Any]) -> bool:
    asked = {name: value for name, value in trial.configuration.training if name.startswith("audit")}
    return row["status"] == "done" and row.get("audit", asked) != asked


def _conclude(place: Place, request: Request, console: Console, interrupted: bool) -> int:
    from launcher import report, utterance_files

    out = place.folder
    place.fetch()
    results.write_tables(out)
    tables = utterance_files.open_study(out)
    page = report.write(tables, out / "report.html")
    place.send()
    shown = place.shown(page)
    floor, extra = show.noise_floor(out, tables.results), {"out": place.shown(), "report": shown}
    code = show.results_table(tables.study, tables.results, as_json=request.as_json, extra=extra, floor=floor)
    show.shortfalls(tables.results, console)
    console.print(f"report: {shown}", markup=False, highlight=False)
    if tables.results["status"].isin(["done", "failed", "pruned"]).all():
        return code
    stopped = "stopped, as a trial failed (--fail-fast)" if code != EXIT_DONE and not interrupted else "interrupted"
    waits = "" if request.retry_failed or code == EXIT_DONE else "; trials that failed wait for --retry-failed"
    console.print(f"{stopped}; to go on: {_going_on(request.command)}{waits}", markup=False, highlight=False)
    return EXIT_INTERRUPTED if interrupted or code == EXIT_DONE else code  # 3: --fail-fast stopped the others


def _going_on(command: str) -> str:
    """Return the command that goes on with a study: --fresh would begin all trials again."""
    return shlex.join(word for word in shlex.split(command) if word != "--fresh")
