"""What importers share: options, folders in a stable order, a look at files."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from dysarthric_trees import write_header_only, write_speech

from trainables.corpora import importing
from trainables.corpora.recordings import Found
from trainables.errors import DataError

ALLOWED = {"mic": ("head", "array"), "folder": ()}


def test_the_first_value_is_the_default_and_free_text_defaults_to_nothing() -> None:
    assert importing.settings("c", {}, ALLOWED) == {"mic": "head", "folder": ""}
    assert importing.settings("c", {"folder": "any", "mic": "array"}, ALLOWED) == {"mic": "array", "folder": "any"}


def test_an_importer_without_options_says_so() -> None:
    with pytest.raises(DataError, match="unknown option 'mic'; allowed: none"):
        importing.settings("c", {"mic": "head"}, {})


def test_files_are_listed_by_name_whatever_the_order_they_were_made_in(tmp_path: Path) -> None:
    names = [f"{number:02d}" for number in range(30)]
    for name in random.Random(1).sample(names, len(names)):
        (tmp_path / f"{name}.{'WAV' if name > '15' else 'wav'}").write_bytes(b"")
        (tmp_path / f"._{name}.wav").write_bytes(b"")
        (tmp_path / f"{name}.txt").write_bytes(b"")
    assert list(importing.files(tmp_path, ".wav")) == names
    assert importing.files(tmp_path, ".wav")["16"] == tmp_path / "16.WAV"


def test_folders_are_folders_and_links_to_folders(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "circle").symlink_to("circle")
    (tmp_path / "file").write_text("")
    assert list(importing.folders(tmp_path)) == ["a", "b"]


def test_a_folder_that_cannot_be_listed_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none cannot be listed: No such file"):
        importing.folders(tmp_path / "none")


def test_a_long_listing_is_cut(tmp_path: Path) -> None:
    for number in range(11):
        (tmp_path / f"{number:02d}").write_text("")
    assert importing.found_instead(tmp_path).endswith("06, 07 and 3 more")


def test_a_sound_file_without_samples_is_known_without_decoding_it(tmp_path: Path) -> None:
    assert importing.problem(write_speech(tmp_path / "good.wav")) is None
    write_header_only(tmp_path / "header.wav")
    reasons = [importing.problem(tmp_path / name) for name in ("header.wav", "gone.wav", ".")]
    assert [reason[0] for reason in reasons if reason] == ["empty", "missing_file", "missing_file"]


def test_what_was_found_in_parts_is_joined_in_their_order() -> None:
    parts = [Found((), (), ("first",)), Found((), (), ("second",))]
    assert importing.joined(iter(parts), ["last"]).notes == ("first", "second", "last")


def test_names_that_differ_in_the_case_of_their_ending_are_both_kept(tmp_path: Path) -> None:
    for name in ("a.wav", "a.WAV", "a.Wav", "a.WAV.wav", "b.WAV"):
        (tmp_path / name).write_bytes(b"")
    found = importing.files(tmp_path, ".wav")
    assert {key: path.name for key, path in found.items()} == {
        "a": "a.wav", "a.WAV": "a.WAV.wav", "a.Wav": "a.Wav", "a.WAV.WAV": "a.WAV", "b": "b.WAV",
    }  # fmt: skip
    assert [path.name for path in found.values()] == sorted(path.name for path in found.values())
