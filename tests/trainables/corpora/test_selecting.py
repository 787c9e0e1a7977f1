"""Several sources become one, and a store that knew no model is cut to what the models of a study can be trained on."""

from __future__ import annotations

import json
import pickle
import shutil
from pathlib import Path

import pytest
import soundfile
from conftest import tone, write_manifest
from model_worlds import checkpoint
from small_corpora import TINY, louder, rows_of, stored

from trainables.corpora.prepare import prepare
from trainables.corpora.store import Store
from trainables.errors import DataError
from trainables.vocabulary import Vocabulary


@pytest.fixture
def two(tmp_path: Path) -> tuple[Path, Path]:
    first = stored(tmp_path / "a", [{**row, "severity": "low"} for row in rows_of(tmp_path / "a", "alpha")])
    rows = rows_of(tmp_path / "b", "beta", train=6)
    louder(tmp_path / "b")
    return first, stored(tmp_path / "b", [{**row, "l1": "hindi"} for row in rows])


def test_a_store_made_before_any_model_was_known_is_cut_to_what_the_models_can_use(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a", "alpha")
    for name, transcript, split in (("long", "ONE TWO " * 12, "train"), ("odd", "QUEUE", "validation")):
        soundfile.write(tmp_path / "a" / f"{name}.wav", tone(0.5, 700 + len(name)), 16_000)
        row = {"utt_id": name, "audio": f"{name}.wav", "transcript": transcript, "split": split}
        rows.append({**rows[0], **row})
    path = stored(tmp_path / "a", rows)
    whole = Store.open(path)
    study = prepare(str(path), tmp_path / "stores", TINY)
    assert whole.description["rejects"] == {}
    assert study.description["rejects"] == {"transcript_too_long": 1, "unknown_characters": 1}
    assert {reject["utt_id"] for reject in study.rejects()} == {"long", "odd"}
    assert study.fingerprint != whole.fingerprint
    assert study.table.num_rows == whole.table.num_rows - 2
    ids = whole.columns(["utt_id"])["utt_id"]
    for row, utt_id in enumerate(study.columns(["utt_id"])["utt_id"]):
        assert (study.samples(row) == whole.samples(ids.index(utt_id))).all()
    direct = prepare(str(tmp_path / "a" / "manifest.csv"), tmp_path / "direct", TINY)
    assert direct.fingerprint == study.fingerprint


def test_what_each_model_of_a_study_lacks_is_left_out_for_all(tmp_path: Path) -> None:
    rows = rows_of(tmp_path / "a", "alpha")
    rows[0]["transcript"] = "ÄÖÜ"
    path = stored(tmp_path / "a", rows)
    base = ("base", checkpoint(tmp_path / "checkpoint"))
    labels = Vocabulary.from_transcripts(["ONE TWO THREE FOUR"])
    (tmp_path / "checkpoint" / "vocab.json").write_text(labels.as_json(), encoding="utf-8")
    assert prepare(str(path), tmp_path / "stores", TINY).table.num_rows == 20
    both = prepare(str(path), tmp_path / "stores", [*TINY, base])
    assert both.description["rejects"] == {"unknown_characters": 1}


def test_a_union_has_the_columns_and_the_audio_of_all(two: tuple[Path, Path], tmp_path: Path) -> None:
    first, second = map(Store.open, two)
    union = prepare(f"{two[0]},{two[1]}", tmp_path / "stores", TINY)
    assert union.table.num_rows == 34
    columns = union.columns(["corpus", "severity", "l1", "utt_id"])
    assert columns["severity"] == ["low"] * 20 + [""] * 14
    assert columns["l1"] == [""] * 20 + ["hindi"] * 14
    assert (union.samples(0) == first.samples(0)).all()
    assert (union.samples(20) == second.samples(0)).all()
    assert len(set(columns["utt_id"])) == 34
    assert union.description["source"].count("manifest.csv") == 2


def test_names_that_two_corpora_share_are_told_apart_by_the_corpus(two: tuple[Path, Path], tmp_path: Path) -> None:
    union = prepare(f"{two[0]},{two[1]}", tmp_path / "stores", TINY)
    names = union.columns(["utt_id"])["utt_id"]
    assert names[0] == "alpha/train_0"
    assert names[20] == "beta/train_0"
    assert names[11] == "train_11"  # only alpha has it


def test_the_fingerprint_of_a_union_does_not_depend_on_the_order_or_the_place(
    two: tuple[Path, Path], tmp_path: Path
) -> None:
    first = prepare(f"{two[0]},{two[1]}", tmp_path / "stores", TINY)
    again = prepare(f"{two[1]}, {two[0]}", tmp_path / "stores", TINY)
    assert again.path != first.path
    assert again.fingerprint == first.fingerprint
    assert first.fingerprint not in {Store.open(path).fingerprint for path in two}
    manifests = ",".join(str(path.parent / "manifest.csv") for path in two)
    assert prepare(manifests, tmp_path / "elsewhere", TINY).fingerprint == first.fingerprint


def test_a_manifest_with_training_utterances_only_can_be_united_with_others(tmp_path: Path) -> None:
    train = rows_of(tmp_path / "a", "alpha", validation=0, test=0)
    louder(tmp_path / "a")
    manifest = write_manifest(tmp_path / "a" / "m.csv", train)
    with pytest.raises(DataError, match="'validation'"):
        prepare(str(manifest), tmp_path / "stores", TINY)
    other = write_manifest(tmp_path / "a" / "n.csv", rows_of(tmp_path / "b", "beta"))
    shutil.move(other, tmp_path / "b" / "n.csv")
    assert prepare(f"{manifest},{tmp_path / 'b' / 'n.csv'}", tmp_path / "stores", TINY).table.num_rows == 32


def test_the_same_corpus_given_twice_is_refused_and_copies_in_another_are_rejected(tmp_path: Path) -> None:
    path = stored(tmp_path / "a", rows_of(tmp_path / "a", "alpha"))
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    with pytest.raises(DataError, match=r"'train_0' of the corpus 'alpha' is in .* give each corpus once"):
        prepare(f"{path},{copy}", tmp_path / "stores", TINY)
    with pytest.raises(DataError, match="each once"):
        prepare(f"{path},{path}", tmp_path / "stores", TINY)
    renamed = stored(tmp_path / "b", rows_of(tmp_path / "b", "beta", prefix="other-"))
    assert prepare(f"{path},{renamed}", tmp_path / "stores", TINY).description["rejects"] == {"duplicate": 20}


def test_a_comma_in_the_name_of_a_file_separates_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "words, sentences"
    rows = rows_of(folder, "alpha")
    assert prepare(str(write_manifest(folder / "manifest.csv", rows)), tmp_path, TINY).table.num_rows == 20


def test_a_store_that_was_made_anew_or_is_gone_is_noticed(two: tuple[Path, Path], tmp_path: Path) -> None:
    union = prepare(f"{two[0]},{two[1]}", tmp_path / "stores", TINY)
    description = json.loads((two[0] / "store.json").read_text())
    (two[0] / "store.json").write_text(json.dumps({**description, "notes": ["made anew"]}))
    with pytest.raises(DataError, match="made anew since"):
        Store.open(union.path).samples(0)
    shutil.rmtree(two[0])
    with pytest.raises(DataError, match="cannot be read"):
        Store.open(union.path).samples(0)
    assert len(Store.open(union.path).samples(20))


def test_a_store_of_another_layout_is_refused(two: tuple[Path, Path]) -> None:
    description = json.loads((two[0] / "store.json").read_text())
    (two[0] / "store.json").write_text(json.dumps({**description, "layout": 1}))
    with pytest.raises(DataError, match="layout 1; this version reads 2"):
        Store.open(two[0])


def test_a_store_is_sent_to_another_process_by_name(two: tuple[Path, Path]) -> None:
    store = Store.open(two[0])
    first = store.samples(0)
    sent = pickle.dumps(store)
    assert len(sent) < 8_000
    assert (pickle.loads(sent).samples(0) == first).all()


def test_all_readers_of_a_store_share_its_pages(two: tuple[Path, Path]) -> None:
    samples = Store.open(two[0]).samples(0)
    maps = Path("/proc/self/maps").read_text().splitlines()
    address = samples.__array_interface__["data"][0]
    ranges = [line.split() for line in maps if str(two[0] / "audio") in line]
    assert any(int(low, 16) <= address < int(high, 16) for low, high in (one[0].split("-") for one in ranges))


def test_a_union_keeps_how_each_of_its_parts_was_made(two: tuple[Path, Path], tmp_path: Path) -> None:
    study = prepare(",".join(map(str, two)), tmp_path / "stores", TINY)
    parts = study.description["selected_from"]
    for part, path in zip(parts, two, strict=True):
        own = Store.open(path).description
        names = ("source", "split", "options", "channels_left_out")
        assert {name: part[name] for name in names} == {name: own[name] for name in names}
