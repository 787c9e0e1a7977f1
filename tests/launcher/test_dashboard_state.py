"""The dashboard tells what the tables say at every stage of a study, and reads no more than it must."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from launcher import ray_file, report, results
from launcher.dashboard_answer import Answers
from launcher.dashboard_state import StudyView
from tests.launcher import report_tables
from tests.launcher.studies import ONE_ATTEMPT, checkpoint, finished, locked, put, study, write_study

OPEN = {**ONE_ATTEMPT, "open": True}
MADE = study("reduction=sum,mean", "seed=1")
ONE, OTHER = (trial.trial_id for trial in MADE.trials())


def view(folder: Path) -> StudyView:
    return StudyView(folder, rest_seconds=0)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return write_study(tmp_path / "out", MADE)


def test_a_running_study_tells_who_runs_it_and_how_far_each_trial_is(out: Path) -> None:
    with locked(out / ".lock"):
        put(out, ONE, attempts=OPEN, progress={"update": 33, "updates": 297, "wer": float("inf")})
        found = view(out).state()
    assert (found["phase"], found["counts"]) == ("running", {"running": 1, "pending": 1})
    assert found["note"] == "Run by process 7 on ward."
    assert found["trials"][0] == {
        "trial_id": ONE, "variant": "reduction=sum", "seed": 1, "status": "running", "update": 33, "updates": 297, "wer": None,
    }  # fmt: skip
    assert found["answer"]["headline"].startswith("No trial has finished yet")


def test_an_interrupted_study_tells_where_its_trials_would_go_on(out: Path) -> None:
    checkpoint(put(out, ONE, attempts=ONE_ATTEMPT), 40, 99)
    found = view(out).state()
    assert found["phase"] == "stopped"
    assert [(row["status"], row.get("update")) for row in found["trials"]] == [("interrupted", 40), ("pending", None)]


def test_a_damaged_study_is_told_and_not_an_error(out: Path) -> None:
    (out / "study.json").write_text("{")
    found = view(out).state()
    assert found["phase"] == "waiting"
    assert "study.json cannot be read" in found["note"]


def test_the_answer_is_that_of_the_report_and_the_curves_are_there(tmp_path: Path) -> None:
    tables = report_tables.study_tables()
    tables.results["repeat"] = 0
    out = report_tables.write_study(tables, tmp_path / "out")
    answers = Answers(out)
    shown = StudyView(out, rest_seconds=0, answers=answers)
    assert "being composed" in shown.state()["answer"]["headline"]
    answers.wait()
    found = shown.state()
    assert found["answer"]["headline"] == report.content(results.load(out))["answer"].headline
    assert (found["phase"], found["counts"], found["answer"]["stale"]) == ("ended", {"done": 7, "failed": 1}, False)
    assert [figure["id"] for figure in shown.curves()][:2] == ["curve-eval_wer", "curve-eval_nll_per_label"]
    worst = shown.trial(tables.results["trial_id"][0])
    assert worst is not None
    errors = [row["errors"] for row in worst["utterances"]]
    assert len(errors) == 20
    assert errors == sorted(errors, reverse=True)


def test_an_answer_that_fails_is_told_tried_again_and_rests_in_proportion_to_its_cost() -> None:
    time, made = [0.0], []

    def compose(folder: Path) -> dict[str, Any]:
        time[0] += 3
        made.append(folder)
        if len(made) == 1:
            raise RuntimeError("torn table")
        return {"headline": f"answer {len(made)}", "cautions": []}

    answers = Answers(Path("x"), compose, lambda: time[0])
    for moment, headline in ((0, "RuntimeError: torn table"), (60, "RuntimeError: torn table"), (64, "answer 2")):
        time[0] = max(time[0], moment)
        answers.current(1)
        answers.wait()
        assert headline in answers.current(1)["headline"]
    assert len(made) == 2
    assert answers.current(2) == {"headline": "answer 2", "cautions": [], "stale": True}
    assert len(made) == 2


def test_a_folder_is_read_once_however_many_look(out: Path) -> None:
    time = [0.0]
    shown = StudyView(out, rest_seconds=1, clock=lambda: time[0])
    assert shown.summary()["counts"] == {"pending": 2}
    put(out, ONE, attempts=ONE_ATTEMPT, result=finished())
    assert shown.summary()["counts"] == {"pending": 2}
    time[0] = 1.0
    assert shown.summary()["counts"] == {"done": 1, "pending": 1}


def test_looking_writes_nothing(out: Path) -> None:
    checkpoint(put(out, ONE, attempts=OPEN, result=finished()), 9, 297)
    before = sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*"))
    shown = view(out)
    shown.state(), shown.curves(), shown.trial(ONE)
    assert sorted((path, path.stat().st_mtime_ns) for path in out.rglob("*")) == before


def test_the_link_to_ray_is_there_while_trials_are_scheduled_and_leads_nowhere_else(out: Path) -> None:
    shown = view(out)
    with locked(out / ".lock"):
        with ray_file.told(out, "127.0.0.1:8265"):
            assert shown.state()["ray"] == {"url": "http://127.0.0.1:8265", "host": os.uname().nodename, "here": True}
        assert shown.state()["ray"] is None
        for content in (
            {"url": "javascript:alert(1)", "host": "x"},
            {"url": "http://a:1/?x", "host": "x"},
            {"url": 3},
            [],
        ):
            results.write_json(out / "ray.json", content)
            assert shown.state()["ray"] is None
        results.write_json(out / "ray.json", {"url": "http://127.0.0.1:8265", "host": "elsewhere"})
        assert shown.state()["ray"]["here"] is False
    assert shown.state()["ray"] is None  # a launch that was killed left it


def test_a_ray_without_a_dashboard_leaves_no_file(out: Path) -> None:
    with ray_file.told(out, ""):
        assert not (out / "ray.json").exists()
