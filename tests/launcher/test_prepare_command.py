"""The command `prepare`, run as a person would, in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import small_rows, write_manifest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    rows = small_rows(folder)
    gone = {**rows[0], "utt_id": "gone", "audio": "gone.wav"}
    odd = {**rows[1], "utt_id": "odd", "transcript": "<script>alert(1)</script> É"}
    write_manifest(folder / "manifest.csv", [*rows, gone, odd])
    return folder


@pytest.fixture(scope="module")
def store(corpus: Path) -> Path:
    done = launch("prepare", "manifest", corpus / "manifest.csv", "--out", corpus / "store", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert "22 of 22 utterances read" in done.stderr
    assert "Utterances: 21" in done.stdout
    assert "missing_file" in done.stdout
    assert "utterances read" not in done.stdout
    return corpus / "store"


def launch(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "launch.py"), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_inspecting_prints_the_same_and_writes_a_page(store: Path) -> None:
    done = launch("prepare", "--inspect", store, "--json")
    found = json.loads(done.stdout)
    assert found["utterances"] == 21
    assert found["rejects"] == {"missing_file": 1}
    page = (store / "inspect.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page
    assert 'data-plot="lengths-seconds"' in page
    assert found["fingerprint"] in page
    assert "https://" not in re.sub(r"<script\b.*?</script>", "", page, flags=re.DOTALL)


def test_the_same_command_again_finds_the_store(corpus: Path, store: Path) -> None:
    before = (store / "store.json").stat().st_ino
    done = launch("prepare", "manifest", corpus / "manifest.csv", "--out", store, "--json")
    assert json.loads(done.stdout)["path"] == str(store)
    assert (store / "store.json").stat().st_ino == before


def test_several_sources_are_inspected_together_and_leave_nothing_behind(corpus: Path, store: Path) -> None:
    other = write_manifest(
        corpus / "other.csv", [{**row, "corpus": "other"} for row in small_rows(corpus, train=6)][:6]
    )
    before = sorted(store.iterdir())
    done = launch("prepare", "--inspect", f"{store},{other}")
    assert done.returncode == 0, done.stderr
    assert "What it is selected from" in done.stdout
    assert "duplicate 6" in done.stdout
    assert "6 of 6 utterances read" in done.stderr
    assert "page:" not in done.stderr
    assert sorted(store.iterdir()) == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["manifest"], "needed: prepare CORPUS SRC --out STORE"),
        (["manifest", "SRC", "--out", "STORE", "--inspect", "STORE"], "stands alone"),
        (["manifest", "SRC", "--out", "STORE", "--split", "dependent"], "store of other data"),
        (["timit", "SRC", "--out", "OTHER"], "choose one of"),
        (["manifest", "SRC", "--out", "SRC"], "is a file"),
        (["--inspect", "OTHER"], "does not exist; give a manifest"),
    ],
)
def test_a_wrong_request_is_one_message_and_exit_code_2(
    corpus: Path, store: Path, words: list[str], message: str
) -> None:
    paths = {"SRC": corpus / "manifest.csv", "STORE": store, "OTHER": corpus / "other"}
    done = launch("prepare", *(paths.get(word, word) for word in words))
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert not done.stdout


def test_a_manifest_that_is_looked_at_lists_what_cannot_be_used_itself(corpus: Path) -> None:
    done = launch("prepare", "--inspect", corpus / "manifest.csv")
    assert done.returncode == 0, done.stderr
    assert "rejects.parquet" not in done.stdout
    assert any(line.split()[:2] == ["gone", "missing_file"] for line in done.stdout.splitlines())


def test_a_split_that_leaves_nothing_to_validate_on_is_told(corpus: Path) -> None:
    done = launch("prepare", "manifest", corpus / "manifest.csv", "--out", corpus / "few", "--split", "dependent")
    assert done.returncode == 0, done.stderr
    assert "Note: no utterance is in validation: a study that trains needs some there" in done.stderr
