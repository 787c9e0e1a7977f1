"""A named split replaces the data's own, everywhere at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import small_rows, write_manifest

from trainables import preflight
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
