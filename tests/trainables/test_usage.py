"""A named split replaces the data's own, everywhere at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import small_rows, write_manifest

from trainables import preflight
from trainables.corpora import commands
from trainables.corpora import prepare as corpora
from trainables.corpora.store import Store
from trainables.errors import DataError
from trainables.selection import Selection
from trainables.usage import WHOLE, Usage


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return preflight.prepare("sample", tmp_path_factory.mktemp("stores"), [{"model_type": "tiny"}], ["group"])


def test_without_a_named_split_the_data_are_as_they_are(store) -> None:
    rows, columns = WHOLE.columns(store, ("group",))
    assert rows == list(range(405))
    assert columns["split"] == store.columns(["split"])["split"]


def test_leaving_one_speaker_out_tests_on_that_speaker_alone(store) -> None:
    speaker = sorted(set(store.columns(["speaker"])["speaker"]))[0]
    _, columns = Usage(f"loso(speaker={speaker})").columns(store)
    tested = {who for who, split in zip(columns["speaker"], columns["split"]) if split == "test"}
    others = {who for who, split in zip(columns["speaker"], columns["split"]) if split != "test"}
    assert tested == {speaker}
    assert speaker not in others


def test_filters_move_nobody_to_another_split(store) -> None:
    _, whole = Usage("speakers").columns(store)
    _, part = Usage("speakers", Selection(filter_controls=True, debug_dataset=0.5)).columns(store)
    split_of = dict(zip(whole["utt_id"], whole["split"]))
    assert 0 < len(part["utt_id"]) < len(whole["utt_id"])
    assert all(split_of[utt_id] == split for utt_id, split in zip(part["utt_id"], part["split"]))


def test_what_a_model_cannot_use_moves_nobody_to_another_split(tmp_path: Path) -> None:
    """Else an utterance that one study trains on would be tested in the next, whose models can use others."""
    rows = small_rows(tmp_path, train=60, validation=0, test=0)
    rows = [{**row, "speaker": "s", "prompt_id": row["utt_id"]} for row in rows]
    manifest = write_manifest(tmp_path / "manifest.csv", rows)
    commands.prepare("manifest", manifest, tmp_path / "store")
    whole = Store.open(tmp_path / "store")
    _, before = Usage("dependent").columns(whole)
    split_of = dict(zip(before["utt_id"], before["split"]))
    for place in (place for place, row in enumerate(rows) if split_of[row["utt_id"]] == "test"):
        rows[place]["transcript"] += " ONE TWO" * 30
    commands.prepare("manifest", write_manifest(tmp_path / "manifest.csv", rows), tmp_path / "other")
    named = {"test_set": "validation", "split": "dependent"}
    study = corpora.prepare(str(tmp_path / "other"), tmp_path / "stores", [("tiny", None)], needs=())
    assert study.description["rejects"] == {"transcript_too_long": 6}
    rows_left, after = Usage.of(named).columns(study)
    assert rows_left == list(range(54))
    assert after["split"] == [split_of[utt_id] for utt_id in after["utt_id"]]


def test_an_unknown_split_is_told_before_any_trial(store, tmp_path: Path) -> None:
    sections = {
        "Model Configuration": {"model_type": "tiny"},
        "Training Configuration": {"test_set": "validation", "split": "random"},
    }
    with pytest.raises(DataError, match="choose one of: "):
        preflight.ready(str(store.path), tmp_path, [sections], ["group"])


def test_a_manifest_too_small_for_a_split_says_so(tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "manifest.csv", small_rows(tmp_path))
    small = preflight.prepare(str(manifest), tmp_path / "stores", [{"model_type": "tiny"}], ["group"])
    with pytest.raises(DataError, match="without utterances"):
        Usage("blocks").columns(small)
