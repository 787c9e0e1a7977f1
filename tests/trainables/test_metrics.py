from __future__ import annotations

import pytest

from trainables.metrics import count_errors, summarise


@pytest.mark.parametrize(
    ("reference", "hypothesis", "substitutions", "deletions", "insertions", "hits"),
    [
        ("ONE TWO", "ONE TWO", 0, 0, 0, 2),
        ("ONE TWO", "ONE", 0, 1, 0, 1),
        ("ONE", "ONE TWO THREE", 0, 0, 2, 1),
        ("ONE TWO", "ONE SIX", 1, 0, 0, 1),
        ("ONE", "", 0, 1, 0, 0),
        ("", "ONE TWO", 0, 0, 2, 0),
        ("", "", 0, 0, 0, 0),
    ],
)
def test_word_errors_are_counted(reference, hypothesis, substitutions, deletions, insertions, hits) -> None:
    counts = count_errors(reference, hypothesis)
    assert (counts["substitutions"], counts["deletions"], counts["insertions"], counts["hits"]) == (
        substitutions, deletions, insertions, hits,
    )  # fmt: skip


def row(reference: str, hypothesis: str, group: str, loss: float = 1.0) -> dict:
    return {**count_errors(reference, hypothesis), "group": group, "loss": loss, "labels": len(reference)}


def test_wer_is_a_ratio_of_sums_and_not_a_mean_of_ratios() -> None:
    rows = [row("A", "B", "word"), row("A B C D E F G H I", "A B C D E F G H I", "sentence")]
    scores = summarise(rows, ["group"])
    assert scores["wer"] == pytest.approx(1 / 10)
    assert (scores["wer/word"], scores["wer/sentence"]) == (1.0, 0.0)


def test_wer_may_exceed_one_and_is_unknown_without_reference_words() -> None:
    assert summarise([row("A", "B C D", "word")], [])["wer"] == 3.0
    assert summarise([row("", "B", "word")], [])["wer"] is None


def test_log_likelihood_is_per_label() -> None:
    rows = [row("AB", "AB", "word", loss=3.0), row("ABCD", "ABCD", "word", loss=6.0)]
    assert summarise(rows, [])["nll_per_label"] == pytest.approx(9.0 / 6)
