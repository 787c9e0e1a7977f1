"""A store is made in one pass that can be interrupted, and is the same whoever makes it."""

from __future__ import annotations

import fcntl
import multiprocessing
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
from conftest import small_rows, tone, write_manifest

from trainables.corpora import manifest, pipeline
from trainables.corpora.pipeline import Plan, build
from trainables.corpora.recordings import Found, Recording, Rejected
from trainables.corpora.store import Store
from trainables.errors import DataError

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "corpus").mkdir()
    return tmp_path / "corpus"


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_FEWEST_PER_SHARD", 4)


def plan(folder: Path, rows: list[dict[str, str]] | None = None, **settings) -> Plan:
    rows = small_rows(folder) if rows is None else rows
    return Plan(manifest.find(write_manifest(folder / "manifest.csv", rows), {}), **settings)


def recording(folder: Path, name: str, *files: str, transcript: str = "ONE", **more: str) -> Recording:
    audio = tuple(str(folder / file) for file in files)
    return Recording(name, audio, transcript, "s1", "tones", "word", "train", more)


def audio(store: Store) -> list[bytes]:
    return [store.samples(row).tobytes() for row in range(store.table.num_rows)]


@pytest.mark.usefixtures("small_shards")
def test_one_process_and_two_make_the_same_store(folder: Path) -> None:
    rows = small_rows(folder)
    one, two = (build(folder / f"by_{workers}", plan(folder, rows), workers=workers) for workers in (1, 2))
    assert len(one.description["audio"]) == 5
    assert one.fingerprint == two.fingerprint
    assert one.table.equals(two.table)
    assert audio(one) == audio(two)


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_preparation_goes_on_and_makes_the_same_store(folder: Path) -> None:
    rows = small_rows(folder)
    whole = build(folder / "whole", plan(folder, rows), workers=1)

    def interrupt(done: int, total: int) -> None:
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(folder / "store", plan(folder, rows), workers=1, progress=interrupt)
    assert not (folder / "store").exists()
    kept = {path.name: path.stat().st_ino for path in (folder / ".store.part" / "audio").iterdir()}
    assert sorted(kept) == ["00000.arrow", "00001.arrow"]
    seen: list[tuple[int, int]] = []
    store = build(folder / "store", plan(folder, rows), workers=1, progress=lambda *step: seen.append(step))
    assert seen == [(4, 20), (8, 20), (12, 20), (16, 20), (20, 20)]
    now = {path.name: path.stat().st_ino for path in (folder / "store" / "audio").iterdir()}
    assert {name: now[name] for name in kept} == kept
    assert (store.fingerprint, audio(store)) == (whole.fingerprint, audio(whole))
    assert not list(folder.glob(".*"))


@pytest.mark.usefixtures("small_shards")
def test_a_process_that_is_killed_costs_what_it_was_decoding(folder: Path) -> None:
    rows = small_rows(folder)

    def kill(done: int, total: int) -> None:
        for child in multiprocessing.active_children():
            child.kill()

    with pytest.raises(DataError, match=r"memory ran out.*what is decoded already is kept"):
        build(folder / "store", plan(folder, rows), workers=2, progress=kill)
    assert list((folder / ".store.part" / "audio").glob("*.arrow"))
    assert build(folder / "store", plan(folder, rows), workers=1).table.num_rows == 20


@pytest.mark.usefixtures("small_shards")
def test_what_was_decoded_from_a_file_that_changed_is_not_kept(folder: Path) -> None:
    def interrupt(done: int, total: int) -> None:
        raise KeyboardInterrupt

    rows = small_rows(folder)
    with pytest.raises(KeyboardInterrupt):
        build(folder / "store", plan(folder, rows), workers=1, progress=interrupt)
    soundfile.write(folder / rows[0]["audio"], tone(0.9, 333.0), 16_000)
    assert len(build(folder / "store", plan(folder, rows)).samples(0)) == 0.9 * 16_000


def test_the_same_request_again_returns_the_store_and_another_is_refused(folder: Path) -> None:
    rows = small_rows(folder)
    first = build(folder / "store", plan(folder, rows))
    assert build(folder / "store", plan(folder, rows)).identity == first.identity
    with pytest.raises(DataError, match="store of other data"):
        build(folder / "store", plan(folder, rows[1:]))
    (folder / "file").write_text("")
    with pytest.raises(DataError, match=r"'.*file' is a file"):
        build(folder / "file", plan(folder, rows))
    with pytest.raises(DataError, match="a folder that is no store"):
        build(folder, plan(folder, rows))
    with pytest.raises(DataError, match="cannot be written"):
        build(folder / "file" / "store", plan(folder, rows))


def test_a_second_process_is_told_to_wait(folder: Path) -> None:
    with (folder / ".store.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(DataError, match="another process is preparing"):
            build(folder / "store", plan(folder))
    assert build(folder / "store", plan(folder)).table.num_rows == 20


def test_a_full_disk_is_said_and_does_not_leave_half_a_store(folder: Path) -> None:
    """A limit on the size of files stands for the disk; the process that has it must be another one."""
    write_manifest(folder / "manifest.csv", small_rows(folder))
    code = (
        "import resource, sys; from pathlib import Path\n"
        "from trainables.corpora import manifest, pipeline\n"
        "plan = pipeline.Plan(manifest.find(Path(sys.argv[1]) / 'manifest.csv', {}))\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "pipeline.build(Path(sys.argv[1]) / 'store', plan)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], cwd=ROOT, capture_output=True, text=True)
    assert "DataError: no space is left" in done.stderr
    assert "what is decoded already is kept" in done.stderr
    assert not (folder / "store").exists()
    assert build(folder / "store", plan(folder)).table.num_rows == 20


def test_several_microphones_are_averaged_and_those_that_cannot_be_used_are_counted(folder: Path) -> None:
    first, second = tone(0.5, 300.0), tone(0.4, 410.0)
    for name, signal in (("a.wav", first), ("b.wav", second), ("c.wav", np.zeros(0))):
        soundfile.write(folder / name, signal, 16_000, subtype="FLOAT")
    (folder / "d.wav").write_bytes(b"RIFF no sound")
    found = Found(
        (
            recording(folder, "both", "a.wav", "b.wav"),
            recording(folder, "left", "a.wav", "c.wav", "d.wav", "e.wav"),
            recording(folder, "none", "c.wav", "e.wav"),
        )
    )
    store = build(folder / "store", Plan(found))
    mean = first.copy()
    mean[: len(second)] = (first[: len(second)] + second) / 2
    assert np.abs(store.samples(0) - mean * 32_768).max() <= 0.5
    assert np.abs(store.samples(1) - first * 32_768).max() <= 0.5
    assert store.columns(["channels_used"])["channels_used"] == [2, 1]
    assert store.description["channels_left_out"] == {"empty": 1, "unreadable": 1, "missing_file": 1}
    (reject,) = store.rejects()
    assert (reject["utt_id"], reject["reason"]) == ("none", "empty")


def test_columns_of_recordings_are_united_and_rejects_of_the_importer_are_kept(folder: Path) -> None:
    for name in ("a.wav", "b.wav"):
        soundfile.write(folder / name, tone(0.5, 200 + ord(name[0])), 16_000)
    found = Found(
        (recording(folder, "a", "a.wav", mic="M5"), recording(folder, "b", "b.wav", severity="low", samples="x")),
        (Rejected("x", "empty_transcript", "no prompt", speaker="s2", group="control"),),
        ("session 2 is missing",),
    )
    store = build(folder / "store", Plan(found))
    assert store.columns(["mic", "severity", "samples"]) == {
        "mic": ["M5", ""], "severity": ["", "low"], "samples": [8000, 8000],
    }  # fmt: skip
    assert store.rejects()[0]["speaker"] == "s2"
    assert store.description["rejects_by_group"] == {"empty_transcript": {"control": 1}}
    assert store.description["notes"] == ["session 2 is missing"]


def test_a_named_split_replaces_that_of_the_corpus_and_is_part_of_the_fingerprint(folder: Path) -> None:
    rows = small_rows(folder, train=40)
    first = build(folder / "plain", plan(folder, rows))
    other = build(folder / "prompts", plan(folder, rows, split="dependent"))
    assert other.fingerprint != first.fingerprint
    assert other.columns(["utt_id"]) == first.columns(["utt_id"])
    assert other.columns(["split"]) != first.columns(["split"])
    assert other.description["split"] == "dependent"


def test_a_split_that_does_not_fit_keeps_what_is_decoded(folder: Path) -> None:
    wanted = plan(folder)
    with pytest.raises(DataError, match=r"nobody.*; what is decoded is kept in '.*/\.store\.part' for another --split"):
        build(folder / "store", replace(wanted, split="loso(speaker=nobody)"))
    kept = (folder / ".store.part" / "audio" / "00000.arrow").stat().st_ino
    build(folder / "store", wanted)
    assert (folder / "store" / "audio" / "00000.arrow").stat().st_ino == kept


@pytest.mark.parametrize("split", ["", "loso(speaker=s1)"])
def test_a_store_without_any_utterance_is_refused_and_nothing_of_it_stays(folder: Path, split: str) -> None:
    found = Found((recording(folder, "gone", "gone.wav"),))
    with pytest.raises(DataError, match=r"no utterance can be used \(rejected: 1 missing_file, as 'gone': .*gone.wav"):
        build(folder / "store", Plan(found, split=split))
    with pytest.raises(DataError, match="no utterance can be used"):
        build(folder / "store", Plan(Found(())))
    assert [path.name for path in folder.iterdir() if "store" in path.name] == []


def test_without_a_split_that_is_needed_nothing_stays(folder: Path) -> None:
    wanted = plan(folder, small_rows(folder, validation=0))
    with pytest.raises(DataError, match="no usable utterance in the split 'validation'"):
        build(folder / "store", replace(wanted, needs=("train", "validation")))
    assert [path.name for path in folder.iterdir() if "store" in path.name] == []


def test_names_with_spaces_and_letters_of_any_language_are_kept(folder: Path) -> None:
    soundfile.write(folder / "ein höchst langer Name.wav", tone(0.5), 16_000)
    store = build(folder / "un magasin été", Plan(Found((recording(folder, "ü 1", "ein höchst langer Name.wav"),))))
    assert Store.open(store.path).columns(["utt_id"])["utt_id"] == ["ü 1"]


def test_other_characters_than_those_of_english_checkpoints_are_counted(folder: Path) -> None:
    for name in "abc":
        soundfile.write(folder / f"{name}.wav", tone(0.5, 200 + ord(name)), 16_000)
    texts = {"a": "naïve café", "b": "it's ONE", "c": "route 66 é"}
    found = Found(tuple(recording(folder, name, f"{name}.wav", transcript=text) for name, text in texts.items()))
    store = build(folder / "store", Plan(found))
    assert store.description["other_characters"] == {"6": 1, "É": 2, "Ï": 1}
    assert store.columns(["transcript_raw"])["transcript_raw"] == list(texts.values())


def test_a_channel_that_is_silent_is_left_out_of_the_mean(folder: Path) -> None:
    loud = tone(0.5, 300.0)
    for name, signal in (("a.wav", loud), ("dead.wav", np.zeros(8000)), ("cut.wav", loud[:400])):
        soundfile.write(folder / name, signal, 16_000, subtype="FLOAT")
    store = build(folder / "store", Plan(Found((recording(folder, "one", "dead.wav", "a.wav", "cut.wav"),))))
    assert np.abs(store.samples(0) - loud * 32_768).max() <= 0.5
    assert store.columns(["channels_used"])["channels_used"] == [1]
    assert store.description["channels_left_out"] == {"silent": 1, "too_short": 1}


def test_a_file_that_could_not_be_read_is_another_once_it_can(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The owner of a machine may read everything, so what the system says of permissions is put in its place."""
    rows = small_rows(folder)
    readable = plan(folder, rows).audio
    with monkeypatch.context() as patched:
        patched.setattr(pipeline.os, "access", lambda path, mode: not str(path).endswith(rows[0]["audio"]))
        assert plan(folder, rows).audio != readable
    assert plan(folder, rows).audio == readable


def test_rejects_have_no_split_of_the_importer_where_a_named_one_was_asked_for(folder: Path) -> None:
    rows = small_rows(folder, train=40)
    rows[0]["transcript"] = "..."
    assert build(folder / "plain", plan(folder, rows)).rejects()[0]["split"] == "train"
    assert build(folder / "named", plan(folder, rows, split="dependent")).rejects()[0]["split"] == ""


def test_a_link_to_an_empty_or_missing_folder_is_followed(folder: Path) -> None:
    rows = small_rows(folder)
    (folder / "empty").mkdir()
    for name in ("empty", "missing"):
        (folder / f"to_{name}").symlink_to(folder / name)
        assert build(folder / f"to_{name}", plan(folder, rows)).table.num_rows == 20
        assert sorted(path.name for path in (folder / name).iterdir()) == [
            "audio", "places.arrow", "rejects.parquet", "store.json", "utterances.arrow",
        ]  # fmt: skip


def test_folders_that_nothing_can_be_renamed_to_are_refused_before_decoding(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = plan(folder)
    (folder / "here").mkdir()
    monkeypatch.chdir(folder / "here")
    with pytest.raises(DataError, match="is the current folder"):
        build(Path("."), wanted)
    with pytest.raises(DataError, match="a disk is mounted"):
        build(Path("/proc"), wanted)
    (folder / "loop").symlink_to(folder / "loop")
    with pytest.raises(DataError):
        build(folder / "loop", wanted)
    assert not list(folder.glob(".*"))
