"""The commands as a user meets them: messages, exit codes, what they import. No Ray is started here."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import disks
import pytest
from conftest import small_rows, write_manifest

ROOT = Path(__file__).resolve().parents[2]


def launch(*words: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(ROOT / "launch.py"), *words], capture_output=True, text=True, cwd=cwd)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--grid", "nonsense"], "unknown --grid 'nonsense'; choose one of: audit, losses, paradigms, smoke"),
        (["--grid", "losses", "--set", "typo=1"], "typo"),
        (["--grid", "losses", "--set", "learning_rat=1"], "learning_rate"),
        (["--grid", "losses", "--set", "num_train_epochs=many"], "num_train_epochs"),
        (["--grid", "losses", "--set", "reduction=meen"], "did you mean 'mean'"),
        (["--grid", "losses", "--set", "seed"], "--set"),
        (["--grid", "losses", "--set", "model_type=huge"], "choose one of: base, multitask"),
        (["--grid", "losses", "--set", "model_type=base"], "pretrained_model_name"),
        (["--grid", "losses", "--set", "groups=severity_class"], "no column severity_class"),
        (["--grid", "losses", "--data", "nowhere.csv"], "'nowhere.csv' does not exist"),
        (["--grid", "losses", "--config", "nowhere.conf"], "nowhere.conf"),
        (["--grid", "losses", "--workers", "0"], "--workers"),
        (["--grid", "losses", "--backend", "slurm"], "--backend"),
        (["--grid", "losses", "status", "x"], "exclude each other"),
        (["status", "nowhere"], "no study.json"),
        (["report", "nowhere"], "no study.json"),
        (["export", "nowhere"], "no study.json"),
        (["--no-such-option"], "No such option"),
        (["--data", "sample"], "--grid NAME is missing"),
        (["status", ""], "the name is empty"),
        (["--grid", "losses", "--config", ""], "the name is empty"),
    ],
)
def test_a_wrong_request_is_one_message_and_exit_code_2(tmp_path: Path, words: list[str], message: str) -> None:
    done = launch(*words, *(["--out", str(tmp_path / "out")] if "--grid" in words and "status" not in words else []))
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--backend", "tune", "--workers", "2"], "--workers 2 needs --backend train"),
        (["--gpus-per-worker", "2"], "--gpus-per-worker 2: give a part of a GPU"),
        (["--cpus-per-worker", "1.5"], "--cpus-per-worker 1.5: give a whole number"),
        (["--address", "local", "--cpus-per-worker", "1000"], "--cpus-per-worker 1000: no machine has room"),
        (["--address", "local", "--workers", "1000"], "--workers 1000 needs 1000 "),
    ],
)
def test_what_no_machine_can_give_is_told_before_anything_is_prepared(
    tmp_path: Path, words: list[str], message: str
) -> None:
    done = launch("--grid", "losses", *words, "--out", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_manifest_without_a_needed_column_is_told(tmp_path: Path) -> None:
    rows = [{"utt_id": "a", "audio": "a.wav", "text": "ONE"}]
    done = launch(
        "--grid", "losses", "--data", str(write_manifest(tmp_path / "m.csv", rows)), "--out", str(tmp_path / "o")
    )
    assert done.returncode == 2
    assert "lacks the column split" in done.stderr


def test_an_output_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = launch("--grid", "losses", "--out", str(tmp_path / "file" / "out"))
    assert done.returncode == 2
    assert "give another folder" in done.stderr


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    with disks.small_disk(tmp_path / "full", "64k") as disk:
        for name in ("stdout", "stderr"):
            (disk / name).touch()
        disks.fill(disk)
        yield disk


def test_an_output_folder_on_a_full_disk_is_told_and_can_be_resumed(full: Path) -> None:
    done = launch("--grid", "losses", "--out", str(full / "study"))
    assert done.returncode == 130, done.stderr
    assert done.stderr == (
        f"Error: cannot write {full}/study/.lock (No space left on device); free or change the folder given by --out\n"
    )


@pytest.mark.parametrize(("words", "code"), [(["--help"], 130), (["--grid", "nonsense"], 2), (["--no-such-option"], 2)])
def test_what_cannot_be_shown_changes_no_exit_code_and_is_no_traceback(full: Path, words: list[str], code: int) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), *words]
    with (full / "stdout").open("w") as stdout, (full / "stderr").open("w") as stderr:
        assert subprocess.run(command, stdout=stdout, stderr=stderr, cwd=ROOT).returncode == code
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, cwd=ROOT)
    assert (full / "stdout").stat().st_size == (full / "stderr").stat().st_size == 0
    assert done.returncode == code
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert ("No space left on device; mend that or make room" in done.stderr) is (code == 130)


def test_a_second_launch_on_a_folder_is_told_who_holds_it(tmp_path: Path) -> None:
    import fcntl

    tmp_path.joinpath(".lock").write_text("process 123 on ward")
    with tmp_path.joinpath(".lock").open("r+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = launch("--grid", "losses", "--out", str(tmp_path))
    assert done.returncode == 2
    assert "in use by process 123 on ward" in done.stderr


def test_the_plan_lists_every_trial_and_runs_nothing(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "m.csv", small_rows(tmp_path))
    words = ["--grid", "losses", "--data", str(manifest), "--out", str(tmp_path / "o"), "--plan"]
    done = launch(*words)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == [f"#{number}" for number in range(8)]
    assert all(line.endswith("[pending]") for line in lines)
    listed = json.loads(launch(*words, "--json").stdout)["trials"]
    assert [one["trial_id"] for one in listed] == [line.split()[1] for line in lines]
    assert not (tmp_path / "o" / "trials").exists()


def test_help_lists_options_and_exit_codes() -> None:
    done = launch("--help")
    assert done.returncode == 0
    for word in ("--grid", "--plan", "--set", "status", "report", "export", "130 interrupted"):
        assert word in done.stdout


@pytest.mark.parametrize(
    ("words", "forbidden"),
    [
        (["--help"], {"torch", "transformers", "ray", "pandas", "pydantic"}),
        (["--grid", "losses", "--plan", "--out", "OUT"], {"torch", "transformers", "ray"}),
    ],
)
def test_help_and_plans_load_nothing_heavy(tmp_path: Path, words: list[str], forbidden: set[str]) -> None:
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    code = (
        "import sys, atexit; sys.argv = ['launch.py', *sys.argv[1:]]\n"
        "atexit.register(lambda: print(' '.join(name for name in sys.modules if '.' not in name), file=sys.stderr))\n"
        "from launcher.cli import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    assert not forbidden & set(done.stderr.splitlines()[-1].split())
