"""Write the report of a study: one HTML file that opens in a browser, offline, with nothing beside it.

The page is a pure function of the tables: the same tables give the same bytes. It is complete at every
stage of a study; where there is no answer yet, it says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Protocol

import pandas as pd

from launcher import pages, sections
from launcher.answer import Answer, answer, count
from launcher.noise import noise_floor
from launcher.share_sections import AuditSection, audit_section
from launcher.share_stats import only_measured
from launcher.stats import (
    first_runs,
    of_first_runs,
    paired_to_baseline,
    pick_baseline,
    summary_by_variant,
    with_columns,
)

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
    def utterances(self) -> pd.DataFrame:
        """One row per trial, phase and evaluated utterance."""
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


def write(tables: StudyTables, path: Path) -> Path:
    """Write the report, whole or not at all.

    Args:
        tables: the study and its tables; any of them may be empty.
        path: the HTML file to write; missing folders are made, an existing file is replaced.

    Returns:
        The path written.
    """
    return pages.write(render(tables), path)


def render(tables: StudyTables) -> str:
    """Return the report as HTML."""
    return pages.render("report.html.j2", content(tables))


def content(tables: StudyTables) -> dict[str, Any]:
    """Return what the template shows: text, `sections.Table`s and `sections.Figure`s."""
    study = tables.study
    results = with_columns(tables.results, _RESULT_COLUMNS)
    compared = first_runs(results)
    baseline, baseline_problem = _baseline(compared, study)
    noise = noise_floor(results, tables.utterances)
    summary = summary_by_variant(compared, "wer")
    paired = paired_to_baseline(compared, tables.utterances, baseline)
    found = answer(compared, summary, paired, baseline, noise)
    groups = list(study.get("groups") or [])
    data = study.get("data") or {}
    audit = _audit(tables, compared, groups)
    if only_measured(compared) and len(tables.shares):
        found = Answer(audit.sentence, found.best)  # that is what was asked
    return {
        "title": study.get("study") or "unnamed study",
        "question": study.get("question"),
        "command": study.get("command") or "The command was not recorded.",
        "answer": found,
        "warnings": [*baseline_problem, *_mixed(results, data)],
        "facts": _facts(study, data),
        "counts": sections.counts_table(data),
        "reject_reasons": _reject_reasons(data, tables.rejects),
        "environment": sorted((study.get("environment") or {}).items()),
        "progress": _progress(results),
        "main": sections.main_table(compared, paired, baseline, noise),
        "noise": noise and (noise.sentence(), sections.noise_table(results, noise)),
        "strip": sections.strip_figure(compared),
        "audit": audit,
        "groups": [sections.group_section(compared, tables.utterances, name) for name in groups],
        "curves": sections.curve_figures(tables.history, compared),
        "trials": sections.trials_table(results),
        "worst": sections.worst_table(compared, tables.utterances, found.best, groups),
        "rejects": sections.rejects_table(tables.rejects),
        "fingerprint": data.get("fingerprint"),
    }


def _audit(tables: StudyTables, results: pd.DataFrame, groups: list[str]) -> AuditSection:
    """Compose what the audits found; the losses are those of the audited utterances, or else of the evaluated ones."""
    losses = tables.utterances if tables.audit.empty else tables.audit
    losses, shares, exact = (of_first_runs(frame, tables.results) for frame in (losses, tables.shares, tables.exact))
    axes, baseline = list(tables.study.get("axes") or {}), tables.study.get("baseline")
    return audit_section(shares, exact, losses, results, groups, axes=axes, baseline=baseline)


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
    axes, versions = study.get("axes") or {}, study.get("environment") or {}
    return [
        ("Data", str(data.get("source") or "not recorded")),
        ("Fingerprint of the data", str(data.get("fingerprint") or "not recorded")),
        ("Utterances", f"{data['utterances']:,}" if "utterances" in data else "not recorded"),
        ("Speech", f"{data['hours']:.2f} hours" if "hours" in data else "not recorded"),
        *((f"Axis: {name}", ", ".join(map(str, values))) for name, values in axes.items()),
        ("Baseline", str(study.get("baseline") or "the first variant")),
        ("Versions", ", ".join(f"{name} {value}" for name, value in versions.items()) or "not recorded"),
        ("Created", str(study.get("created") or "not recorded")),
    ]


def _reject_reasons(data: dict[str, Any], rejects: pd.DataFrame) -> list[tuple[Any, int]]:
    """Count rejects by reason: as the study recorded them, or else from the table itself."""
    counts = data.get("rejects")
    if counts is None and "reason" in rejects.columns:
        counts = rejects["reason"].value_counts().to_dict()
    return sorted((counts or {}).items(), key=lambda item: (-item[1], item[0]))


def _progress(results: pd.DataFrame) -> dict[str, Any]:
    """Return how many trials are in which state, and the errors of those that failed."""
    states = {str(name): int(number) for name, number in results["status"].value_counts().items()}
    done = states.pop("done", 0)
    failed = results[results["status"] == "failed"]
    rest = ", ".join(f"{number} {name}" for name, number in sorted(states.items()))
    return {
        "done": done,
        "total": len(results),
        "text": f"{done} of {count(len(results), 'trial')} done" + (f", {rest}" if rest else ""),
        "failures": [(row.trial_id, sections.text(row.error).text) for row in failed.itertuples()],
    }
