"""A report reads large tables part by part, puts large numbers beside the page, and holds speech only when asked to."""

from __future__ import annotations

import base64
import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile
from click.testing import CliRunner
from conftest import small_rows, write_manifest

from launcher import clips, report, results, sections
from launcher.cli import cli
from launcher.config_values import ConfigurationError
from launcher.sections import BESIDE, LARGEST_INLINE, Cell, Numbers, Table
from launcher.utterance_files import open_study, parts, whole
from launcher.worst import worst_rows
from tests.launcher.report_tables import study_tables, write_study
from tests.launcher.test_report import CHROMIUM, browse, page
from trainables.corpora import commands
from trainables.corpora.store import Store

FULL = study_tables()
needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs chromium (Debian: apt-get install chromium)")
WITH_REPEAT = replace(FULL, results=FULL.results.assign(repeat=0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_study(WITH_REPEAT, tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("corpus")
    commands.prepare("manifest", write_manifest(place / "manifest.csv", small_rows(place)), place / "store")
    return place / "store"


def test_a_report_from_files_says_what_one_from_frames_says(folder: Path) -> None:
    assert page(open_study(folder)) == page(results.load(folder))  # type: ignore[arg-type]


def test_parts_are_the_rows_that_were_asked_for(folder: Path) -> None:
    files, frame = open_study(folder).utterances, results.load(folder).utterances
    trial = frame["trial_id"].iloc[0]
    ours = whole(files, ["utt_id", "hits", "no such column"], {trial}, "final")
    theirs = whole(frame, ["utt_id", "hits", "no such column"], {trial}, "final")
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)
    assert len(ours) == 80
    assert sum(map(len, parts(files, ["hits"]))) == len(frame) == files.rows


def test_the_worst_of_all_parts_are_the_worst_of_the_whole(folder: Path) -> None:
    tables = open_study(folder)
    found = worst_rows(tables.results, tables.utterances, "reduction=sum", ["group"])
    rows = FULL.utterances[(FULL.utterances["phase"] == "final") & FULL.utterances["trial_id"].str.startswith("sum-")]
    errors = rows[["substitutions", "deletions", "insertions"]].sum(axis=1).groupby(rows["utt_id"]).max()
    assert list(found["errors"]) == sorted(errors, reverse=True)[:20]
    assert errors[found["utt_id"]].tolist() == list(found["errors"])


def test_numbers_too_large_for_the_page_lie_in_a_file_beside_it(tmp_path: Path) -> None:
    named = [f"reduction={'x' * 200}{k}" for k in range(len(FULL.results))]
    tables = replace(FULL, results=FULL.results.assign(variant=named, status="done"))
    html = report.write(tables, tmp_path / "report.html").read_text(encoding="utf-8")
    linked = re.findall(rf'href="({BESIDE}/[^"]+)"', html)
    assert f"{BESIDE}/grad_norm_over_updates.csv" in linked
    assert sorted(f"{BESIDE}/{file.name}" for file in (tmp_path / BESIDE).iterdir()) == sorted(linked)
    assert all((tmp_path / name).stat().st_size > LARGEST_INLINE for name in linked)


def test_small_numbers_are_in_the_page_and_are_those_of_the_figure() -> None:
    strip = report.content(FULL)["strip"]
    data = base64.b64decode(strip.numbers.link.split(",")[1])
    assert not strip.numbers.beside
    assert pd.read_csv(io.BytesIO(data))["wer"].to_numpy() == pytest.approx(FULL.results["wer"].dropna().to_numpy())


def test_a_table_too_long_to_read_shows_its_beginning_and_links_to_all() -> None:
    rows = tuple((Cell(f"row {k}"), Cell(f"{k:,}", k, True)) for k in range(sections.MOST_ROWS + 1))
    table = Table("long", "Many", ("name", "place"), rows)
    assert len(table.shown) == sections.MOST_ROWS
    assert table.linked
    assert len(pd.read_csv(io.StringIO(table.numbers.csv))) == sections.MOST_ROWS + 1


def test_cells_with_commas_and_missing_numbers_come_back_from_the_csv() -> None:
    rows = ((Cell('a, "b"\nc'), Cell("1,000", 1000.0, True)), (Cell("d"), Cell("–", None, True)))
    back = pd.read_csv(io.StringIO(Table("t", "T", ("text", "number"), rows).numbers.csv))
    assert back["text"].tolist() == ['a, "b"\nc', "d"]
    assert back["number"].tolist()[0] == 1000.0
    assert np.isnan(back["number"].tolist()[1])


def test_a_link_is_beside_only_past_the_limit() -> None:
    assert not Numbers("a.csv", "x" * LARGEST_INLINE).beside
    assert Numbers("a.csv", "x" * (LARGEST_INLINE + 1)).link == f"{BESIDE}/a.csv"


def test_a_clip_is_the_sound_of_the_store(store: Path) -> None:
    opened = Store.open(store)
    known = opened.columns(["utt_id", "split"])
    rows = pd.DataFrame({"utt_id": [known["utt_id"][3], "no such"], "split": [known["split"][3], "test"]})
    fingerprint = opened.description["fingerprint"]
    found = clips.from_store({"data": {"store": str(store), "fingerprint": fingerprint}}, rows)
    samples, rate = soundfile.read(io.BytesIO(base64.b64decode(found.sounds[0].split(",")[1])), dtype="int16")
    assert rate == 16_000
    assert samples.tolist() == opened.samples(3).tolist()[: int(clips.LONGEST * rate)]
    assert set(found.sounds) == {0}
    assert found.notes == ("The sound of 1 is not on this machine.",)


def test_a_store_that_is_not_here_is_a_request_that_names_it(tmp_path: Path) -> None:
    rows = pd.DataFrame({"utt_id": ["a"], "split": ["test"]})
    with pytest.raises(ConfigurationError, match=r"nowhere.*cannot be read here.*without --audio"):
        clips.from_store({"data": {"store": str(tmp_path / "nowhere")}}, rows)
    with pytest.raises(ConfigurationError, match="names no prepared store"):
        clips.from_store({}, rows)
    (tmp_path / "store.json").write_text('{"layout": 1}')
    with pytest.raises(ConfigurationError, match="layout 1"):
        clips.from_store({"data": {"store": str(tmp_path)}}, rows)


def test_speech_is_in_a_file_of_its_own_and_only_when_asked_for(tmp_path: Path, store: Path) -> None:
    known = Store.open(store).columns(["utt_id"])["utt_id"]
    named = {f"utt{k:04d}": utt_id for k, utt_id in enumerate(known)}
    utterances = FULL.utterances[FULL.utterances["utt_id"].isin(named)]
    utterances = utterances.assign(utt_id=utterances["utt_id"].map(named), split=None)
    fingerprint = Store.open(store).description["fingerprint"]
    study = {**FULL.study, "data": {**FULL.study["data"], "store": str(store), "fingerprint": fingerprint}}
    write_study(replace(WITH_REPEAT, study=study, utterances=utterances), tmp_path)
    for words, name, holds in (
        (["report"], "report.html", False),
        (["report", "--audio"], "report_with_speech.html", True),
    ):
        ran = CliRunner().invoke(cli, [*words, str(tmp_path)], catch_exceptions=False)
        assert ran.output.strip().endswith(name)
        html = (tmp_path / name).read_text(encoding="utf-8")
        assert ("<audio controls" in html) == holds
        assert ("This page holds speech" in html) == holds


def test_failures_name_their_class_and_what_was_tried() -> None:
    table = FULL.results.assign(
        status=["done", "done", "failed", "pruned", "interrupted", "done", "done", "done"],
        attempts=[1, 3, 2, 1, 1, 1, 1, 1], failure=[None, None, "diverged", *[None] * 5],
        broken_off=[None, "2 worker lost", *[None] * 6], out_of_memory=[0, 0, 0, 0, 0, 4, 0, 0],
    )  # fmt: skip
    found = report.content(replace(FULL, results=table))["failures"]
    assert found.lines == (
        "1 trial failed, 1 trial pruned, 1 trial interrupted; 2 trials begun more than once (3 further attempts); memory ran "
        "out and micro-batches were halved 4 times.",
    )
    listed = {(row[0].text, row[1].text) for row in found.tables[0].rows}
    assert listed == set(table[["trial_id", "variant"]].iloc[[1, 2, 3, 4, 5]].itertuples(index=False, name=None))


def test_device_hours_are_those_of_all_attempts_that_are_known() -> None:
    table = FULL.results.assign(
        seconds=1800.0, device_seconds=[7200.0] * 6 + [10800.0, np.nan], earlier_device_seconds=[0.0] * 6 + [3600.0, np.nan],
        untimed_attempts=[0] * 7 + [2], status="done",
    )  # fmt: skip
    found = report.content(replace(FULL, results=table))["cost"]
    assert found.lines == (
        "15.00 device hours in 7 trials, 1.00 of them in attempts before the last.",
        "A trial has the time of all its attempts, each times its workers; what 2 attempts took was not recorded and is not in it.",
        "1 trial without a recorded time.",
    )
    (hours, earlier) = (found.tables[0].head.index(name) for name in ("device hours", "of these in earlier attempts"))
    assert [row[hours].text for row in found.tables[0].rows] == ["4.000", "4.000", "4.000", "3.000"]
    assert [row[earlier].text for row in found.tables[0].rows] == ["0.000", "0.000", "0.000", "1.000"]


def test_trials_are_counted_by_the_hours_that_are_added_up_and_seconds_are_of_those_that_finished() -> None:
    """A trial that failed after an hour has cost it, and says nothing of how long a trial takes."""
    failed = FULL.results.groupby("variant").cumcount() == 1
    table = FULL.results.assign(
        seconds=1800.0, device_seconds=3600.0, earlier_device_seconds=0.0, untimed_attempts=0, status="done"
    )
    table.loc[failed, "status"] = "failed"
    table.loc[failed, "seconds"] = [np.nan, np.nan, 9.0, 9.0]
    found = report.content(replace(FULL, results=table))["cost"].tables[0]
    counted, hours, seconds = (
        found.head.index(name) for name in ("trials with a time", "device hours", "seconds of the last attempt (done)")
    )
    assert [row[counted].text for row in found.rows] == ["2"] * 4
    assert [row[hours].text for row in found.rows] == ["2.000"] * 4
    assert [row[seconds].text for row in found.rows] == ["1,800.0"] * 4


def test_a_class_without_reference_words_is_named_and_the_other_has_its_rate() -> None:
    silent = FULL.utterances["group"] == "word"
    none = {
        name: FULL.utterances[name].mask(silent, 0) for name in ("substitutions", "deletions", "hits", "insertions")
    }
    group = report.content(replace(FULL, utterances=FULL.utterances.assign(**none)))["groups"][0]
    assert group.notes == ("No reference words, and so no rate: word.",)
    assert {row[2].text == "–" for row in group.rates.rows if row[1].text == "word"} == {True}
    assert {row[2].text == "–" for row in group.rates.rows if row[1].text == "sentence"} == {False}


def test_a_column_of_very_many_classes_is_neither_drawn_nor_compared() -> None:
    tables = replace(FULL, study={**FULL.study, "groups": ["utt_id"]})
    group = report.content(tables)["groups"][0]  # the worst choice there is
    assert (group.figure, group.differences) == (None, None)
    assert len(group.rates.rows) == 320
    assert len(group.notes) == 2


@pytest.mark.browser
@needs_chromium
def test_a_request_to_the_outside_would_be_seen(tmp_path: Path) -> None:
    path = report.write(FULL, tmp_path / "report.html")
    path.write_text(
        path.read_text().replace("</body>", "<script>new Image().src='http://127.0.0.1:9/x.png'</script></body>")
    )
    _, log = browse(path, tmp_path / "profile")
    assert "CONSOLE" in log


@pytest.mark.browser
@needs_chromium
def test_the_filter_leaves_the_rows_that_have_every_word_and_says_how_many(tmp_path: Path) -> None:
    path = report.write(FULL, tmp_path / "report.html")
    words = json.dumps("S1 fox")
    script = (
        "const box = document.querySelector('[aria-controls=worst]'); "
        f"box.value = {words}; box.dispatchEvent(new Event('input'));"
    )
    path.write_text(path.read_text().replace("</body>", f"<script>{script}</script></body>"))
    document, _ = browse(path, tmp_path / "profile")
    table = document[document.index('<table id="worst">') :]
    rows = re.findall(
        r"<tr( hidden[^>]*)?>(.*?)</tr>", table[table.index("<tbody>") : table.index("</tbody>")], re.DOTALL
    )
    wanted = [not (">S1<" in row and "fox" in row) for _, row in rows]
    assert [bool(hidden) for hidden, _ in rows] == wanted
    assert f">{wanted.count(False)} of {len(rows)} rows<" in document


@pytest.mark.browser
@needs_chromium
def test_no_part_of_the_page_is_wider_than_a_phone(tmp_path: Path) -> None:
    path = report.write(FULL, tmp_path / "report.html")
    probe = (
        "<script>setTimeout(() => parent.postMessage(innerWidth + ': ' + [...document.querySelectorAll('body *')].filter(e => "
        "!e.closest('.scroll, .plot, .skip') && e.getBoundingClientRect().right > innerWidth).length, '*'), 1000)</script></body>"
    )
    path.write_text(path.read_text().replace("</body>", probe))
    # A frame, because a window of Chromium is no narrower than 500 pixels.
    frame = tmp_path / "frame.html"
    frame.write_text(
        "<script>onmessage = event => document.title = event.data</script>"
        f'<iframe src="{path.name}" style="border:0;width:390px;height:900px"></iframe>'
    )
    document, _ = browse(frame, tmp_path / "profile")
    assert "<title>390: 0</title>" in document
