"""Which prompts of TORGO are read aloud, and what the others are."""

from __future__ import annotations

import pytest

from trainables.corpora.torgo_prompts import decoded, spoken


@pytest.mark.parametrize(
    ("prompt", "transcript"),
    [
        ("tear [as in tear up that paper]\n", "tear"),
        ('lead [as in "I will lead you"]', "lead"),
        ("[as in the metal] lead [not to lead", "lead"),
        ("  the   quick\r\nfox ", "the quick fox"),
        ("bee, tee & say oats for 50 seconds", "bee, tee & say oats for 50 seconds"),
        ("ABBA AAA", "ABBA AAA"),
        ("xx 35", "xx 35"),
    ],
)
def test_what_is_read_aloud_is_kept(prompt: str, transcript: str) -> None:
    assert spoken(prompt) == (transcript, "")


@pytest.mark.parametrize(
    ("prompt", "reason"),
    [
        ("", "empty_transcript"),
        (" \n", "empty_transcript"),
        ("...", "empty_transcript"),
        ("input/images/story_starters_17.jpg", "image_prompt"),
        ("input/images/CAT.JPEG\n", "image_prompt"),
        ("xxx", "marked_xxx"),
        ("the XXX fox", "marked_xxx"),
        ("[relax your mouth in its normal position]", "instruction"),
        ("[say Ah-P-Eee repeatedly]", "instruction"),
        ("[say 'eee' as in beat", "instruction"),
        ("ahpeee", "non_speech"),
        ("Ah-P-Eee", "non_speech"),
        ("pah tah kah", "non_speech"),
        ("PAHTAHKAH [repeat]", "non_speech"),
        ("eeepah", "non_speech"),
        ("ah for 5 seconds", "non_speech"),
        ("say 'oa' as in coat", "non_speech"),
        ("eee", "non_speech"),
        ("He will allow a rare lie\x1b[D\x1b[D\x1b[C", "damaged_prompt"),
        ("He will allow a rare lilyrare lieDDDDDDDDDCCCCCCCC", "damaged_prompt"),
    ],
)
def test_what_is_not_read_aloud_is_rejected_with_its_reason(prompt: str, reason: str) -> None:
    assert spoken(prompt) == ("", reason)


def test_text_is_utf_8_with_or_without_mark_or_windows_1252() -> None:
    assert decoded("\ufeffcafé".encode()) == decoded("café".encode("cp1252")) == "café"
    assert decoded(b"\x81") is None
