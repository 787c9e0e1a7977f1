"""The command `doctor` as a user meets it: exit codes, JSON alone on stdout, and one look at a real Ray."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import small_rows, write_manifest
from rich.console import Console

from launcher import doctor, doctor_data
from launcher.findings import FAULT, OK, WARNING, Check, Finding, carry_out
from launcher.results import ResultsError

ROOT = Path(__file__).resolve().parents[2]


def examine(home: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    dropped = ("RAY_ADDRESS", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH", "RAY_AUTH_MODE")
    kept = {name: value for name, value in os.environ.items() if name not in dropped}
    return subprocess.run(
        [sys.executable, str(ROOT / "launch.py"), "doctor", *words], capture_output=True, text=True, cwd=home,
        env={**kept, "HOME": str(home), **variables},
    )  # fmt: skip


def test_an_error_in_a_check_is_a_finding_and_what_follows_is_still_looked_at() -> None:
    def broken() -> list[Finding]:
        raise OSError("no such device")

    def refused() -> list[Finding]:
        raise ResultsError("out holds no study")

    checks = [
        Check("disk", broken),
        Check("study", refused, broken=FAULT),
        Check("last", lambda: [Finding(OK, "last", "")]),
    ]
    first, second, last = carry_out(checks)
    assert (first.level, first.text) == (WARNING, "could not be looked at: OSError: no such device")
    assert (second.level, second.text) == (FAULT, "out holds no study")
    assert last.level == OK


def test_what_is_not_well_comes_with_what_to_do() -> None:
    findings = [Finding(OK, "a", "fine"), Finding(FAULT, "b", "broken", "mend it")]
    assert list(doctor.lines(findings)) == ["ok       a: fine", "fault    b: broken", "         -> mend it"]
    assert doctor.as_dict(findings)["counts"] == {OK: 1, WARNING: 0, FAULT: 1}


def test_without_ray_the_command_says_in_plain_lines_how_things_stand(tmp_path: Path) -> None:
    done = examine(tmp_path, "--no-ray", OMP_NUM_THREADS="7")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "warning  threads: OMP_NUM_THREADS = 7" in done.stdout
    assert "         -> unset OMP_NUM_THREADS" in done.stdout
    assert "\x1b" not in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1].startswith("a study can run: 0 faults")
    assert not (tmp_path / "results").exists()


def test_a_fault_is_exit_code_2_and_stdout_is_json_alone(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    done = examine(tmp_path, str(tmp_path / "file"), "--data", "nowhere.csv", "--no-ray", "--json")
    assert done.returncode == 2
    content = json.loads(done.stdout)
    faults = {one["about"]: one["text"] for one in content["findings"] if one["level"] == FAULT}
    assert content["counts"][FAULT] == len(faults) == 2
    assert "is a file" in faults["disk"]
    assert "'nowhere.csv' does not exist" in faults["data"]


def test_data_are_read_as_a_study_reads_them_and_kept_for_it(tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    rows = small_rows(corpus)
    manifest = write_manifest(corpus / "m.csv", [*rows, {**rows[0], "utt_id": "gone", "audio": "gone.wav"}])
    console = Console(stderr=True)
    data, rejects, *_ = doctor_data.data(str(manifest), tmp_path / "out", console)
    assert "20 utterances" in data.text
    assert "by group: sentence 10, word 10; by split: test 4, train 12, validation 4" in data.text
    assert (rejects.level, rejects.text) == (WARNING, "1 utterances cannot be used: 1 missing_file")
    (store,) = [path for path in (tmp_path / "out" / "stores").iterdir() if (path / "store.json").is_file()]
    again, *_ = doctor_data.data(str(store), None, console)
    assert again.text.split("fingerprint ")[1][:16] == data.text.split("fingerprint ")[1][:16]


@pytest.mark.ray
@pytest.mark.slow
def test_a_real_ray_is_started_asked_and_ended(tmp_path: Path) -> None:
    # A folder of its own, with a short path: another `ray start` of this machine is out of sight.
    with tempfile.TemporaryDirectory(dir="/tmp", ignore_cleanup_errors=True) as short:
        done = examine(tmp_path, "--json", RAY_TMPDIR=short)
    found = {one["about"]: one for one in json.loads(done.stdout)["findings"]}
    assert done.returncode == 0, done.stdout + done.stderr
    assert {found[name]["level"] for name in ("ray", "task", "dashboard")} == {OK}, found
    assert "1 nodes" in found["ray"]["text"]
    assert "http://127.0.0.1:" in found["dashboard"]["text"]
    # Where another study runs on this machine at the moment, Ray's State API is ambiguous, and that is what is found.
    state = found["state api"]
    assert state["level"] == OK or "do not find that of their own cluster" in state["text"]
