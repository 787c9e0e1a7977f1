"""The report says what the tables say, at every stage of a study, in a file that needs nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from plotly.offline import get_plotlyjs

from launcher import report
from launcher.answer import points
from launcher.reading import ResultsError
from tests.launcher.report_tables import EMPTY, Tables, study_tables

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NUM_FIGURES = 10  # seeds, two groups, three curves, two of gradients, padding, speed
HOSTILE = "</script><img src=x onerror=alert(1)>"


def page(tables: Tables) -> str:
    """Return the report without the inlined library."""
    return report.render(tables).replace(get_plotlyjs(), "")


def headline(tables: Tables) -> str:
    return report.content(tables)["answer"].headline


def with_results(tables: Tables, **columns: Any) -> Tables:
    return replace(tables, results=tables.results.assign(**columns))


def only_seed(tables: Tables, seed: int) -> Tables:
    return replace(tables, results=tables.results[tables.results["seed"] == seed])


def test_the_answer_names_the_best_variant_its_difference_and_what_it_does_not_show() -> None:
    tables = study_tables()
    wer = tables.results.groupby("variant")["wer"].mean() * 100
    difference = wer["reduction=sqrt_length"] - wer["reduction=mean"]
    assert headline(tables).startswith(
        f"Lowest WER: reduction=sqrt_length, {wer.min():.1f} % (mean of 2 seeds); difference to the baseline "
        f"reduction=mean: {points(difference / 100)} points ["
    )
    assert headline(tables).endswith("with 2 seeds this cannot be claimed to generalise.")


def test_the_answer_says_that_early_stopping_took_trials_away() -> None:
    tables = study_tables()
    assert not [told for told in report.content(tables)["answer"].cautions if "pruned" in told]
    behind = tables.results["trial_id"] == tables.results["trial_id"].iloc[0]
    variant = tables.results["variant"].iloc[0]
    tables = with_results(tables, status=tables.results["status"].mask(behind, "pruned"))
    first, *_ = report.content(tables)["answer"].cautions
    assert first.startswith(f"Early stopping pruned 1 trial: {variant} (1 of 2). ")
    assert first.endswith("without --early-stopping the same command trains the others to the end.")


def test_when_the_baseline_is_best_the_answer_compares_the_next() -> None:
    tables = study_tables()
    tables = replace(tables, study={**tables.study, "baseline": "reduction=sqrt_length"})
    assert "the baseline reduction=sqrt_length" in headline(tables)
    assert re.search(r"difference of the next, reduction=sum, to it: \+\d+\.\d points \[", headline(tables))


def test_enough_seeds_and_speakers_carry_no_caution_in_the_answer() -> None:
    assert "cannot be claimed" not in headline(study_tables(num_seeds=5))


def test_an_unfinished_study_says_so_far() -> None:
    tables = study_tables()
    status = tables.results["status"].replace("failed", "running")
    assert headline(with_results(tables, status=status)).startswith("So far, with 1 trial still to finish: lowest WER")


def test_the_report_has_every_section_with_the_numbers() -> None:
    tables = study_tables()
    html = page(tables)
    sections = (
        "run progress variants groups audit curves gradient utterances trouble price all-trials rejected reproduce"
    ).split()
    places = [html.index(f'<section id="{name}">') for name in sections]
    assert places == sorted(places)
    assert "7 of 8 trials done, 1 failed" in html
    assert html.count("python launch.py --grid losses --set seed=1,2") == 2
    assert "too_short: 2, unreadable: 1" in html
    assert all(trial in html for trial in tables.results["trial_id"])
    assert html.count('<div class="plot"') == NUM_FIGURES


def test_the_worst_utterances_are_of_the_best_variant_and_listed_once() -> None:
    tables = study_tables()
    worst = report.content(tables)["worst"]
    assert "reduction=sqrt_length" in worst.caption
    assert len({row[-1].text for row in worst.rows}) == len(worst.rows) == 20
    errors = [row[0].value for row in worst.rows]
    assert errors == sorted(errors, reverse=True)


def test_text_from_the_data_is_escaped_everywhere() -> None:
    tables = study_tables()
    hostile = Tables(
        {**tables.study, "study": HOSTILE, "question": HOSTILE, "command": HOSTILE, "baseline": HOSTILE},
        tables.results.assign(error=HOSTILE, variant=tables.results["variant"] + HOSTILE),
        tables.utterances.assign(reference=HOSTILE, hypothesis=HOSTILE, group=HOSTILE),
        tables.history,
        tables.rejects.assign(detail=HOSTILE),
    )
    assert "<img" not in page(hostile)


def test_the_file_asks_for_nothing_outside_itself() -> None:
    html = page(study_tables())
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?:https?:)?//|@import|url\(""", html)
    assert "default-src 'none'" in html
    assert report.render(study_tables()).count(get_plotlyjs()) == 1


def test_the_same_tables_give_the_same_bytes() -> None:
    assert report.render(study_tables()) == report.render(study_tables())


FULL = study_tables()
STAGES = {
    "no tables at all": (Tables({}, EMPTY, EMPTY, EMPTY, EMPTY), "There is no trial in this study yet"),
    "nothing has run": (
        replace(with_results(FULL, status="pending", wer=None, cer=None), utterances=EMPTY, history=EMPTY),
        "No trial has finished (8 pending)",
    ),
    "all failed": (with_results(FULL, status="failed", wer=np.nan), "No trial has finished (8 failed)"),
    "one seed": (only_seed(FULL, 1), "(one seed)"),
    "one group": (replace(FULL, utterances=FULL.utterances.assign(group="word")), "There is one class only"),
    "no utterances": (replace(FULL, utterances=EMPTY), "there is nothing to pair"),
    "no utterance rows": (replace(FULL, utterances=FULL.utterances.iloc[:0]), "No finished trial has scored"),
    "metrics are not numbers": (with_results(FULL, wer=np.nan, cer=np.inf), "none has a word error rate"),
    "no reference words": (
        replace(FULL, utterances=FULL.utterances.assign(substitutions=0, deletions=0, hits=0, chars=0)),
        "No class has reference words",
    ),
    "one variant": (
        replace(FULL, results=FULL.results[FULL.results["variant"] == "reduction=mean"]),
        "no other variant has a WER",
    ),
    "unknown baseline": (
        replace(FULL, study={**FULL.study, "baseline": "reduction=none"}),
        "is not a variant of this study",
    ),
    "baseline that names nothing": (
        replace(FULL, study={**FULL.study, "baseline": None, "baseline_wanted": "zzz"}),
        "The baseline &#39;zzz&#39; is not a variant of this study; compared with &#39;reduction=mean&#39; instead.",
    ),
    "missing group column": (replace(FULL, study={**FULL.study, "groups": ["l1"]}), "has no column"),
    "mixed data": (
        with_results(FULL, data_fingerprint=["ab12cd34", *["ffff0000"] * 7]),
        "The trials were run on different data",
    ),
    "no history": (replace(FULL, history=EMPTY), "No update has been logged yet"),
    "no rejects": (replace(FULL, rejects=EMPTY), "Every utterance of the data could be used"),
}


def test_a_baseline_that_was_found_or_never_asked_for_is_no_warning() -> None:
    for recorded in (
        {"baseline": "reduction=sum", "baseline_wanted": "sum"},
        {"baseline": None, "baseline_wanted": None},
        {"baseline": None},
    ):
        assert report.content(replace(FULL, study={**FULL.study, **recorded}))["warnings"] == []


@pytest.mark.parametrize("stage", STAGES)
def test_every_stage_of_a_study_gives_a_report_that_says_so(stage: str) -> None:
    tables, sentence = STAGES[stage]
    html = page(tables)
    assert sentence in html
    assert not re.search(r">\s*(?:nan|inf|None|NaT) ?%?<", html)


def test_an_evaluation_in_progress_does_not_stop_a_report() -> None:
    status = ["done", "running", "interrupted", "pruned", "pending", "failed", "done", "failed"]
    html = page(with_results(FULL, status=status))
    assert "2 of 8 trials done, 2 failed, 1 interrupted, 1 pending, 1 pruned, 1 running" in html


def test_writing_replaces_the_file_whole_and_leaves_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "new" / "report.html"
    for _ in range(2):
        assert report.write(FULL, path) == path
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]
    assert path.read_text(encoding="utf-8") == report.render(FULL)


def test_a_report_that_cannot_be_put_in_place_leaves_no_remains(tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    (target / "occupied").mkdir(parents=True)
    with pytest.raises(ResultsError, match=r"cannot write .*report\.html \(Is a directory\)"):
        report.write(FULL, target)
    assert [file.name for file in tmp_path.iterdir()] == ["report.html"]


def browse(path: Path, profile: Path, window: str = "1280,900", *, draw: bool = False) -> tuple[str, str]:
    """Open a page in headless Chromium; return the document after scripts ran, and what was logged.

    Args:
        path: the page.
        profile: folder for Chromium's own files.
        window: its size in pixels.
        draw: every figure, as for print, however long this machine takes for the frame that would tell which are near.
    """
    assert CHROMIUM is not None
    if draw:
        script = "<script>dispatchEvent(new Event('beforeprint'));</script></body>"
        path.write_text(path.read_text(encoding="utf-8").replace("</body>", script), encoding="utf-8")
    quiet = [
        "--no-sandbox",
        "--disable-gpu",
        "--disable-quic",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    watch = ["--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000", "--dump-dom"]
    command = [
        CHROMIUM,
        "--headless",
        *quiet,
        *watch,
        f"--window-size={window}",
        f"--user-data-dir={profile}",
        path.as_uri(),
    ]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    return ran.stdout, ran.stderr


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
@pytest.mark.parametrize("stage", ["full", "no tables at all"])
def test_a_browser_draws_the_figures_and_has_nothing_to_complain_about(tmp_path: Path, stage: str) -> None:
    tables = FULL if stage == "full" else STAGES[stage][0]
    document, log = browse(report.write(tables, tmp_path / "report.html"), tmp_path / "profile", draw=True)
    # An outside request would be one of these too: the page's own policy forbids it.
    assert not [line for line in log.splitlines() if "CONSOLE" in line]
    assert drawn(document) == [True] * (NUM_FIGURES if stage == "full" else 0)


def drawn(document: str) -> list[bool]:
    """Tell of each figure whether it has been drawn."""
    figures = re.findall(r'<div class="plot[^>]*>(.*?)</figure>', document, flags=re.DOTALL)
    return ['<svg class="main-svg"' in figure for figure in figures]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
def test_a_click_on_a_heading_sorts_the_table_and_keeps_what_is_missing_last(tmp_path: Path) -> None:
    path = report.write(FULL, tmp_path / "report.html")
    click = (
        "[...document.querySelectorAll('#trials th button')].find(one => one.textContent.startsWith('WER')).click();"
    )
    path.write_text(path.read_text().replace("</body>", f"<script>{click * 2}</script></body>"))
    document, _ = browse(path, tmp_path / "profile")
    table = document[document.index('<table id="trials">') :]
    shown = re.findall(r"<tr>\s*<td>([^<]+)</td>", table[: table.index("</table>")])
    worst_first = FULL.results.sort_values("wer", ascending=False, na_position="last")
    assert shown == list(worst_first["trial_id"])
    assert 'aria-sort="descending"' in table


def test_counts_that_were_not_recorded_are_said_to_be_missing() -> None:
    html = page(replace(FULL, study={**FULL.study, "data": {}}))
    assert "Counts were not recorded." in html
    assert pd.notna(html.index("too_short: 2, unreadable: 1"))  # counted from the table of rejects instead
