"""Studies survive what happens in a week: killed processes, a full disk, trials that are given up early. Real Ray; slow."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from launches import DEADLINE_SECONDS, ROOT, STUDY, environment, start

from benchmarks import chaos
from launcher import results

pytestmark = [pytest.mark.slow, pytest.mark.ray]


@pytest.mark.parametrize(("backend", "rounds", "seeds"), [("tune", 2, "1,2"), ("train", 1, "1")])
def test_killed_processes_lose_repeat_and_change_nothing(
    data: Path, tmp_path: Path, backend: str, rounds: int, seeds: str
) -> None:
    happened = chaos.run(tmp_path, str(data), backend, rounds, seed=11, seeds=seeds)
    assert [one.faults for one in happened] == [[]] * rounds
    assert sum(len(one.killed) for one in happened) >= rounds


def run(folder: Path, data: Path, *words: str) -> tuple[int, str]:
    process = start(folder, data, *words)
    _, stderr = process.communicate(timeout=DEADLINE_SECONDS)
    return process.returncode, stderr


def test_trials_that_are_behind_are_pruned_and_can_go_on_later(data: Path, tmp_path: Path) -> None:
    words = (*STUDY, "--set", "learning_rate=0.003,1e-7", "--set", "num_train_epochs=9", "--backend", "tune")
    code, stderr = run(tmp_path / "out", data, *words, "--early-stopping", "--max-concurrent", "1")
    assert code == 0, stderr
    table = results.load(tmp_path / "out").results.set_index("learning_rate")
    assert table["status"].to_dict() == {0.003: "done", 1e-7: "pruned"}
    assert table.loc[1e-7, "updates"] < table.loc[0.003, "updates"]
    behind = table.loc[1e-7, "trial_id"]
    what = f"[2/2] {behind} (learning_rate=1e-07): pruned at update {table.loc[1e-7, 'updates']}, behind others: NLL/label "
    assert what in stderr
    assert f"pruned, as others were ahead: {behind}; the same command without --early-stopping" in stderr
    code, stderr = run(tmp_path / "out", data, *words)
    assert code == 0, stderr
    assert "2 trials: 1 done, 1 to run" in stderr
    assert list(results.load(tmp_path / "out").results["status"]) == ["done", "done"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 7 MB: the prepared data and one checkpoint of `tiny` fit, a second one beside it does not."""
    with disks.small_disk(tmp_path / "disk", "7m") as disk:
        yield disk


def test_a_full_disk_stops_the_study_and_room_lets_the_same_command_go_on(data: Path, small_disk: Path) -> None:
    words = (*STUDY, "--set", "learning_rate=0.003,0.002", "--backend", "tune", "--max-concurrent", "1")
    code, stderr = run(small_disk / "out", data, *words)
    assert code == 130, stderr
    assert "No space left on device" in stderr
    assert "Make room and give the same command again" in stderr
    subprocess.run(["mount", "-o", "remount,size=90m", small_disk], check=True)
    code, stderr = run(small_disk / "out", data, *words)
    assert code == 0, stderr
    table = results.load(small_disk / "out").results
    assert list(table["status"]) == ["done", "done"]
    # The other one may have begun before the driver heard of it, or not: only the first is sure to meet the full disk.
    met = table[table["broken_off"].fillna("").str.contains("storage")]["trial_id"]
    measured = [small_disk / "out" / "trials" / name / "result.json" for name in met]
    # It went on from the checkpoint that did fit.
    assert [json.loads(path.read_text())["resumed"] for path in measured] == [True] * max(1, len(met))


def test_hundreds_of_trials_leave_little_behind_and_thousands_are_planned_each_once(tmp_path: Path) -> None:
    words = [
        "--trials",
        "300",
        "--train-trials",
        "0",
        "--planned",
        "10000",
        "--turns",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    command = [sys.executable, str(ROOT / "benchmarks" / "scale.py"), *words]
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment(tmp_path / "home"), timeout=DEADLINE_SECONDS
    )
    assert done.returncode == 0, done.stderr
    measured = json.loads((tmp_path / "out").read_text())
    assert measured["planned"] == 10_000
    assert measured["state_bytes_per_trial"] < 1_000
    assert measured["driver_memory_bytes"] < 600e6


def test_python_may_lie_below_a_folder_with_a_space(data: Path, tmp_path: Path) -> None:
    folder = tmp_path / "a folder" / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    (site,) = folder.glob("lib/python*/site-packages")
    packages = [path for path in sys.path if path.endswith("site-packages")]
    (site / "these.pth").write_text("".join(f"import site; site.addsitedir({path!r})\n" for path in packages))
    command = [folder / "bin" / "python", ROOT / "launch.py", "--grid", "losses", "--data", data, *STUDY]
    words = ["--set", "learning_rate=0.003", "--out", tmp_path / "a folder" / "out", "--backend", "tune"]
    done = subprocess.run(
        [*command, *words], capture_output=True, text=True, cwd=ROOT, env=environment(tmp_path / "home"),
        timeout=DEADLINE_SECONDS,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
