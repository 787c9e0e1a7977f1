"""What a launch writes into the folders of the trials that it takes, and what it warns of."""

from __future__ import annotations

import io
import json
import re
from pathlib import Path
from typing import Any

from rich.console import Console

from launcher import config, handover, results
from launcher.study import Trial
from search_spaces import losses

OLD: dict[str, Any] = {"command": "python x", "git_sha": "a" * 40, "git_patch": None, "python": "3.11",
                       "packages": {"torch": "2.12"}, "host": "h", "started": "monday"}  # fmt: skip
NEW = {**OLD, "git_sha": "b" * 40, "packages": {"torch": "2.13"}}


def trial(**values: str) -> Trial:
    overrides = ("reduction=mean", "seed=1", *(f"{key}={value}" for key, value in values.items()))
    (only,) = losses.study(config.load(None, overrides, defaults=losses.DEFAULTS)).with_data("data").trials()
    return only


def launch(out: Path, made_with: dict[str, Any], todo: Trial) -> tuple[dict[str, Any], str]:
    """Hand the trial to a launch; return its trial.json, and what was said."""
    place = results.trial_folder(out, todo.trial_id)
    console = Console(file=io.StringIO(), width=1000)
    rows = {todo.trial_id: results.outcome(place)}
    handover.describe([todo], handover.take_up([todo], rows, out, made_with, console), out)
    return results.trial_file(place), console.file.getvalue()  # type: ignore[attr-defined]


def begin(out: Path, todo: Trial, attempts: int, *, checkpoint: bool) -> None:
    """Leave what a worker leaves that began the trial."""
    place = results.trial_folder(out, todo.trial_id)
    (place / "attempts.json").write_text(json.dumps({"attempts": attempts}))
    if checkpoint:
        seal = place / "checkpoints" / "checkpoint-7" / "sealed.json"
        seal.parent.mkdir(parents=True)
        seal.write_text("{}")


def test_a_trial_says_what_it_is_and_who_took_it(tmp_path: Path) -> None:
    todo = trial()
    written, said = launch(tmp_path, OLD, todo)
    assert re.fullmatch("[0-9a-f]{32}", written.pop("folder_id"))
    assert written == {"identity": todo.identity, "launches": [{**OLD, "attempts": 0, "goes_on": False}]}
    assert config.load(results.trial_folder(tmp_path, todo.trial_id) / "trial.conf").as_dict() == (
        todo.configuration.as_dict()
    )
    assert said == ""


def test_the_folder_of_a_trial_keeps_its_name_over_launches_and_one_that_begins_anew_gets_another(
    tmp_path: Path,
) -> None:
    todo = trial()
    first, _ = launch(tmp_path, OLD, todo)
    second, _ = launch(tmp_path, {**OLD, "started": "tuesday"}, todo)
    assert [entry["started"] for entry in second["launches"]] == ["tuesday"]  # the first one began nothing
    assert second["folder_id"] == first["folder_id"]
    place = results.trial_folder(tmp_path, todo.trial_id)
    place.rename(tmp_path / "set aside")
    third, _ = launch(tmp_path, OLD, todo)
    assert third["folder_id"] != first["folder_id"]


def test_going_on_with_other_code_is_told_at_the_start_and_recorded(tmp_path: Path) -> None:
    todo = trial()
    launch(tmp_path, OLD, todo)
    begin(tmp_path, todo, 1, checkpoint=True)
    written, said = launch(tmp_path, NEW, todo)
    assert [entry["git_sha"] for entry in written["launches"]] == [OLD["git_sha"], NEW["git_sha"]]
    assert "(commit aaaaaaaaaa -> bbbbbbbbbb, torch 2.12 -> 2.13)" in said
    assert todo.trial_id in said


def test_beginning_anew_or_going_on_with_the_same_code_is_no_warning(tmp_path: Path) -> None:
    todo = trial()
    launch(tmp_path, OLD, todo)
    begin(tmp_path, todo, 1, checkpoint=False)
    assert launch(tmp_path, NEW, todo)[1] == ""
    begin(tmp_path, todo, 2, checkpoint=True)
    assert launch(tmp_path, {**NEW, "started": "later"}, todo)[1] == ""


def test_going_on_from_what_nobody_recorded_is_told(tmp_path: Path) -> None:
    todo = trial()
    results.trial_folder(tmp_path, todo.trial_id).mkdir(parents=True)
    begin(tmp_path, todo, 1, checkpoint=True)
    assert "the code was not recorded" in launch(tmp_path, NEW, todo)[1]


def test_passwords_in_addresses_are_in_no_file_of_a_trial(tmp_path: Path) -> None:
    todo = trial(dataset_path="s3://user:S3CRET@bucket/store")
    launch(tmp_path, OLD, todo)
    written = [path.read_text() for path in tmp_path.rglob("*") if path.is_file()]
    assert len(written) == 2
    assert not any("S3CRET" in text for text in written)
    assert any("s3://user:***@bucket/store" in text for text in written)
