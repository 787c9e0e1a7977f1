from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest

from launcher import results


def study_folder(folder: Path, **outcomes: dict) -> Path:
    """A study of the named trials, each with what its folder holds."""
    trials = []
    for seed, (name, files) in enumerate(outcomes.items(), start=1):
        place = results.trial_folder(folder, name)
        place.mkdir(parents=True)
        for file, content in files.items():
            if isinstance(content, pa.Table):
                pyarrow.parquet.write_table(content, place / file)
            else:
                (place / file).write_text(json.dumps(content))
        trials.append(
            {"trial_id": name, "variant": "reduction=sum", "seed": seed, "axes": {"reduction": "sum", "seed": seed},
             "configuration": {"Trainer Arguments": {"seed": seed}}}
        )  # fmt: skip
    content = {
        "study": "losses", "axes": {"reduction": ["sum"], "seed": [1]}, "data": {"fingerprint": "abc"},
        "environment": {"git_sha": None}, "trials": trials, "groups": ["group"],
    }  # fmt: skip
    results.write_json(folder / "study.json", content)
    return folder


ATTEMPT = {"attempts.json": {"attempts": 1}}
DONE = {**ATTEMPT, "result.json": {"status": "done", "wer": 0.5, "wer/word": 0.25, "updates": 7, "seconds": 2.0}}
FAILED = {**ATTEMPT, "failure.json": {"error": "ValueError: no", "traceback": "..."}}


def test_every_requested_trial_has_its_row_whatever_became_of_it(tmp_path: Path) -> None:
    frame = results.load(study_folder(tmp_path, a=DONE, b=FAILED, c=ATTEMPT, d={})).results
    assert list(frame["trial_id"]) == ["a", "b", "c", "d"]
    assert list(frame["status"]) == ["done", "failed", "interrupted", "pending"]
    assert frame["error"][1] == "ValueError: no"
    assert frame["wer/word"][0] == 0.25
    assert frame["wer"].isna().sum() == 3


def test_a_result_stands_even_when_an_earlier_attempt_failed(tmp_path: Path) -> None:
    assert results.load(study_folder(tmp_path, a={**FAILED, **DONE})).results["status"][0] == "done"


def test_a_study_without_any_result_has_its_table_too(tmp_path: Path) -> None:
    folder = study_folder(tmp_path, a={}, b=FAILED)
    results.write_tables(folder)
    assert len(pd.read_parquet(folder / "results.parquet")) == 2


def test_the_tables_of_a_study_are_the_union_of_its_trials(tmp_path: Path) -> None:
    one = pa.table({"trial_id": ["a"], "update": [1], "eval_wer/word": [0.5]})
    other = pa.table({"trial_id": ["b", "b"], "update": [1, 2]})
    folder = study_folder(tmp_path, a={**DONE, "history.parquet": one}, b={**DONE, "history.parquet": other})
    results.write_tables(folder)
    written = pd.read_parquet(folder / "history.parquet")
    assert written.equals(results.load(folder).history)
    assert list(written["trial_id"]) == ["a", "b", "b"]
    assert written["eval_wer/word"].isna().tolist() == [False, True, True]


def test_why_tune_gave_up_is_noted_only_when_the_worker_left_no_error(tmp_path: Path) -> None:
    folder = study_folder(tmp_path, a=FAILED, b=ATTEMPT)
    for name in ("a", "b"):
        results.record_failure(results.trial_folder(folder, name), "killed", "worker lost")
    assert list(results.load(folder).results["error"]) == ["ValueError: no", "killed"]


@pytest.mark.parametrize("kind", ["csv", "json", "parquet"])
def test_tables_are_exported(tmp_path: Path, kind: str) -> None:
    folder = study_folder(tmp_path, a=DONE, b=FAILED)
    path = results.export(folder, kind)[0]
    readers = {"csv": pd.read_csv, "parquet": pd.read_parquet, "json": lambda p: pd.read_json(p, lines=True)}
    assert list(readers[kind](path)["trial_id"]) == ["a", "b"]


def test_a_folder_that_is_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(results.ResultsError, match=r"no study\.json"):
        results.load(tmp_path)
    (tmp_path / "study.json").write_text("{half")
    with pytest.raises(results.ResultsError, match="cannot be read"):
        results.load(tmp_path)


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    results.write_json(path, {"old": 1})

    def fails(temporary: Path) -> None:
        temporary.write_text("half")
        raise OSError(28, "No space left on device")

    with pytest.raises(results.ResultsError, match="No space left"):
        results.write_whole(path, fails)
    assert json.loads(path.read_text()) == {"old": 1}
    assert list(tmp_path.iterdir()) == [path], "half a file would keep the room that it did not find"


def test_a_row_says_with_what_its_own_trial_was_made_and_not_the_last_launch(tmp_path: Path) -> None:
    def made(sha: str, attempts: int, goes_on: bool) -> dict:
        return {"command": "python x", "git_sha": sha, "git_patch": None, "python": "3.11", "packages": {"torch": "2.12"},
                "host": "h", "started": sha, "attempts": attempts, "goes_on": goes_on}  # fmt: skip

    alone = {"trial.json": {"identity": {"data": "own"}, "launches": [made("a", 0, False)]}}
    resumed = {"trial.json": {"identity": {}, "launches": [made("a", 0, False), made("b", 1, True)]}}
    worker = {"result.json": {**DONE["result.json"], "python": "3.12", "packages": {"torch": "2.13"}}}
    folder = study_folder(
        tmp_path,
        a={**DONE, **alone, **worker},
        b={**DONE, **resumed, "attempts.json": {"attempts": 2}},
        old=DONE,
        new={},
    )
    results.write_tables(folder)
    frame = pd.read_parquet(folder / "results.parquet").set_index("trial_id")
    assert frame["git_sha"].fillna("").to_dict() == {"a": "a", "b": "b", "old": "", "new": ""}
    assert frame["mixed_code"].to_dict() == {"a": False, "b": True, "old": None, "new": None}
    assert frame["packages"].fillna("").to_list() == ['{"torch": "2.13"}', '{"torch": "2.12"}', "", ""]
    assert frame["data_fingerprint"].to_list() == ["own", "abc", "abc", "abc"]
    assert frame["repeat"].to_list() == [0, 0, 0, 0]
