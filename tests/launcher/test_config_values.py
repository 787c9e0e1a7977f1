"""Promises of launcher.config_values: how lists, ranges and quotes are read and written."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config_values import ConfigurationError, Text, read_text, split_values, write_text


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("sum", ["sum"]),
        ("sum, power(alpha=0.25), capped(limit=3)", ["sum", "power(alpha=0.25)", "capped(limit=3)"]),
        ("mix(a, b(c, d)), [1, 2]", ["mix(a, b(c, d))", "[1, 2]"]),
        ('"a, b", c', ['"a, b"', "c"]),
        ("don't, 5\" disk", ["don't", '5" disk']),
        ("1, 2,", ["1", "2"]),
        ("2022..2026", ["2022", "2023", "2024", "2025", "2026"]),
        ("-1..1, 7", ["-1", "0", "1", "7"]),
        ("../data, a..b, 0.1..0.3", ["../data", "a..b", "0.1..0.3"]),
    ],
)
def test_commas_separate_values_outside_brackets_and_quotes(text: str, values: list[str]) -> None:
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a value is missing"),
        ("a,,b", "a value is missing"),
        (",", "a value is missing"),
        ("power(alpha=1", r"'\)' is missing"),
        ("power)", "closes no bracket"),
        ("a(]", "closes no bracket"),
        ('"a', "is missing"),
        ("5..1", "has 0 values"),
        ("0..10000", "has 10001 values; 1 to 10000 are allowed"),
    ],
)
def test_a_list_that_cannot_be_split_says_why(text: str, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        split_values(text)


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")))
def test_words_in_quotes_come_back_as_they_were(words: str) -> None:
    written = write_text(words)
    assert read_text(written) == Text(words, quoted=True)
    assert split_values(written) == [written]
    assert not set(written) & set("#;$\n\r")


@pytest.mark.parametrize("words", ["a\0b", "\ud800"])
def test_words_that_no_file_can_hold_are_refused(words: str) -> None:
    with pytest.raises(ValueError, match="it holds a"):
        read_text(words, literal=True)
