"""What a store was selected from is listed with its counts, and so are several sources that are looked at together."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_corpora import TINY, louder, rows_of, stored

from trainables.corpora import commands
from trainables.corpora.prepare import prepare
from trainables.corpora.store import Store
from trainables.errors import DataError


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    """Two stores; the second lacks a file, has a word of another alphabet, and a copy of a recording of the first."""
    first = stored(tmp_path / "a", rows_of(tmp_path / "a", "alpha"))
    rows = rows_of(tmp_path / "b", "beta", prefix="b-", train=6)
    louder(tmp_path / "b")
    rows[0]["audio"], rows[1]["transcript"] = "gone.wav", "ÄÖÜ"
    (tmp_path / "b" / rows[2]["audio"]).write_bytes((tmp_path / "a" / "train_2.wav").read_bytes())
    return first, stored(tmp_path / "b", rows)


def test_the_parts_of_a_study_say_what_was_taken_and_what_was_not(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = prepare(f"{two[0]},{two[1]}", tmp_path / "stores", [*TINY])
    first, second = commands.inspect(str(study.path))["parts"]
    assert first["location"] == str(two[0])
    assert (first["utterances"], first["by_split"]) == (20, {"test": 4, "train": 12, "validation": 4})
    assert (first["left_out"], first["rejects"]) == ({}, {})
    assert (second["utterances"], second["left_out"], second["rejects"]) == (12, {"duplicate": 1}, {"missing_file": 1})
    assert first["seconds"] + second["seconds"] == pytest.approx(
        sum(study.columns(["duration_seconds"])["duration_seconds"])
    )
    assert first["fingerprint"] == Store.open(two[0]).fingerprint


def test_several_sources_are_looked_at_together(two: tuple[Path, Path], tmp_path: Path) -> None:
    before = sorted(tmp_path.rglob("*"))
    steps: list[tuple[int, int]] = []
    manifest = tmp_path / "b" / "manifest.csv"
    found = commands.inspect(f"{two[0]},{manifest}", lambda *step: steps.append(step))
    assert steps == [(14, 14)]
    assert found["utterances"] == sum(part["utterances"] for part in found["parts"]) == 32
    assert [part["location"] for part in found["parts"]] == [str(two[0]), ""]
    assert [part["source"] for part in found["parts"]] == [
        str(manifest.parents[1] / "a" / "manifest.csv"),
        str(manifest),
    ]
    assert {row["corpus"]: row["utterances"] for row in found["by"]["corpus"]} == {"alpha": 20, "beta": 12}
    assert any(row["what"] == "text" and row["shared"] for row in found["leaks"])
    assert found["path"] == ""
    assert sorted(tmp_path.rglob("*")) == before


def test_a_manifest_alone_and_the_sample_are_looked_at_without_a_store(two: tuple[Path, Path], tmp_path: Path) -> None:
    found = commands.inspect(str(tmp_path / "a" / "manifest.csv"))
    assert (found["utterances"], found["parts"], found["path"]) == (20, [], "")
    assert found["fingerprint"] == Store.open(two[0]).fingerprint
    assert commands.inspect("sample")["utterances"] == 405


def test_a_store_of_recordings_has_no_parts(two: tuple[Path, Path]) -> None:
    assert commands.inspect(str(two[0]))["parts"] == []


def test_one_wrong_name_among_several_is_said(two: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.csv' does not exist"):
        commands.inspect(f"{two[0]},{tmp_path / 'none.csv'}")


def test_speakers_of_two_corpora_are_two_also_where_they_have_one_name(tmp_path: Path) -> None:
    for corpus in ("alpha", "beta"):
        rows = [{**row, "speaker": "S1"} for row in rows_of(tmp_path / corpus, corpus, f"{corpus}-")]
        stored(tmp_path / corpus, rows)
    louder(tmp_path / "beta")
    found = commands.inspect(f"{tmp_path / 'alpha' / 'store'},{tmp_path / 'beta' / 'manifest.csv'}")
    assert {row["split"]: row["speakers"] for row in found["by"]["split"]} == dict.fromkeys(
        ("test", "train", "validation"), 2
    )
    assert {row["speakers"] for row in found["counts"]} == {2}


def test_where_no_store_is_kept_each_utterance_that_cannot_be_used_is_listed(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    (gone,) = commands.inspect(str(tmp_path / "b" / "manifest.csv"))["rejected"]
    assert (gone["reason"], set(gone)) == ("missing_file", {"utt_id", "reason", "detail"})
    assert "rejected" not in commands.inspect(str(two[0]))
