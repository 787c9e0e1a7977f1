from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import small_rows, tone, write_manifest

from trainables.corpora import audio, overlap
from trainables.corpora.prepare import prepare
from trainables.corpora.store import Store
from trainables.errors import DataError

TINY = [("tiny", None)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


def made(folder: Path, rows: list[dict[str, str]], name: str = "manifest.csv") -> Store:
    return prepare(str(write_manifest(folder / name, rows)), folder / "stores", TINY)


def row(utt_id: str, audio: str, transcript: str = "ONE", split: str = "train", **more: str) -> dict[str, str]:
    base = {"utt_id": utt_id, "audio": audio, "transcript": transcript, "split": split}
    return {**base, "speaker": "s1", "group": "word", "corpus": "tones", **more}


def test_a_store_holds_what_the_manifest_says(folder: Path) -> None:
    rows = small_rows(folder)
    for number, one in enumerate(rows):
        one["severity"] = f"level {number % 2}"
    store = made(folder, rows)
    assert store.columns(["utt_id"])["utt_id"] == [one["utt_id"] for one in rows]
    assert store.columns(["severity"])["severity"] == [one["severity"] for one in rows]
    samples, _ = soundfile.read(folder / rows[3]["audio"], dtype="int16")
    assert (store.samples(3) == samples).all()
    assert not store.rejects()


@pytest.mark.parametrize(
    ("reason", "detail", "make"),
    [
        ("missing_file", "gone.wav", lambda folder: row("bad", "gone.wav")),
        ("empty", "no audio is named", lambda folder: row("bad", "")),
        ("empty_transcript", "'...'", lambda folder: row("bad", "train_0.wav", "...")),
        ("unknown_characters", "'Q'", lambda folder: row("bad", "train_0.wav", "QUEEN", "validation")),
        ("transcript_too_long", "frames needed", lambda folder: row("bad", "train_0.wav", "ONE TWO " * 12)),
        ("duplicate", "'train_0'", lambda folder: row("bad", "train_0.wav", "ONE")),
        ("duplicate", "earlier row", lambda folder: row("train_1", "test_1.wav", "ONE")),
    ],
)
def test_what_cannot_be_used_is_rejected_with_its_reason(folder: Path, reason, detail, make) -> None:
    rows = [*small_rows(folder), make(folder)]
    store = made(folder, rows)
    (reject,) = store.rejects()
    assert reject["reason"] == reason
    assert detail in reject["detail"]
    assert store.description["rejects"] == {reason: 1}
    assert store.description["rejects_by_group"] == {reason: {"word": 1}}
    assert store.description["utterances"] == len(rows) - 1


@pytest.mark.parametrize(
    ("reason", "content"),
    [("unreadable", b"RIFF this is no sound file"), ("empty", b"")],
)
def test_files_that_are_no_audio_are_rejected(folder: Path, reason: str, content: bytes) -> None:
    (folder / "bad.wav").write_bytes(content)
    (reject,) = made(folder, [*small_rows(folder), row("bad", "bad.wav")]).rejects()
    assert (reject["utt_id"], reject["reason"]) == ("bad", reason)


def test_silent_audio_and_audio_without_samples_are_rejected(folder: Path) -> None:
    soundfile.write(folder / "silent.wav", np.zeros(8000), 16_000)
    soundfile.write(folder / "none.wav", np.zeros(0), 16_000)
    store = made(folder, [*small_rows(folder), row("a", "silent.wav"), row("b", "none.wav")])
    assert [reject["reason"] for reject in store.rejects()] == ["silent", "empty"]


@pytest.mark.parametrize(
    ("rate", "channels", "name"), [(8_000, 1, "a.wav"), (44_100, 2, "a.flac"), (22_050, 1, "a.ogg")]
)
def test_audio_of_any_rate_and_format_becomes_16_khz_mono(folder: Path, rate: int, channels: int, name: str) -> None:
    signal = np.repeat(tone(1.0, 300.0, rate)[:, None], channels, axis=1)
    soundfile.write(folder / name, signal, rate)
    samples = audio.decode((folder / name).read_bytes())
    assert samples.dtype == np.int16
    assert abs(len(samples) - 16_000) <= 1
    spectrum = np.abs(np.fft.rfft(samples))
    assert abs(np.argmax(spectrum) * 16_000 / len(samples) - 300) < 2


def test_the_second_study_finds_the_store_and_a_changed_file_makes_a_new_one(folder: Path) -> None:
    rows = small_rows(folder)
    first = made(folder, rows)
    assert made(folder, rows).path == first.path
    soundfile.write(folder / rows[0]["audio"], tone(0.9, 333.0), 16_000)
    again = made(folder, rows)
    assert again.path != first.path
    assert again.fingerprint != first.fingerprint


def test_the_fingerprint_depends_on_content_and_not_on_place_or_order(folder: Path, tmp_path: Path) -> None:
    rows = small_rows(folder)
    first = made(folder, rows)
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    other = made(moved, list(reversed(small_rows(moved))), "other.csv")
    assert other.fingerprint == first.fingerprint
    rows[0]["transcript"] = "TWO"
    assert made(folder, rows).fingerprint != first.fingerprint


def test_a_prepared_store_is_data_too(folder: Path) -> None:
    store = made(folder, small_rows(folder))
    assert prepare(str(store.path), folder / "unused", TINY).fingerprint == store.fingerprint


def test_data_without_a_usable_validation_split_are_refused(folder: Path) -> None:
    with pytest.raises(DataError, match="no usable utterance in the split 'validation'"):
        made(folder, small_rows(folder, validation=0))
    assert not list((folder / "stores").glob("*"))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("m.csv", "utt_id,transcript,split\na,ONE,train\n", "lacks the column audio"),
        ("m.csv", "utt_id,audio,transcript,split\n", "has no rows"),
        ("m.csv", "utt_id,audio,transcript,split\na,a.wav,ONE,practice\n", "split 'practice'"),
        ("m.csv", "utt_id,audio,transcript,split\na,a.wav,ONE, TWO,train\n", "line 2: 4 fields expected"),
        ("m.csv", "utt_id,audio,audio,split\na,b,c,train\n", "column audio more than once"),
        ("m.txt", "utt_id\n", "unknown format '.txt'"),
        ("m.jsonl", '{"utt_id": 1}\n{oops\n', "line 2: not JSON"),
        ("m.jsonl", "[1]\n", "one JSON object per line"),
        ("m.parquet", "not parquet at all", "cannot be read"),
        ("m.csv", b"utt_id,audio\n\xe9\xe8,x\n", "UTF-8"),
    ],
)
def test_a_wrong_manifest_gets_one_clear_message(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(DataError, match=message):
        prepare(str(path), tmp_path / "stores", TINY)


def test_a_missing_manifest_and_a_folder_are_told_apart(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        prepare(str(tmp_path / "none.csv"), tmp_path, TINY)
    with pytest.raises(DataError, match="is a folder"):
        prepare(str(tmp_path), tmp_path, TINY)


def test_a_copy_of_the_data_in_another_format_is_the_same_data(folder: Path) -> None:
    rows = small_rows(folder)
    first = made(folder, rows)
    for one in rows:
        samples, rate_hz = soundfile.read(folder / one["audio"], dtype="int16")
        one["audio"] = one["audio"].replace(".wav", ".flac")
        soundfile.write(folder / one["audio"], samples, rate_hz)
    assert made(folder, rows, "flac.csv").fingerprint == first.fingerprint


def test_one_sound_as_wav_and_as_flac_is_a_duplicate_with_the_same_words_and_a_leak_with_others(folder: Path) -> None:
    rows = small_rows(folder)
    samples, rate_hz = soundfile.read(folder / "train_0.wav", dtype="int16")
    soundfile.write(folder / "copy.flac", samples, rate_hz)
    store = made(folder, [*rows, row("same", "copy.flac", "ONE"), row("other", "copy.flac", "TWO", "test")])
    assert store.description["rejects"] == {"duplicate": 1}
    columns = store.columns(["utt_id", "split", "speaker", "transcript", "audio_sha256"])
    shared = {(one["first"], one["second"]): one["shared"] for one in overlap.report(columns) if one["what"] == "sound"}
    assert shared == {("train", "validation"): 0, ("train", "test"): 1, ("validation", "test"): 0}


def test_files_with_several_channels_are_counted(folder: Path) -> None:
    signal = (32_768 * np.stack([tone(0.5, 300.0), tone(0.5, 410.0)], axis=1)).astype(np.int16)
    soundfile.write(folder / "two.wav", signal, 16_000)
    store = made(folder, [*small_rows(folder), row("two", "two.wav")])
    assert store.description["several_channels"] == 1
    assert np.abs(store.samples(20) - signal.mean(axis=1)).max() <= 0.5


def test_all_manifest_formats_give_the_same_data(folder: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet

    rows = small_rows(folder)
    first = made(folder, rows)
    header = "\t".join(rows[0])
    (folder / "m.tsv").write_text("\n".join([header, *("\t".join(one.values()) for one in rows)]) + "\n")
    (folder / "m.jsonl").write_text("\n".join(json.dumps(one) for one in rows))
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), folder / "m.parquet")
    for name in ("m.tsv", "m.jsonl", "m.parquet"):
        assert prepare(str(folder / name), folder / "stores", TINY).fingerprint == first.fingerprint


def test_missing_speaker_and_group_are_filled_and_said(folder: Path) -> None:
    rows = [{key: one[key] for key in ("utt_id", "audio", "transcript", "split")} for one in small_rows(folder)]
    store = made(folder, rows)
    assert store.description["filled"] == {"speaker": "unknown", "corpus": "manifest", "group": "all"}


def test_audio_of_a_manifest_may_be_in_an_archive(folder: Path) -> None:
    rows = small_rows(folder)
    plain = made(folder, rows)
    with zipfile.ZipFile(folder / "sound files.zip", "w") as archive:
        for one in rows:
            archive.write(folder / one["audio"], f"wav/{one['audio']}")
            (folder / one["audio"]).unlink()
            one["audio"] = f"sound files.zip!wav/{one['audio']}"
    assert made(folder, rows, "zipped.csv").fingerprint == plain.fingerprint
