from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import small_rows, write_manifest
from rich.console import Console

from launcher import disk_estimate, live, planning, results
from launcher.disk_estimate import Disk, Sizes
from launcher.estimate import Spread, Time
from launcher.planning import Asked, Estimate
from launcher.start import Placing
from tests.launcher.studies import ONE_ATTEMPT, checkpoint, finished, locked, put, study

ROOT = Path(__file__).resolve().parents[2]
NOW = datetime(2026, 1, 1, 12, 0, tzinfo=timezone.utc)
MADE = study("reduction=sum,mean", "seed=1,2")
ONE, TWO, THREE, FOUR = (trial.trial_id for trial in MADE.trials())
OPEN = {**ONE_ATTEMPT, "open": True}
PLACING = Placing(
    address=None,
    workers=1,
    backend="tune",
    max_concurrent=1,
    gpus_per_worker="1",
    cpus_per_worker="1",
    fail_fast=False,
    early_stopping=False,
)


@dataclass(frozen=True)
class Data:
    """As much of prepared data as a plan looks at: 258 utterances to train on, in updates of 8."""

    path: str = "store"
    fingerprint: str = "fingerprint"
    notes: tuple[str, ...] = ()
    weights: dict[str, str] = field(default_factory=dict)
    description: dict[str, Any] = field(
        default_factory=lambda: {
            "counts": [{"split": "train", "utterances": 200}, {"split": "train", "utterances": 58}]
        }
    )


def planned(out: Path, capsys: pytest.CaptureFixture[str], **asked: Any) -> tuple[str, str]:
    console = Console(stderr=True, width=1000)
    planning.execute(MADE, MADE.trials(), Data(), out, Asked(PLACING, **asked), console)
    captured = capsys.readouterr()
    return captured.out, captured.err


def content(out: Path, capsys: pytest.CaptureFixture[str], **asked: Any) -> dict[str, Any]:
    return json.loads(planned(out, capsys, as_json=True, **asked)[0])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """One trial done, one failed, one stopped behind a checkpoint, one never begun."""
    put(tmp_path, ONE, attempts=ONE_ATTEMPT, result=finished(30.0))
    put(tmp_path, TWO, attempts=ONE_ATTEMPT, failure={"error": "ValueError: no\nbecause of that"})
    checkpoint(put(tmp_path, THREE, attempts=ONE_ATTEMPT), 99, 297)
    return tmp_path


def test_each_trial_says_what_is_done_of_it_and_what_would_be(out: Path, capsys) -> None:
    text, _ = planned(out, capsys)
    assert [line.partition("[")[2].rstrip("]") for line in text.splitlines()] == [
        "done", "failed: ValueError: no; not run (--retry-failed)", "interrupted at update 99 of 297", "pending",
    ]  # fmt: skip
    again, _ = planned(out, capsys, retry_failed=True)
    assert again.splitlines()[1].endswith("[failed: ValueError: no; runs again]")


def test_json_carries_all_of_it(out: Path, capsys) -> None:
    told = content(out, capsys)
    trials = told["trials"]
    assert [trial["number"] for trial in trials] == [0, 1, 2, 3]
    assert [trial["will_run"] for trial in trials] == [False, False, True, True]
    assert [trial["update"] for trial in trials] == [297, 0, 99, 0]
    assert [trial["updates"] for trial in trials] == [297] * 4
    assert trials[1]["error"] == "ValueError: no\nbecause of that"
    found = told["estimate"]
    assert found["trials"] == 2
    # 30 s for each whole trial, two thirds of one and all of the other; a second of start-up is assumed for each.
    assert found["seconds"] == pytest.approx(20 + 30 + 2)
    assert found["seconds_low"] == found["seconds_high"] == found["seconds"]
    assert (found["concurrent"], found["source"]) == (1, "1 finished trials")
    assert found["disk"]["fits"] is True


def test_fresh_and_retry_failed_are_part_of_the_plan(out: Path, capsys) -> None:
    assert content(out, capsys, retry_failed=True)["estimate"]["trials"] == 3
    everything = content(out, capsys, fresh=True)["estimate"]
    assert everything["trials"] == 4
    assert everything["seconds"] == pytest.approx(4 * 31)


def test_pruned_trials_go_on_only_where_nothing_is_pruned_any_more() -> None:
    row = {"status": "pruned"}
    assert planning.will_run(row, Asked(PLACING))
    assert not planning.will_run(row, Asked(dataclasses.replace(PLACING, early_stopping=True)))


def test_without_a_finished_trial_no_time_is_invented(tmp_path: Path, capsys) -> None:
    _, told = planned(tmp_path, capsys)
    assert "4 trials: 4 pending; 4 to run" in told
    assert "time left: not known, no trial is done; --plan --probe" in told
    found = content(tmp_path, capsys)["estimate"]
    assert found["seconds"] is None
    assert found["trials_of_unknown_time"] == 4


def test_a_plan_of_a_running_study_says_who_runs_it_and_where_each_trial_is(out: Path, capsys) -> None:
    with locked(out / live.LOCK):
        put(out, FOUR, attempts=OPEN, progress={"update": 33, "updates": 297})
        text, told = planned(out, capsys)
    assert text.splitlines()[3].endswith("[running, update 33 of 297]")
    assert "process 7 on ward runs this study now" in told


def test_a_plan_writes_nothing(out: Path, capsys) -> None:
    before = sorted(out.rglob("*"))
    planned(out, capsys)
    assert sorted(out.rglob("*")) == before


def test_what_does_not_fit_on_the_disk_is_warned_of(out: Path, capsys, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk_estimate.shutil, "disk_usage", lambda path: SimpleNamespace(free=9))
    _, told = planned(out, capsys)
    assert "Warning: that is more than the 9 B that are free" in told
    assert content(out, capsys)["estimate"]["disk"]["fits"] is False


def test_the_disk_holds_the_checkpoints_of_those_that_run_and_the_models_of_all(tmp_path: Path) -> None:
    cells = [trial.configuration.as_dict() for trial in MADE.trials()]
    sizes = Sizes(checkpoint_bytes=300, model_bytes=100, tables_bytes=7)
    found = disk_estimate.need(tmp_path / "not" / "there", cells, sizes, concurrent=2)
    assert found.running_bytes == 2 * 2 * 300  # the next checkpoint is written before the last one is dropped
    assert found.kept_bytes == 4 * (100 + 7)
    kept = [trial.configuration.as_dict() for trial in study("save_total_limit=3", "save_model=False").trials()]
    found = disk_estimate.need(tmp_path, kept, sizes, concurrent=1)
    assert (found.running_bytes, found.kept_bytes) == (4 * 300, len(kept) * 7)


def test_sizes_are_those_of_the_folders(out: Path) -> None:
    rows = {name: live.outcome(results.trial_folder(out, name), live.Holder(False)) for name in (ONE, TWO, THREE, FOUR)}
    (results.trial_folder(out, ONE) / "model").mkdir()
    (results.trial_folder(out, ONE) / "model" / "model.safetensors").write_bytes(b"\0" * 5000)
    found = disk_estimate.measured(out, MADE.trials(), rows)
    assert found.model_bytes == 5000
    files = [path for path in results.trial_folder(out, ONE).iterdir() if path.is_file()]
    assert found.tables_bytes == 2 * sum(path.stat().st_size for path in files)
    seal = next(results.trial_folder(out, THREE).rglob("sealed.json"))
    assert found.checkpoint_bytes == sum(path.stat().st_size for path in seal.parent.iterdir())
    rows[THREE] = {"status": "pending"}
    assert disk_estimate.measured(out, MADE.trials(), rows).checkpoint_bytes == 3 * 5000


def test_the_time_is_told_with_its_range_its_end_and_what_it_comes_from() -> None:
    time = Time(Spread(600.0, 720.0, 840.0), unknown=1, start_up_seconds=8.0, start_up_measured=True)
    found = Estimate(6, "4 finished trials", time, Disk(2e9, 3e9, 10**10), 2, "2 CPU cores here")
    text = "\n".join(planning.summary([{"status": "pending"}] * 6, found, NOW))
    assert "about 12 min (10 min to 14 min), until 12:12 if begun now, 2 at a time (2 CPU cores here)" in text
    assert "from 4 finished trials, with 8 s of start-up each; 1 trials of a model not measured yet" in text
    assert "checkpoints while running: 2 GB, what stays: 3 GB; free: 10 GB" in text


@pytest.mark.slow
def test_a_probe_tells_what_trials_will_take_and_leaves_nothing_behind(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", small_rows(tmp_path))
    command = [sys.executable, str(ROOT / "launch.py"), "--grid", "losses", "--data", str(manifest)]
    words = ["--out", str(tmp_path / "o"), "--plan", "--probe", "--json", "--max-concurrent", "1"]
    done = subprocess.run([*command, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)["estimate"]
    probe = found["probe"]
    assert (probe["train_utterances"], probe["updates_per_epoch"], len(probe["update_seconds"])) == (12, 2, 2)
    assert probe["checkpoint_bytes"] > probe["model_bytes"] > 0
    assert found["seconds_low"] <= found["seconds"] <= found["seconds_high"]
    assert found["seconds"] > 8 * 18 * min(probe["update_seconds"])  # 8 trials of 9 epochs of 2 updates
    assert found["disk"]["running_bytes"] == 2 * probe["checkpoint_bytes"]
    assert [path.name for path in (tmp_path / "o").iterdir()] == ["stores"]


def test_a_probe_without_a_plan_is_refused() -> None:
    done = subprocess.run([sys.executable, str(ROOT / "launch.py"), "--grid", "losses", "--probe"], capture_output=True,
                          text=True, cwd=ROOT)  # fmt: skip
    assert done.returncode == 2
    assert "--probe belongs to --plan" in done.stderr


def test_what_another_model_took_tells_no_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = study("reduction=sum", "seed=1", "model_type=tiny,multitask")
    first, _ = made.trials()
    put(tmp_path, first.trial_id, attempts=ONE_ATTEMPT, result=finished(30.0))
    for as_json in (False, True):
        console = Console(stderr=True, width=1000)
        planning.execute(made, made.trials(), Data(), tmp_path, Asked(PLACING, as_json=as_json), console)
    captured = capsys.readouterr()
    assert "time left: not known, 1 finished trials have another model; --plan --probe tries one" in captured.err
    found = json.loads(captured.out[captured.out.index("{\n") :])["estimate"]
    assert (found["seconds"], found["trials_of_unknown_time"]) == (None, 1)


def test_trials_of_which_only_the_last_attempt_was_timed_tell_no_time(tmp_path: Path, capsys) -> None:
    put(tmp_path, ONE, attempts=ONE_ATTEMPT, result={**finished(1.0), "resumed": True})
    _, told = planned(tmp_path, capsys)
    assert "time left: not known, those that are done were interrupted on the way" in told


def test_of_two_sizes_the_larger_counts_and_what_is_not_known_hides_nothing() -> None:
    assert disk_estimate.larger(Sizes(1, None, 3), Sizes(2, 5)) == Sizes(2, 5, 3)
