"""Folders of results that somebody sent: read as data, from nowhere else, and shown without effect on the terminal."""

from __future__ import annotations

import ast
import json
import os
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet
import pytest
from click.testing import CliRunner
from conftest import small_rows, write_manifest

from launcher import clips, printable, progress, reading, results, watch
from launcher.cli import cli
from launcher.config_values import ConfigurationError
from tests.launcher.report_tables import study_tables, write_study
from trainables.corpora import commands
from trainables.corpora.store import Store

ROOT = Path(__file__).resolve().parents[2]
TABLES = replace(study_tables(num_utterances=8), results=study_tables(num_utterances=8).results.assign(repeat=0))
FIRST = str(TABLES.results["trial_id"].iloc[0])
SECRET = "the diary of the reader"
HOSTILE = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202egnp.exe\rDone"
READERS = (["status"], ["status", "--watch", "--json"], ["report"], ["export"], ["dashboard"], ["compare", "other"])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "diary.json").write_text(json.dumps({"error": SECRET, "attempts": 1}))
    return write_study(TABLES, tmp_path / "sent")


def refused(words: list[str], folder: Path) -> str:
    """Run a command on the folder; it has to refuse, without a word of what lies outside."""
    ran = CliRunner().invoke(cli, [words[0], str(folder), *words[1:]])
    assert isinstance(ran.exception, reading.ResultsError), (ran.output, ran.exception)
    assert SECRET not in ran.output + str(ran.exception)
    return str(ran.exception)


def rewrite(folder: Path, **trial: Any) -> None:
    """Change what study.json says of its first trial."""
    study = json.loads((folder / "study.json").read_text())
    study["trials"][0].update(trial)
    (folder / "study.json").write_text(json.dumps(study))


@pytest.mark.parametrize("words", [words for words in READERS if words != ["dashboard"]], ids=" ".join)
def test_the_id_of_a_trial_leads_nowhere_else(folder: Path, words: list[str]) -> None:
    (folder.parent / "failure.json").write_text(json.dumps({"error": SECRET}))
    rewrite(folder, trial_id="../..")
    assert "has the id '../..'" in refused(words, folder)


@pytest.mark.parametrize("name", ["../x", "/etc", "..", ".", "", "a/b", "a\\b", "a\nb", "a\0b", ".hidden", "x" * 300])
def test_a_name_that_is_no_id_of_a_trial_is_refused(folder: Path, name: str) -> None:
    rewrite(folder, trial_id=name)
    with pytest.raises(reading.ResultsError, match="letters, digits and"):
        results.read_study(folder)


@pytest.mark.parametrize("words", READERS, ids=" ".join)
@pytest.mark.parametrize(
    "name",
    [f"trials/{FIRST}/failure.json", f"trials/{FIRST}/more/deep.json", "export", "report_data", "rejects.parquet"],
)
def test_a_link_that_leads_out_is_refused_by_every_reader(folder: Path, words: list[str], name: str) -> None:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).symlink_to(folder.parent / "diary.json")
    assert "is a link that leads out of the study" in refused(words, folder)


def test_links_within_a_study_and_to_it_and_its_stores_elsewhere_are_followed(folder: Path, tmp_path: Path) -> None:
    (folder / "last").symlink_to(folder / "trials" / FIRST)
    (folder / "stores").symlink_to(tmp_path)
    link = tmp_path / "link"
    link.symlink_to(folder)
    reading.refuse_links(link)


def test_a_pipe_in_place_of_a_file_holds_nobody_up(folder: Path) -> None:
    os.mkfifo(folder / "trials" / FIRST / ".lock")
    assert "neither a file nor a folder" in refused(["status"], folder)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("[1]", "a list where an object is needed"),
        ("[" * 100_000, "nested too deeply"),
        ('{"trials": 5}', "no study.json of this program"),
        ('{"study": 1, "axes": {}, "groups": [], "data": {}, "trials": []}', "'study' as int, not str"),
        ('{"study": "x", "axes": {}, "groups": [{}], "data": {}, "trials": []}', "no name"),
        ('{"study": "x", "axes": {}, "groups": [], "data": {}, "trials": ["../x"]}', "trial 1 is no object"),
    ],
)
def test_a_study_file_that_is_none_is_one_message(folder: Path, content: str, told: str) -> None:
    (folder / "study.json").write_text(content)
    assert told in refused(["status"], folder)


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("result.json", '{"status": "done", "updates": 1' + "0" * 30 + "}"),
        ("result.json", '{"status": "done", "wer": {"a": 1}}'),
        ("result.json", "[" * 100_000),
        ("attempts.json", '{"attempts": "many"}'),
        ("attempts.json", '{"attempts": 1, "ended": ["x"]}'),
        ("trial.json", '{"launches": 7}'),
    ],
)
def test_what_a_trial_cannot_have_recorded_is_one_message(folder: Path, file: str, content: str) -> None:
    (folder / "trials" / FIRST / file).write_text(content)
    refused(["status"], folder)


def test_infinite_and_huge_numbers_are_shown_as_what_they_are(folder: Path) -> None:
    content = {"status": "done", "wer": 1e308, "cer": float("inf"), "seconds": 1e300, "updates": 2**62}
    (folder / "trials" / FIRST / "result.json").write_text(json.dumps(content))
    for words in (["status"], ["report"], ["export"], ["export", "-f", "json"]):
        ran = CliRunner().invoke(cli, [words[0], str(folder), *words[1:]])
        assert not isinstance(ran.exception, Exception), ran.exception


class Payload:
    """What a pickle would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path(os.environ["PAYLOAD"]),)


def with_column(table: pa.Table, field: pa.Field, values: pa.Array) -> pa.Table:
    if field.name in table.column_names:
        return table.set_column(table.column_names.index(field.name), field, values)
    return table.append_column(field, values)


def test_a_type_that_older_readers_would_unpickle_is_not(folder: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("PAYLOAD", str(tmp_path / "it-ran"))
    path = folder / "trials" / FIRST / "utterances.parquet"
    table = pyarrow.parquet.read_table(path)
    said = {b"ARROW:extension:name": b"arrow.py_extension_type", b"ARROW:extension:metadata": pickle.dumps(Payload())}
    field = pa.field("hypothesis", table["hypothesis"].type, metadata=said)
    table = with_column(table, field, table["hypothesis"].combine_chunks())
    noted = {
        b"pandas": json.dumps({"columns": [{"name": "hypothesis", "numpy_type": "object", "metadata": None}]}).encode()
    }
    pyarrow.parquet.write_table(table.replace_schema_metadata(noted), path)
    for words in ("status", "report", "export"):
        CliRunner().invoke(cli, [words, str(folder)])
    assert not (tmp_path / "it-ran").exists()


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("substitutions", pa.array(["many"] * 16)),
        ("hypothesis", pa.array([["a"]] * 16)),
        ("group", pa.ExtensionArray.from_storage(pa.uuid(), pa.array([b"0" * 16] * 16, pa.binary(16)))),
    ],
)
def test_a_column_of_a_type_that_no_table_has_is_named(folder: Path, name: str, values: pa.Array) -> None:
    path = folder / "trials" / FIRST / "utterances.parquet"
    table = pyarrow.parquet.read_table(path)
    pyarrow.parquet.write_table(with_column(table, pa.field(name, values.type), values), path)
    assert f"the column '{name}' is of the type" in refused(["report"], folder)
    assert f"the column '{name}' is of the type" in refused(["export"], folder)


def test_a_damaged_table_is_named(folder: Path) -> None:
    path = folder / "trials" / FIRST / "utterances.parquet"
    path.write_bytes(path.read_bytes()[:-40])
    assert f"{path} is damaged" in refused(["report"], folder)


def test_no_word_of_a_study_reaches_the_terminal_as_a_control_code(folder: Path) -> None:
    study = json.loads((folder / "study.json").read_text())
    study.update(study=HOSTILE, groups=[*study["groups"], HOSTILE])
    for trial in study["trials"]:
        trial.update(variant=trial["variant"] + HOSTILE, axes={**trial["axes"], HOSTILE: HOSTILE})
    study["axes"][HOSTILE] = [HOSTILE]
    (folder / "study.json").write_text(json.dumps(study))
    last = folder / "trials" / str(TABLES.results["trial_id"].iloc[-1])
    (last / "failure.json").write_text(json.dumps({"error": f"ValueError: {HOSTILE}\nnext line", "class": HOSTILE}))
    (folder / "trials" / FIRST / "trial.json").write_text(
        json.dumps({"launches": [{"git_sha": HOSTILE, "host": HOSTILE}]})
    )
    utterances = folder / "trials" / FIRST / "utterances.parquet"
    pd.read_parquet(utterances).assign(hypothesis=HOSTILE, **{HOSTILE: HOSTILE}).to_parquet(utterances, index=False)
    other = write_study(TABLES, folder.parent / "other")
    (other / "trials" / FIRST / "trial.json").write_text(json.dumps({"launches": [{"git_sha": "0f3c2d1"}]}))
    for words in (["status", "{}"], ["status", "{}", "--watch"], ["compare", "{}", str(other)], ["why", FIRST, FIRST]):
        more = ["--out", str(folder), "--out", str(other)] if words[0] == "why" else []
        ran = CliRunner().invoke(cli, [word.format(folder) for word in words] + more)
        assert not isinstance(ran.exception, Exception), ran.exception
        assert "\\x1b]0;owned" in ran.output, words
        assert not set(ran.output) & set("\x1b\x07\x9b\u202e\r"), words


def test_what_is_drawn_and_refused_holds_no_control_code(folder: Path, capsys, monkeypatch) -> None:
    row = {"status": "failed", "error": HOSTILE, "trial_id": "t"}
    assert "\x1b" not in progress.outcome(row) + watch.line(row)
    rewrite(folder, trial_id=HOSTILE)
    monkeypatch.setattr("sys.argv", ["launch.py", "status", str(folder)])
    from launcher.cli import main

    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "\x1b" not in capsys.readouterr().err


def test_what_a_terminal_can_show_is_left_as_it_is() -> None:
    words = "Müller, سلام, שלום, 日本語, e\u0301, tab\there\nand a line"
    assert printable.lines(words) == words
    assert printable.line("a\nb\x1b[1m") == "a\\nb\\x1b[1m"


@pytest.fixture
def store(tmp_path: Path) -> Path:
    commands.prepare("manifest", write_manifest(tmp_path / "manifest.csv", small_rows(tmp_path)), tmp_path / "private")
    return tmp_path / "private"


def sounds(store: Path, fingerprint: str | None) -> clips.Clips:
    known = pd.read_csv(store.parent / "manifest.csv")
    rows = pd.DataFrame({"utt_id": known["utt_id"], "split": known["split"]})
    return clips.from_store({"data": {"store": str(store), "fingerprint": fingerprint}}, rows)


def test_a_study_gets_no_sound_of_a_store_that_is_not_its_own(store: Path) -> None:
    for fingerprint in ("0123456789abcdef", None):
        with pytest.raises(ConfigurationError, match="holds other data"):
            sounds(store, fingerprint)
    assert sounds(store, Store.open(store).description["fingerprint"]).sounds


def test_a_store_that_was_sent_along_gets_no_sound_of_another_one(store: Path, tmp_path: Path) -> None:
    sent = tmp_path / "sent" / "stores" / "s"
    sent.mkdir(parents=True)
    for name in ("utterances.arrow", "places.arrow"):
        (sent / name).write_bytes((store / name).read_bytes())
    described = json.loads((store / "store.json").read_text())
    own = described["audio"]
    for entry, told in (
        ({"file": str(store / own[0]["file"])}, "which is not in it"),
        ({"file": f"../../../private/{own[0]['file']}"}, "which is not in it"),
        ({**own[0], "location": str(store), "identity": "0" * 16}, "is not the store"),
    ):
        (sent / "store.json").write_text(json.dumps({**described, "audio": [entry] * len(own)}))
        with pytest.raises(ConfigurationError, match=told):
            clips.from_store(
                {"data": {"store": str(sent), "fingerprint": described["fingerprint"]}},
                pd.read_csv(store.parent / "manifest.csv")[["utt_id", "split"]],
            )


def test_nothing_is_unpickled_or_evaluated_anywhere() -> None:
    loads_code = {"pickle", "cloudpickle", "dill", "joblib", "shelve", "marshal", "yaml", "torch", "pandas", "pd"}
    for path in [*(ROOT / "launcher").rglob("*.py"), *(ROOT / "trainables").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec"), path
            package, _, name = called.rpartition(".")
            assert not (package.rpartition(".")[2] in loads_code and name in ("load", "loads", "read_pickle")), (
                path,
                called,
            )
            assert "allow_pickle" not in [keyword.arg for keyword in node.keywords], path
