"""The sample corpus that ships is small, complete, readable and cut into honest splits."""

from __future__ import annotations

import csv
import hashlib
import re
from collections.abc import Iterable
from itertools import product

import pytest
import soundfile

from trainables.corpora.sample import manifest_path

Row = dict[str, str]
SPLITS, GROUPS, SPEAKER_TYPES = ("train", "validation", "test"), ("word", "sentence"), ("control", "dysarthric", "l2")
COLUMNS = (
    "utt_id audio transcript speaker corpus group speaker_type l1 severity prompt_id split duration_seconds".split()
)
FOLDER = manifest_path().parent


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    with manifest_path().open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def values(rows: Iterable[Row], column: str, **wanted: str) -> set[str]:
    return {row[column] for row in rows if all(row[key] == value for key, value in wanted.items())}


def test_the_folder_fits_into_four_megabytes() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) <= 4_000_000


def test_the_manifest_has_every_column_and_only_severity_may_be_empty(rows: list[Row]) -> None:
    assert list(rows[0]) == COLUMNS
    for row in rows:
        assert all(row[name] for name in COLUMNS if name != "severity")
        assert bool(row["severity"]) == (row["speaker_type"] == "dysarthric")
    assert len(values(rows, "utt_id")) == len(rows)


def test_every_file_is_in_the_manifest_and_every_row_has_its_file(rows: list[Row]) -> None:
    on_disk = {path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.flac")}
    assert values(rows, "audio") == on_disk


def test_every_file_is_16_khz_mono_of_the_duration_that_the_manifest_says(rows: list[Row]) -> None:
    for row in rows:
        samples_S, rate_hz = soundfile.read(FOLDER / row["audio"], dtype="int16")
        assert (rate_hz, samples_S.ndim) == (16_000, 1)
        assert len(samples_S) / rate_hz == pytest.approx(float(row["duration_seconds"]), abs=0.001)
        assert abs(samples_S.astype(int)).max() > 10_000


def test_no_two_recordings_are_equal(rows: list[Row]) -> None:
    digests = {
        hashlib.sha256(soundfile.read(FOLDER / row["audio"], dtype="int16")[0].tobytes()).digest() for row in rows
    }
    assert len(digests) == len(rows)


def test_transcripts_are_capital_letters_of_a_small_vocabulary(rows: list[Row]) -> None:
    assert all(re.fullmatch(r"[A-Z]+( [A-Z]+)*", row["transcript"]) for row in rows)
    assert len({word for row in rows for word in row["transcript"].split()}) <= 14
    for row in rows:
        num_words = len(row["transcript"].split())
        assert num_words == 1 if row["group"] == "word" else 3 <= num_words <= 6


@pytest.mark.parametrize(("split", "group", "speaker_type"), list(product(SPLITS, GROUPS, SPEAKER_TYPES)))
def test_every_split_has_every_group_of_every_speaker_type(
    rows: list[Row], split: str, group: str, speaker_type: str
) -> None:
    assert values(rows, "utt_id", split=split, group=group, speaker_type=speaker_type)


def test_no_sentence_is_in_two_splits(rows: list[Row]) -> None:
    train, validation, test = (values(rows, "transcript", split=split, group="sentence") for split in SPLITS)
    assert not train & validation
    assert not train & test
    assert not validation & test


def test_equal_prompts_have_equal_ids(rows: list[Row]) -> None:
    assert len({(row["prompt_id"], row["transcript"]) for row in rows}) == len(values(rows, "prompt_id"))
    assert len(values(rows, "prompt_id")) == len(values(rows, "transcript"))


@pytest.mark.parametrize("speaker_type", SPEAKER_TYPES)
def test_one_speaker_of_each_type_is_heard_in_test_only(rows: list[Row], speaker_type: str) -> None:
    heard = values(rows, "speaker", split="train", speaker_type=speaker_type)
    heard |= values(rows, "speaker", split="validation", speaker_type=speaker_type)
    assert values(rows, "speaker", split="test", speaker_type=speaker_type) > heard


def test_dysarthric_speakers_lean_to_words_and_l2_speakers_to_sentences(rows: list[Row]) -> None:
    def count(group: str, speaker_type: str) -> int:
        return len(values(rows, "utt_id", split="train", group=group, speaker_type=speaker_type))

    assert count("word", "dysarthric") > 2 * count("sentence", "dysarthric")
    assert count("sentence", "l2") > 2 * count("word", "l2")
