from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet
import pytest

from launcher import why, why_command
from launcher.config import ConfigurationError
from launcher.study import Study
from launcher.trial_search import Place, find
from tests.launcher.studies import ONE_ATTEMPT, finished, put, study, write_study

LAUNCH = {
    "command": "python launch.py",
    "git_sha": "aaa",
    "python": "3.11.7",
    "packages": {"torch": "2.13"},
    "host": "ward",
}


def launched(out: Path, made: Study, **launch: Any) -> list[str]:
    """Write a study whose trials are all done, with what their launch recorded."""
    write_study(out, made)
    for trial in made.trials():
        recorded = {"identity": trial.identity, "launches": [{**LAUNCH, **launch}]}
        put(out, trial.trial_id, trial=recorded, attempts=ONE_ATTEMPT, result=finished())
    return [trial.trial_id for trial in made.trials()]


def told(words: tuple[str, str], *outs: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    why_command.execute(words, outs, as_json=True)
    return json.loads(capsys.readouterr().out)


def test_what_makes_two_ids_differ_is_told_key_by_key(tmp_path: Path, capsys) -> None:
    first, _, _, last = launched(tmp_path, study("reduction=sum,mean", "seed=1,2"))
    found = told((first, last), tmp_path, capsys=capsys)
    assert {one["key"]: (one["one"], one["other"]) for one in found["identity"]} == {
        "configuration.Trainer Arguments.seed": (1, 2),
        "configuration.Model Configuration.reduction": ("sum", "mean"),
    }
    assert found["without_effect"] == []
    assert found["outcome"]["wer"] == [0.5, 0.5]


def test_the_same_cell_on_other_data_or_of_other_code_says_so(tmp_path: Path, capsys) -> None:
    (one,) = launched(tmp_path / "one", study("reduction=sum", "seed=1"))
    (other,) = launched(tmp_path / "other", study("reduction=sum", "seed=1", data="others"))
    found = told((one, other), tmp_path / "one", tmp_path / "other", capsys=capsys)
    assert [(found["key"], found["one"], found["other"]) for found in found["identity"]] == [
        ("data", "fingerprint", "others")
    ]


def test_what_differs_without_effect_stands_apart(tmp_path: Path, capsys) -> None:
    (one,) = launched(tmp_path / "one", study("reduction=sum", "seed=1", "learning_rate=0.1", "micro_batch_seconds=9"))
    (other,) = launched(
        tmp_path / "other", study("reduction=sum", "seed=1", "learning_rate=0.2"), git_sha="bbb", packages={"torch": "2.14"}
    )  # fmt: skip
    found = told((one, other), tmp_path / "one", tmp_path / "other", capsys=capsys)
    assert [one["key"] for one in found["identity"]] == ["configuration.Trainer Arguments.learning_rate"]
    assert {one["key"]: (one["one"], one["other"]) for one in found["without_effect"]} == {
        "Training Configuration.micro_batch_seconds": (9.0, 60.0),
        "launch.git_sha": ("aaa", "bbb"),
        "launch.packages.torch": ("2.13", "2.14"),
    }


def test_the_size_of_an_update_makes_the_id_and_not_the_batches_it_is_cut_into(tmp_path: Path, capsys) -> None:
    (one,) = launched(tmp_path / "one", study("reduction=sum", "seed=1"))
    (other,) = launched(tmp_path / "other", study("reduction=sum", "seed=1", "gradient_accumulation_steps=2"))
    found = told((one, other), tmp_path / "one", tmp_path / "other", capsys=capsys)
    assert [one["key"] for one in found["identity"]] == ["configuration.Trainer Arguments.update_size"]
    assert found["without_effect"] == []


def test_the_same_trial_twice_is_compared_file_by_file(tmp_path: Path, capsys) -> None:
    made = study("reduction=sum", "seed=1")
    (one,) = launched(tmp_path / "one", made)
    launched(tmp_path / "other", made)
    rows = [{"utt_id": str(number), "loss": float(number)} for number in range(5)]
    for name, count in (("one", 5), ("other", 5)):
        path = tmp_path / name / "trials" / one / "utterances.parquet"
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows[:count]), path)
    found = told((one, one), tmp_path / "one", tmp_path / "other", capsys=capsys)
    assert found["same_trial"]
    assert found["agreement"] == {"result.json": "equal", "utterances.parquet": "equal"}
    rows[3]["loss"] = float("nan")
    pyarrow.parquet.write_table(pa.Table.from_pylist(rows), path)
    put(tmp_path / "other", one, result=finished(wer=0.75, seconds=1.0))
    found = told((one, one), tmp_path / "one", tmp_path / "other", capsys=capsys)
    assert found["agreement"] == {"result.json": "wer differ", "utterances.parquet": "1 of 5 rows differ"}


@pytest.mark.parametrize("overrides", [(), ("do_train=False",), ("learning_rate=0.5", "filter_datasets=torgo,sap")])
def test_without_trial_json_the_identity_is_worked_out_and_proved_by_the_hash(tmp_path: Path, overrides) -> None:
    made = study("reduction=sum", "seed=3", *overrides)
    write_study(tmp_path, made)
    (trial,) = made.trials()
    assert why.know(Place(trial.trial_id, tmp_path)).identity == trial.identity


def test_what_cannot_be_worked_out_is_said(tmp_path: Path, capsys) -> None:
    made = study("load_model=/models/a,/models/b", "reduction=sum", "seed=1")
    made = made.with_data("fingerprint", {"/models/a": "1" * 64, "/models/b": "2" * 64})
    write_study(tmp_path, made)
    one, other = (trial.trial_id for trial in made.trials())
    why_command.execute((one, other), [tmp_path], as_json=False)
    text = capsys.readouterr().out
    assert "What makes the ids differ is not known" in text
    assert "Training Configuration.load_model: /models/a | /models/b" in text


def test_the_text_names_both_and_lists_what_matters_first(tmp_path: Path, capsys) -> None:
    one, other = launched(tmp_path, study("reduction=sum,mean", "seed=1"))
    why_command.execute((one, other), [tmp_path], as_json=False)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"A {one}  [done]")
    assert lines[1].startswith(f"B {other}  [done]")
    assert lines[3:5] == ["What makes the ids differ (A | B):", "  Model Configuration.reduction: sum | mean"]
    assert "  wer: 0.5 | 0.5" in lines


def test_a_trial_is_found_by_its_beginning_its_hash_and_its_folder(tmp_path: Path) -> None:
    one, _ = launched(tmp_path, study("reduction=sum,mean", "seed=1"))
    for words in (one, one[:-3], one.rpartition("-")[2], str(tmp_path / "trials" / one)):
        assert [place.trial_id for place in find(words, [tmp_path])] == [one]


def test_a_beginning_of_several_ids_lists_them(tmp_path: Path) -> None:
    one, other = launched(tmp_path, study("reduction=sum", "seed=1,2"))
    with pytest.raises(ConfigurationError, match=f"'sum' begins several ids: {one}, {other}; write more"):
        find("sum", [tmp_path])


def test_an_id_that_is_not_there_is_one_message_with_what_is_near(tmp_path: Path) -> None:
    one, _ = launched(tmp_path, study("reduction=sum,mean", "seed=1"))
    with pytest.raises(ConfigurationError, match=f"no trial 'sun-s1' in .*; did you mean {one}"):
        find("sun-s1", [tmp_path])
    with pytest.raises(ConfigurationError, match="no trial 'x'"):
        find("x", [tmp_path])


def test_one_folder_alone_has_nothing_to_be_compared_with(tmp_path: Path) -> None:
    (one,) = launched(tmp_path, study("reduction=sum", "seed=1"))
    with pytest.raises(ConfigurationError, match="both are the trial"):
        why_command.execute((one, one), [tmp_path], as_json=False)


def test_a_folder_that_is_no_study_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="holds no study"):
        find("sum", [tmp_path])


def test_without_any_study_the_message_says_where_was_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ConfigurationError, match="no trial 'sum' in results/, which holds no study; name one with --out"
    ):
        find("sum", [])


def test_what_an_older_version_wrote_is_not_known_and_no_crash(tmp_path: Path, capsys) -> None:
    one, other = launched(tmp_path, study("reduction=sum,mean", "seed=1"))
    path = tmp_path / "study.json"
    content = json.loads(path.read_text())
    for trial in content["trials"]:
        trial["configuration"]["Model Configuration"]["a_key_of_once"] = 1
        (tmp_path / "trials" / trial["trial_id"] / "trial.json").unlink()
    path.write_text(json.dumps(content))
    found = told((one, other), tmp_path, capsys=capsys)
    assert found["identity"] is None
    assert [one["key"] for one in found["without_effect"]] == ["Model Configuration.reduction"]


def test_of_a_trial_that_failed_the_error_is_told(tmp_path: Path, capsys) -> None:
    one, other = launched(tmp_path, study("reduction=sum,mean", "seed=1"))
    (tmp_path / "trials" / other / "result.json").unlink()
    put(tmp_path, other, failure={"error": "ValueError: no\nbecause"})
    why_command.execute((one, other), [tmp_path], as_json=False)
    assert capsys.readouterr().out.splitlines()[-1] == "B failed: ValueError: no"
    assert told((one, other), tmp_path, capsys=capsys)["trials"][1]["error"] == "ValueError: no\nbecause"
