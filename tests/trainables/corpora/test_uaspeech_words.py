"""The words of UA-Speech: label files, and the spreadsheet saved as .csv or .xlsx."""

from __future__ import annotations

from pathlib import Path

import pytest
from dysarthric_trees import BLOCKS, UA_CODES, UA_WORDS, ua_labels, ua_speaker, ua_word, xlsx

from trainables.corpora import uaspeech
from trainables.corpora.uaspeech_words import Utterance, parse, read
from trainables.errors import DataError

ROWS = [["WORD", "FILE NAME"], *([word.lower(), prompt] for prompt, word in UA_WORDS.items())]


def label(name: str, *lines: str) -> str:
    return "\n".join(["#!MLF!#", f'"*/{name}.lab"', *lines, "."]) + "\n"


@pytest.fixture
def unlabelled(tmp_path: Path) -> Path:
    """A copy without label files."""
    ua_speaker(tmp_path, "F03", "audio/original", "M5")
    (tmp_path / "mlf/F03/F03_word.mlf").unlink()
    (tmp_path / "doc").mkdir()
    return tmp_path


@pytest.mark.parametrize(
    ("stem", "expected"),
    [
        ("F03_B1_C1_M5", (Utterance("F03", "B1", "C1"), "M5")),
        ("CM13_B2_UW100_M8", (Utterance("CM13", "B2", "UW100"), "M8")),
        ("M16_B3_LZ_M2", (Utterance("M16", "B3", "LZ"), "M2")),
        ("F03_B1_C1", None),
        ("F03_B1_C1_M9", None),
        ("F03_B1_D10_M5", None),
        ("xF03_B1_C1_M5", None),
    ],
)
def test_a_file_name_says_speaker_block_word_and_microphone(stem: str, expected: tuple[Utterance, str] | None) -> None:
    assert parse(stem) == expected


def test_only_uncommon_words_carry_their_block() -> None:
    assert [Utterance("F03", "B2", code).prompt_id for code in UA_CODES] == [*UA_CODES[:-1], "B2_UW1"]


@pytest.mark.parametrize("lines", [("YES",), ("0 5000000 YES",), ("0 5000000 YES -512.25",)])
def test_labels_with_and_without_times_are_read(tmp_path: Path, lines: tuple[str, ...]) -> None:
    ua_labels(tmp_path, "F03", label("F03_B1_CW100_M5", *lines))
    assert read(tmp_path).by_prompt == {"CW100": "YES"}


def test_a_label_of_several_lines_is_one_text(tmp_path: Path) -> None:
    ua_labels(tmp_path, "F03", label("F03_B1_UW1_M5", "THIRTY", "FIVE").replace("*/", "C:\\\\corpus\\\\"))
    assert read(tmp_path).by_prompt == {"B1_UW1": "THIRTY FIVE"}


def test_each_recording_keeps_its_own_label_where_label_files_disagree(tmp_path: Path) -> None:
    for speaker, word in (("F02", "HAHA"), ("F03", "HA-HA"), ("M04", "HA-HA")):
        ua_labels(tmp_path, speaker, label(f"{speaker}_B1_UW9_M5", word))
    words = read(tmp_path)
    assert words.word(Utterance("F02", "B1", "UW9"), "M5") == "HAHA"
    assert words.word(Utterance("M06", "B1", "UW9"), "M5") == "HA-HA"
    assert "disagree about the word of B1_UW9" in words.notes[0]


@pytest.mark.parametrize("kind", ["csv", "xlsx", "quoted csv"])
def test_without_label_files_the_spreadsheet_gives_the_words(unlabelled: Path, kind: str) -> None:
    if kind == "xlsx":
        xlsx(unlabelled / "doc" / "speaker_wordlist.xlsx", ROWS)
    else:
        quote = '"' if kind == "quoted csv" else ""
        lines = "\n".join(",".join(f"{quote}{cell}{quote}" for cell in row) for row in ROWS)
        (unlabelled / "doc" / "speaker wordlist.csv").write_text("\ufeff" + lines, encoding="utf-8")
    found = uaspeech.find(unlabelled, {})
    assert {(one.more["block"], one.more["prompt_id"]): one.transcript.upper() for one in found.recordings} == {
        (block, f"{block}_{code}" if code == "UW1" else code): ua_word(block, code)
        for block in BLOCKS
        for code in UA_CODES
    }
    assert not found.rejects


def test_columns_of_the_spreadsheet_may_stand_anywhere(tmp_path: Path) -> None:
    rows = [["", "File Name", "", "Word"], ["", "CW1", "", "the"], [], ["", "B2_UW5", "x", "roly-poly"]]
    xlsx(tmp_path / "speaker_wordlist.xlsx", rows)
    assert read(tmp_path).by_prompt == {"CW1": "the", "B2_UW5": "roly-poly"}


def test_label_files_count_where_the_spreadsheet_differs_and_it_fills_their_gaps(unlabelled: Path) -> None:
    ua_labels(unlabelled, "F03", label("F03_B1_CW1_M5", "THEE"))
    (unlabelled / "doc" / "speaker_wordlist.csv").write_text("FILE NAME,WORD\nCW1,the\nD3,three\n")
    words = read(unlabelled)
    assert words.by_prompt == {"CW1": "THEE", "D3": "three"}
    assert words.notes == ("the spreadsheet has other words than the label files, which count, for CW1",)


def test_without_any_word_list_the_message_says_what_to_get(unlabelled: Path) -> None:
    with pytest.raises(DataError, match=r"expected mlf/<SPEAKER>/<SPEAKER>_word\.mlf, or .* copy one of them there"):
        uaspeech.find(unlabelled, {})
    (unlabelled / "doc" / "speaker_wordlist.xls").write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(DataError, match=r"open .*speaker_wordlist\.xls and save its sheet Word_filename beside it"):
        uaspeech.find(unlabelled, {})


def test_a_label_file_that_is_none_is_refused(tmp_path: Path) -> None:
    path = ua_labels(tmp_path, "F03", "<html>404</html>")
    with pytest.raises(DataError, match="does not begin with '#!MLF!#'"):
        read(tmp_path)
    path.write_bytes(b"#!MLF!#\n\xff\xfe")
    with pytest.raises(DataError, match="cannot be read as UTF-8"):
        read(tmp_path)


def test_a_spreadsheet_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "speaker_wordlist.xlsx"
    path.write_bytes(b"PK\x03\x04 half a download")
    with pytest.raises(DataError, match=r"cannot be read as \.xlsx"):
        read(tmp_path)
    xlsx(path, [["Name", "Age"], ["F03", "51"]])
    with pytest.raises(DataError, match="no sheet has the columns FILE NAME, WORD"):
        read(tmp_path)
    xlsx(path, ROWS, extra_member=("xl/worksheets/sheet0.xml", b"<worksheet><row>"))
    with pytest.raises(DataError, match=r"cannot be read as \.xlsx"):
        read(tmp_path)
    path.with_suffix(".csv").write_text("a;b\n")
    with pytest.raises(DataError, match="expected the columns WORD and FILE NAME"):
        read(tmp_path)


def test_a_spreadsheet_that_unpacks_to_a_flood_is_refused(tmp_path: Path) -> None:
    xlsx(tmp_path / "speaker_wordlist.xlsx", ROWS, extra_member=("xl/worksheets/sheet0.xml", b"\0" * (65 * 2**20)))
    with pytest.raises(DataError, match="unpacks to 68157440 bytes; allowed: 67108864"):
        read(tmp_path)
