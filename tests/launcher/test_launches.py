"""Which launches a trial was made by, from the list that its folder keeps."""

from __future__ import annotations

from typing import Any

import pytest

from launcher.launches import begun, changes, columns, handed_out, mixed

OLD = {"git_sha": "a" * 40, "git_patch": None, "python": "3.11.1", "packages": {"torch": "2.12"}, "started": "monday",
       "command": "python x", "host": "h"}  # fmt: skip
NEW = {**OLD, "git_sha": "b" * 40, "started": "tuesday"}
PATCHED = {**OLD, "git_patch": "0123.patch"}
NEWER_TORCH = {**OLD, "packages": {"torch": "2.13"}}
BLIND = {**OLD, "git_patch": "unknown"}


def taken(*steps: tuple[dict[str, Any], int, bool]) -> list[dict[str, Any]]:
    """Hand a trial to one launch after the other: (launch, attempts before it, whether it goes on)."""
    launches: list[dict[str, Any]] = []
    for launch, attempts, goes_on in steps:
        launches = handed_out(launches, launch, attempts=attempts, goes_on=goes_on)
    return launches


@pytest.mark.parametrize(
    ("steps", "is_mixed"),
    [
        ([(OLD, 0, False)], False),
        ([(OLD, 0, False), (OLD, 1, True)], False),
        ([(OLD, 0, False), (NEW, 1, True)], True),
        ([(OLD, 0, False), (PATCHED, 1, True)], True),
        ([(OLD, 0, False), (NEWER_TORCH, 1, True)], True),
        ([(OLD, 0, False), (NEW, 1, True), (OLD, 2, True)], True),
        # Nothing was left of the first launch, so the trial is the second's alone.
        ([(OLD, 0, False), (NEW, 1, False)], False),
        ([(OLD, 0, False), (NEW, 1, False), (NEW, 2, True)], False),
        # The first or the second launch never came to this trial.
        ([(OLD, 0, False), (NEW, 0, False)], False),
        ([(OLD, 0, False), (NEW, 1, True), (OLD, 1, True)], False),
        # What the first launch was made with is not known.
        ([], None),
        ([(OLD, 3, True)], None),
        ([(OLD, 3, True), (NEW, 4, True)], True),
        ([(BLIND, 0, False)], False),
        ([(BLIND, 0, False), (BLIND, 1, True)], None),
    ],
)
def test_a_trial_is_mixed_when_other_code_or_versions_went_on_with_it(steps: list, is_mixed: bool | None) -> None:
    assert mixed(taken(*steps)) is is_mixed


def test_changes_name_commit_patch_and_versions() -> None:
    other = {**NEW, "git_patch": "0123.patch", "python": "3.12", "packages": {"torch": "2.13", "ray": "2.60"}}
    assert changes(OLD, other) == [
        "commit aaaaaaaaaa -> bbbbbbbbbb", "changes none -> 0123.patch", "python 3.11.1 -> 3.12", "ray none -> 2.60",
        "torch 2.12 -> 2.13",
    ]  # fmt: skip
    assert changes(OLD, {**OLD, "started": "later", "command": "another", "host": "elsewhere"}) == []


def test_a_row_tells_of_the_launch_that_ran_the_trial_and_of_the_versions_of_its_worker() -> None:
    trial = {"launches": taken((OLD, 0, False), (NEW, 1, True))}
    row = columns(trial, {"status": "done", "attempts": 2, "python": "3.12", "packages": {"torch": "2.13+cu"}})
    assert (row["git_sha"], row["launched"], row["mixed_code"]) == (NEW["git_sha"], "tuesday", True)
    assert (row["python"], row["packages"]) == ("3.12", '{"torch": "2.13+cu"}')


def test_a_launch_that_ended_before_it_came_to_a_trial_has_no_part_in_its_row() -> None:
    trial = {"launches": taken((OLD, 0, False), (NEW, 1, True))}
    row = columns(trial, {"status": "interrupted", "attempts": 1})
    assert (row["git_sha"], row["mixed_code"]) == (OLD["git_sha"], False)
    assert begun(taken((OLD, 0, False)), {"status": "pending", "attempts": 0}) == []


def test_a_trial_of_an_older_version_has_empty_columns() -> None:
    assert set(columns({}, {"status": "done", "attempts": 1}).values()) == {None}
