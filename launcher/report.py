"""Write the report of a study: one HTML file that opens in a browser, offline.

The page is a pure function of the tables: the same tables give the same bytes. It is complete at every
stage of a study; where there is no answer yet, it says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from launcher import comparison_sections, pages, run_sections, sections
from launcher.answer import Answer, answer, count
from launcher.comparison_sections import group_section
from launcher.comparisons import MARGIN, METHOD, comparisons
from launcher.noise import NoiseFloor, equal_runs, floor_by_class, noise_floor
from launcher.share_sections import audit_section
from launcher.share_stats import only_measured
from launcher.stats import first_runs, of_first_runs, pick_baseline, summary_by_variant, with_columns
from launcher.tallies import COLUMNS, Tally, tally
from launcher.utterance_files import UtteranceFiles, known_columns, parts, whole
from launcher.worst import Speech, worst_rows, worst_table

_RESULT_COLUMNS = (
    "trial_id variant status error attempts wer cer data_fingerprint git_sha git_patch packages mixed_code".split()
)


class StudyTables(Protocol):
    """Everything a report is made of: the study as it was asked for, and its tables."""

    @property
    def study(self) -> dict[str, Any]:
        """study.json: question, command, axes, baseline, groups, data, environment."""
        ...

    @property
    def results(self) -> pd.DataFrame:
        """One row per requested trial."""
        ...

    @property
    def utterances(self) -> pd.DataFrame | UtteranceFiles:
        """One row per trial, phase and evaluated utterance; in their files where there may be many."""
        ...

    @property
    def history(self) -> pd.DataFrame:
        """One row per trial and logged update."""
        ...

    @property
    def shares(self) -> pd.DataFrame:
        """One row per trial, phase, reduction and class of a group column; may be empty."""
        ...

    @property
    def exact(self) -> pd.DataFrame:
        """The shares of the gradient at the output layer beside those at all weights; may be empty."""
        ...

    @property
    def audit(self) -> pd.DataFrame:
        """One row per trial, phase and audited utterance; may be empty."""
        ...

    @property
    def rejects(self) -> pd.DataFrame:
        """One row per utterance that could not be used."""
        ...


def write(tables: StudyTables, path: Path, speech: Speech | None = None) -> Path:
    """Write the report, whole or not at all; numbers too large for the page go into `report_data` beside it.

    Args:
        tables: the study and its tables; any of them may be empty.
        path: the HTML file to write; missing folders are made, an existing file is replaced.
        speech: finds the sound of the worst utterances; None: the page holds no speech.

    Returns:
        The path written.
    """
    return pages.publish("report.html.j2", content(tables, speech), path)


def render(tables: StudyTables, speech: Speech | None = None) -> str:
    """Return the report as HTML."""
    return pages.render("report.html.j2", content(tables, speech))


def content(tables: StudyTables, speech: Speech | None = None) -> dict[str, Any]:
    """Return what the template shows: text, `sections.Table`s and `sections.Figure`s."""
    study = tables.study
    results = with_columns(tables.results, _RESULT_COLUMNS)
    compared = first_runs(results)
    found = _compare(tables, results, compared)
    groups = list(study.get("groups") or [])
    data = study.get("data") or {}
    shares, exact = (of_first_runs(frame, tables.results) for frame in (tables.shares, tables.exact))
    losses = tables.utterances if tables.audit.empty else tables.audit
    audit = audit_section(
        shares, exact, losses, compared, groups, axes=list(study.get("axes") or {}), baseline=study.get("baseline")
    )
    answered = found.answer
    if only_measured(compared) and len(tables.shares):
        answered = Answer(audit.sentence, answered.best)  # that is what was asked
    worst = worst_rows(compared, tables.utterances, answered.best, groups)
    clips = speech(worst) if speech is not None else None
    known = known_columns(tables.utterances)
    return {
        "title": study.get("study") or "unnamed study",
        "question": study.get("question"),
        "command": study.get("command") or "The command was not recorded.",
        "answer": answered,
        "warnings": [*found.problems, *_mixed(results, data)],
        "speech": clips,
        "facts": _facts(study, data),
        "counts": sections.counts_table(data),
        "reject_reasons": _reject_reasons(data, tables.rejects),
        "environment": sorted(_environment(study)),
        "progress": _progress(results),
        "main": comparison_sections.main_table(compared, found.compared),
        "tests": comparison_sections.tests_table(found.compared),
        "sizes": comparison_sections.sizes_table(found.compared),
        "method": METHOD,
        "noise": found.noise and (found.noise.sentence(), comparison_sections.noise_table(results, found.noise)),
        "strip": comparison_sections.strip_figure(compared),
        "audit": audit,
        "groups": [
            group_section(compared, found.tallied, name, known, found.baseline, noise=found.noise_by_class.get(name))
            for name in groups
        ],
        **_ran(tables.history, results, compared),
        "worst": worst_table(worst, answered.best, groups, clips),
        "rejects": sections.rejects_table(tables.rejects),
        "fingerprint": data.get("fingerprint"),
    }


def _ran(history: pd.DataFrame, results: pd.DataFrame, compared: pd.DataFrame) -> dict[str, Any]:
    """Say how the trials ran; `compared` are those that repeat no other."""
    return {
        "curves": run_sections.curve_figures(history, compared, run_sections.LEARNING),
        "gradients": run_sections.gradient_section(history, compared),
        "failures": run_sections.failure_section(results),
        "cost": run_sections.cost_section(results),
        "trials": run_sections.trials_table(results),
        "made_with": run_sections.made_with_table(results),
    }


@dataclass(frozen=True)
class _Found:
    """What the comparison of the variants gives."""

    answer: Answer
    baseline: str | None
    compared: pd.DataFrame
    tallied: Tally
    noise: NoiseFloor | None
    noise_by_class: dict[str, dict[str, float]]
    problems: list[str]


def _compare(tables: StudyTables, results: pd.DataFrame, first: pd.DataFrame) -> _Found:
    """Compare the variants; `first` are the trials that repeat no other."""
    study, groups = tables.study, list(tables.study.get("groups") or [])
    baseline, problems = _baseline(first, study)
    equal = equal_runs(results)
    ids = set(equal["trial_id"])
    noise = noise_floor(results, whole(tables.utterances, ["utt_id", "split", "hypothesis", "loss"], ids, "final"))
    # As trials of their own: a tally leaves repeats out.
    runs = tally(equal.drop(columns="repeat"), parts(tables.utterances, [*COLUMNS, *groups], ids, "final"), groups)
    by_class = {name: floor_by_class(runs, name) for name in groups if name in runs.utterances.columns}
    tallied = tally(first, parts(tables.utterances, [*COLUMNS, *groups], set(first["trial_id"]), "final"), groups)
    margin = study.get("margin", MARGIN)
    compared = comparisons(first, tallied, baseline, margin=margin, noise=noise)
    said = answer(first, summary_by_variant(first, "wer"), compared, baseline, noise)
    return _Found(said, baseline, compared, tallied, noise, by_class, problems)


def _baseline(results: pd.DataFrame, study: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Return the baseline to compare with; one that is not in the study is reported, not an error.

    A study records the variant that it found (`baseline`; null where there is none) and the words that asked for it
    (`baseline_wanted`; null where nobody asked).
    """
    wanted = study.get("baseline")
    if wanted is not None and wanted in set(results["variant"]):
        return pick_baseline(results, wanted), []
    baseline = pick_baseline(results, None)
    wanted = study.get("baseline_wanted") if wanted is None else wanted
    if baseline is None or wanted is None:
        return baseline, []
    problem = f"The baseline {wanted!r} is not a variant of this study; compared with {baseline!r} instead."
    return baseline, [problem]


def _mixed(results: pd.DataFrame, data: dict[str, Any]) -> list[str]:
    """Say when the trials were not all run on the same data or by the same code."""
    warnings = []
    prints = {*results["data_fingerprint"].dropna(), *filter(None, [data.get("fingerprint")])}
    if len(prints) > 1:
        listed = ", ".join(sorted(map(str, prints)))
        warnings.append(f"The trials were run on different data: fingerprints {listed}.")
    code = results[["git_sha", "git_patch"]].dropna(how="all").drop_duplicates()
    if len(code) > 1:
        commits = (f"{sha}{f' with {patch}' if isinstance(patch, str) else ''}" for sha, patch in code.to_numpy())
        warnings.append(f"The trials were run by different code: commits {', '.join(sorted(commits))}.")
    if differing := _differing_versions(results["packages"].dropna()):
        warnings.append(f"The trials were run with different versions: {', '.join(differing)}.")
    resumed = list(results.loc[results["mixed_code"] == True, "trial_id"])  # noqa: E712 (missing is not true)
    if resumed:
        listed = ", ".join(map(str, resumed))
        warnings.append(
            f"Code or versions changed under {count(len(resumed), 'trial')}, begun by one launch and resumed by another: {listed}."
        )
    return warnings


def _differing_versions(packages: pd.Series) -> list[str]:
    """List the packages that were not the same for all trials, each with its versions."""
    known = [json.loads(text) for text in packages.unique()]
    found = []
    for name in sorted({name for versions in known for name in versions}):
        versions = sorted({str(versions.get(name, "none")) for versions in known})
        if len(versions) > 1:
            found.append(f"{name} {' and '.join(versions)}")
    return found


def _facts(study: dict[str, Any], data: dict[str, Any]) -> list[tuple[str, str]]:
    """List what was run, as name and value; what was not recorded is said to be so."""
    axes, versions = study.get("axes") or {}, _environment(study)
    return [
        ("Data", str(data.get("source") or "not recorded")),
        ("Fingerprint of the data", str(data.get("fingerprint") or "not recorded")),
        ("Utterances", f"{data['utterances']:,}" if "utterances" in data else "not recorded"),
        ("Speech", f"{data['hours']:.2f} hours" if "hours" in data else "not recorded"),
        *((f"Axis: {name}", ", ".join(map(str, values))) for name, values in axes.items()),
        ("Baseline", str(study.get("baseline") or "the first variant")),
        ("Versions", ", ".join(f"{name} {value}" for name, value in versions) or "not recorded"),
        ("Last launch", str(study.get("created") or "not recorded")),
    ]


def _environment(study: dict[str, Any]) -> list[tuple[str, Any]]:
    """List what is known of the code and the machine; without a patch, git_patch is null."""
    return [(name, value) for name, value in (study.get("environment") or {}).items() if value is not None]


def _reject_reasons(data: dict[str, Any], rejects: pd.DataFrame) -> list[tuple[Any, int]]:
    """Count rejects by reason: as the study recorded them, or else from the table itself."""
    counts = data.get("rejects")
    if counts is None and "reason" in rejects.columns:
        counts = rejects["reason"].value_counts().to_dict()
    return sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))


def _progress(results: pd.DataFrame) -> dict[str, Any]:
    """Return how many trials are in which state."""
    states = {str(name): int(number) for name, number in results["status"].value_counts().items()}
    done = states.pop("done", 0)
    rest = ", ".join(f"{number} {name}" for name, number in sorted(states.items()))
    return {
        "done": done,
        "total": len(results),
        "text": f"{done} of {count(len(results), 'trial')} done" + (f", {rest}" if rest else ""),
    }
