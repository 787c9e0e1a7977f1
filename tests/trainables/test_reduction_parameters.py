"""How a reduction is written reads back, and what is written wrongly is told in one sentence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainables import reductions
from trainables.errors import DataError
from trainables.reductions import parse

from reduction_cases import SPELLINGS, WEIGHTED  # isort: skip


@pytest.mark.parametrize("text", SPELLINGS)
def test_the_spelling_of_a_reduction_reads_back(text: str) -> None:
    assert parse(str(parse(text))) == parse(text)
    assert str(parse(str(parse(text)))) == str(parse(text))


names = st.text(st.characters(exclude_characters='"\n\r', exclude_categories=["Cs", "Cc", "Zl", "Zp"]), max_size=12)


@given(weights=st.dictionaries(names, st.floats(1e-6, 1e6), min_size=1, max_size=4))
def test_groups_of_any_name_read_back(weights: dict[str, float]) -> None:
    reduction = reductions.Reduction("dataset_weighted", weights)
    assert parse(str(reduction)) == reduction
    reduction.check(tuple(weights))


@given(alpha=st.floats(allow_nan=False, allow_infinity=False))
def test_no_digit_of_a_parameter_is_lost(alpha: float) -> None:
    reduction = reductions.Reduction("power", {"alpha": alpha})
    assert parse(str(reduction)) == reduction


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("meen", "unknown reduction 'meen' (did you mean 'mean'?); choose one of: sum, mean,"),
        ("", "unknown reduction ''; choose one of"),
        ("mean(", "choose one of"),
        ("mean)", "choose one of"),
        ("mean(alpha=1)", "reduction 'mean(alpha=1)': unknown parameter 'alpha'; mean takes no parameters"),
        ("mean(1)", "'1' is no parameter=number; mean takes no parameters"),
        ("power", "reduction 'power' needs alpha, as in power(alpha=0.5)"),
        ("power()", "needs alpha"),
        ("power(0.5)", "'0.5' is no parameter=number; write power(alpha=0.5)"),
        ("power(alpha=0.5,)", "'' is no parameter=number"),
        ("power(alpha=1, alpha=2)", "gives 'alpha' twice"),
        ("power(beta=1)", "unknown parameter 'beta'; power takes alpha"),
        ("power(alpha=half)", "alpha must be a number, got 'half'"),
        ("power(alpha=)", "alpha must be a number, got ''"),
        ("power(alpha=nan)", "alpha must be a finite number, got nan"),
        ("power(alpha=inf)", "alpha must be a finite number, got inf"),
        ("capped", "needs limit"),
        ("capped(limit=0)", "limit must be a finite number above 0, got 0"),
        ("focal(gamma=-1)", "gamma must be a finite number of at least 0, got -1"),
        ("group_temperature(temperature=0)", "temperature must be a number above 0, or inf, got 0"),
        ("group_dro(eta=0)", "eta must be a finite number above 0, got 0"),
        ("ctc_dro(alpha=-1)", "alpha must be a finite number above 0, got -1"),
        ("ctc_dro(q=1)", "unknown parameter 'q'; ctc_dro takes eta, alpha, batch_frames"),
        ("gradient_balanced(decay=1)", "decay must be between 0 and 1, both excluded, got 1"),
        ("dataset_weighted", "needs the weight of every group, as in dataset_weighted(word=1.3, sentence=0.7)"),
        ("dataset_weighted(1.3, 0.7)", "'1.3' is no parameter=number; write dataset_weighted(word=1.3, sentence=0.7)"),
        ("dataset_weighted(word=0)", "word must be a finite number above 0, got 0"),
    ],
)
def test_a_wrong_spelling_is_told(text: str, message: str) -> None:
    with pytest.raises(DataError) as raised:
        parse(text)
    assert message in str(raised.value)


@pytest.mark.parametrize(
    ("text", "groups", "message"),
    [
        (WEIGHTED, ("sentence", "word", "letter"), "left out: ['letter'], unknown: []; write for example dataset_we"),
        (WEIGHTED, ("word",), "left out: [], unknown: ['sentence']; write for example dataset_weighted(word=1.3)"),
        (WEIGHTED, ("Word", "sentence"), "left out: ['Word'], unknown: ['word']"),
        ("group_balanced", (), "weighs groups, and the training set has none"),
        ("group_dro", (), "weighs groups, and the training set has none"),
    ],
)
def test_groups_that_do_not_fit_are_told_before_training(text: str, groups: tuple[str, ...], message: str) -> None:
    with pytest.raises(DataError) as raised:
        parse(text).check(groups)
    assert message in str(raised.value)
