"""Names and transcripts that are no characters are escaped or rejected, the same on every machine; none is lost."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import small_rows, tone
from hypothesis import given
from hypothesis import strategies as st
from small_corpora import TINY, l2_speaker, sap_contributor, sap_entry

from trainables.corpora import commands, l2arctic, sap, splits
from trainables.corpora.prepare import prepare
from trainables.corpora.recordings import Recording, Rejected, readable
from trainables.corpora.store import Store
from trainables.errors import DataError

#: "café" as old copies have it on disk: Windows-1252, no UTF-8.
LATIN = os.fsdecode(b"caf\xe9")
HALF = "\ud83d"


@given(st.binary(min_size=1, max_size=30))
def test_any_name_of_bytes_becomes_text_that_can_be_written_and_stays(name: bytes) -> None:
    shown = readable(os.fsdecode(name))
    assert readable(shown) == shown
    assert shown.encode("utf-8")


@given(st.text(st.characters(exclude_categories=("Cs",))))
def test_text_of_any_language_stays_as_it_is(text: str) -> None:
    assert readable(text) == text


def test_bytes_and_halves_of_characters_are_shown_as_what_they_are() -> None:
    assert readable(LATIN) == r"caf\xe9"
    assert readable(f"x{HALF}é") == r"x\ud83dé"


def test_what_an_importer_says_can_be_written() -> None:
    one = Recording(LATIN, (LATIN,), "go", LATIN, LATIN, LATIN, "train", {"session": LATIN})
    assert (one.utt_id, one.speaker, one.corpus, one.group, one.more["session"]) == (r"caf\xe9",) * 5
    assert one.audio == (LATIN,)  # the file is opened by it
    assert Rejected(LATIN, "empty", LATIN).detail == r"caf\xe9"


def as_lines(folder: Path, rows: list[dict[str, Any]]) -> Path:
    path = folder / "manifest.jsonl"
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_sound_file_whose_name_is_no_utf_8_is_used(tmp_path: Path) -> None:
    rows = small_rows(tmp_path)
    plain = prepare(str(as_lines(tmp_path, rows)), tmp_path / "stores", TINY)
    os.rename(tmp_path / rows[0]["audio"], tmp_path / f"{LATIN}.wav")
    rows[0]["audio"] = f"{LATIN}.wav"
    again = prepare(str(as_lines(tmp_path, rows)), tmp_path / "stores", TINY)
    assert again.fingerprint == plain.fingerprint


def test_names_in_a_manifest_are_escaped_and_transcripts_rejected(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**row, "severity": "low"} for row in small_rows(tmp_path)]
    rows[0] |= {"utt_id": f"u{HALF}", "speaker": f"s{HALF}", "severity": LATIN}
    rows[1] |= {"transcript": f"ONE {HALF} TWO"}
    rows[2] |= {"audio": f"{HALF}.wav"}
    rows[3] |= {"audio": "zero\0byte.wav"}
    rows[4] |= {"audio": f"~{HALF}.wav"}
    store = prepare(str(as_lines(tmp_path, rows)), tmp_path / "stores", TINY)
    columns = store.columns(["utt_id", "speaker", "severity"])
    assert (columns["utt_id"][0], columns["speaker"][0]) == (r"u\ud83d", r"s\ud83d")
    assert columns["severity"][0] == r"caf\xe9"
    assert {one["utt_id"]: one["reason"] for one in store.rejects()} == {
        "train_1": "unreadable_transcript", "train_2": "unreadable", "train_3": "unreadable", "train_4": "unreadable",
    }  # fmt: skip


def test_names_that_are_escaped_alike_are_not_lost_silently(tmp_path: Path) -> None:
    rows = small_rows(tmp_path)
    rows[0]["utt_id"], rows[1]["utt_id"] = LATIN, r"caf\xe9"
    store = prepare(str(as_lines(tmp_path, rows)), tmp_path / "stores", TINY)
    assert store.description["rejects"] == {"duplicate": 1}


def test_a_column_whose_name_is_no_text_is_refused(tmp_path: Path) -> None:
    rows = [{**row, f"c{HALF}": "x"} for row in small_rows(tmp_path)]
    with pytest.raises(DataError, match=r"column 'c\\ud83d' holds what is no character"):
        prepare(str(as_lines(tmp_path, rows)), tmp_path / "stores", TINY)


def test_contributors_and_recordings_of_sap_with_such_names(tmp_path: Path) -> None:
    sap_contributor(
        tmp_path / "TRAIN" / LATIN,
        [sap_entry("1.wav"), sap_entry("2.wav", f"go {HALF}"), sap_entry(f"{HALF}.wav")],
        ("1.wav", "2.wav"),
    )
    found = sap.find(tmp_path, {})
    assert [one.utt_id for one in found.recordings] == [r"SAP-caf\xe9_1"]
    assert {one.utt_id: one.reason for one in found.rejects} == {
        r"SAP-caf\xe9_2": "unreadable_transcript", r"SAP-caf\xe9_\ud83d": "missing_file",
    }  # fmt: skip


def test_a_corpus_in_a_folder_with_such_a_name_is_prepared_and_its_name_can_be_printed(tmp_path: Path) -> None:
    root = tmp_path / LATIN
    sap_contributor(root / "TRAIN" / "a", [sap_entry("1.wav"), sap_entry("gone.wav")], ("1.wav",))
    found = commands.prepare("sap", root, tmp_path / "store")
    assert found["source"].endswith(r"caf\xe9")
    assert json.dumps(found, ensure_ascii=False).encode()
    (reject,) = Store.open(tmp_path / "store").rejects()
    assert r"caf\xe9" in reject["detail"]


def test_sentences_of_l2_arctic_with_such_names_are_split_and_kept(tmp_path: Path) -> None:
    import io

    import soundfile

    sound = io.BytesIO()
    soundfile.write(sound, tone(0.5), 16_000, format="WAV")
    for name, content in l2_speaker("ABA", sound.getvalue()).items():
        path = tmp_path / name.replace("arctic_a0001", LATIN)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    found = l2arctic.find(tmp_path, {})
    assert r"L2-ABA_caf\xe9" in {one.utt_id for one in found.recordings}
    assert {one.split for one in found.recordings} <= set(splits.SPLITS)


def test_what_is_made_gets_a_name_that_can_be_written(tmp_path: Path) -> None:
    manifest = as_lines(tmp_path, small_rows(tmp_path))
    with pytest.raises(DataError, match="choose another folder for what is made"):
        commands.prepare("manifest", manifest, tmp_path / LATIN)
    commands.prepare("manifest", manifest, tmp_path / "store")
    shutil.move(tmp_path / "store", tmp_path / LATIN)
    with pytest.raises(DataError, match="rename the folder of the store"):
        Store.open(tmp_path / LATIN)
