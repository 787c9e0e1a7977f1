"""Losses measured elsewhere are read as they stand, and what cannot be used is told."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from launcher.config_values import ConfigurationError
from launcher.loss_files import Request, _rows, read

TABLE = pd.DataFrame(
    {
        "utt_id": ["a", "b", "c", "d"],
        "task": [0, 1, 1, 10],
        "loss": [1.5, 2.0, 0.25, 8.0],
        "length": [3, 4, 0, 7],
        "speaker": ["s1", "s2", "s2", None],
    }
)
PLAIN = Request({})


def written(folder: Path, table: pd.DataFrame, kind: str = "csv") -> Path:
    path = folder / f"losses.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    elif kind == "jsonl":
        table.to_json(path, orient="records", lines=True)
    else:
        table.to_csv(path, index=False, sep="\t" if kind == "tsv" else ",")
    return path


@pytest.mark.parametrize("kind", ["csv", "tsv", "jsonl", "parquet"])
def test_every_kind_of_file_gives_the_same_losses(tmp_path: Path, kind: str) -> None:
    losses = read(written(tmp_path, TABLE, kind), PLAIN)
    assert list(losses.frame["group"]) == ["0", "1", "1", "10"]
    assert list(losses.frame["loss"]) == [1.5, 2.0, 0.25, 8.0]
    assert list(losses.frame["length"]) == [3, 4, 0, 7]
    assert list(losses.frame["speaker"]) == ["s1", "s2", "s2", "(not given)"]
    assert losses.notes == ()


def test_columns_are_found_whatever_their_case_and_any_can_be_named(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE.rename(columns={"task": "Group", "length": "Labels", "loss": "ctc"}))
    losses = read(path, Request({"loss": "ctc"}))
    assert dict(losses.columns) == {"loss": "ctc", "group": "Group", "length": "Labels", "speaker": "speaker"}


def test_classes_are_in_the_order_of_the_file_however_they_are_called(tmp_path: Path) -> None:
    losses = read(written(tmp_path, TABLE), Request({}, names=["0=zulu", "10 = alpha"]))
    assert list(losses.frame["group"].cat.categories) == ["zulu", "1", "alpha"]


def test_whole_numbers_stay_the_same_classes_beside_a_missing_one(tmp_path: Path) -> None:
    with_gap = TABLE.assign(task=[0.0, 1.0, np.nan, 10.0])
    assert list(read(written(tmp_path, with_gap, "parquet"), PLAIN).frame["group"]) == ["0", "1", "(not given)", "10"]


def test_losses_divided_by_their_length_become_nats_again(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE)
    assert list(read(path, PLAIN).nats_N) == [1.5, 2.0, 0.25, 8.0]
    assert list(read(path, PLAIN, per_label=True).nats_N) == [4.5, 8.0, 0.25, 56.0]


def test_what_has_no_finite_loss_is_left_out_and_counted(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE.assign(loss=["inf", "", "0.5", "1"]))
    losses = read(path, PLAIN)
    assert list(losses.frame["loss"]) == [0.5, 1.0]
    assert list(losses.frame["group"].cat.categories) == ["1", "10"]
    assert losses.notes == ("2 of 4 utterances have no finite loss or length and were left out.",)


@given(st.integers(-9, 9) | st.none(), st.integers(-9, 9) | st.none())
def test_rows_are_selected_as_python_slices_do(first: int | None, last: int | None) -> None:
    text = ":".join("" if one is None else str(one) for one in (first, last))
    assert list(range(6))[_rows(text)] == list(range(6))[first:last]


def test_rows_are_taken_before_anything_is_judged(tmp_path: Path) -> None:
    path = written(tmp_path, TABLE.assign(loss=[1.5, 2.0, "bad", 8.0]))
    assert len(read(path, Request({}, rows=":2")).frame) == 2
    assert len(read(path, Request({}, rows="-1:")).frame) == 1


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request({"loss": "nll"}), r"--loss 'nll': there is no such column.*\['utt_id', 'task', 'loss'"),
        (Request({}, rows="4"), r"--rows '4': write A:B"),
        (Request({}, rows="0:x"), r"--rows '0:x': write A:B"),
        (Request({}, rows="0:4:0"), r"--rows '0:4:0'"),
        (Request({}, rows="9:"), "rows '9:' hold no utterance"),
        (Request({}, names=["2=control"]), r"no class '2'; the classes are \['0', '1', '10'\]"),
        (Request({}, names=["control"]), "write CLASS=NAME"),
        (Request({}, names=["0=a", "0=b"]), "named twice"),
    ],
)
def test_a_request_that_cannot_be_met_says_what_can(tmp_path: Path, request_: Request, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(written(tmp_path, TABLE), request_)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (TABLE.drop(columns=["loss", "length"]), "no column is called loss.*no column is called length or labels.*columns are"),
        (TABLE.assign(group="x"), r"columns \['task', 'group'\] could all be the group: say which with --group"),
        (TABLE.assign(utt_id=["a", "b", "a", "d"]), "utt_id 'a' stands in 2 rows.*keep one trial and one phase"),
        (TABLE.assign(loss=["1", "two", "3", "4"]), "column 'loss' holds 'two' .row 1, counted from 0"),
        (TABLE.assign(loss=[1, 2, -3, 4]), "column 'loss' holds '-3'"),
        (TABLE.assign(length=[1, 2, 3, -4]), "column 'length' holds '-4'"),
        (TABLE.assign(loss=math.nan), "none of the 4 rows has a finite loss"),
        (TABLE.iloc[:0], "hold no utterance"),
        (pd.DataFrame({"task": range(60), "loss": 1.0, "length": 2}), "60 classes; at most 50"),
    ],
)  # fmt: skip
def test_a_table_that_cannot_be_used_is_told(tmp_path: Path, table: pd.DataFrame, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        read(written(tmp_path, table), PLAIN)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("losses.txt", b"loss", r"read from \.csv, \.tsv, \.jsonl, \.parquet"),
        ("losses.csv", b"", "cannot be read as .csv"),
        ("losses.csv", "task,löss\n".encode("latin-1"), "cannot be read as .csv"),
        ("losses.jsonl", b"{half", "cannot be read as .jsonl"),
        ("losses.jsonl", b"3\n4\n", "line 1 is '3'; every line of a .jsonl must be one object"),
        ("losses.jsonl", b"[1.5, 0, 3]\n[2.5, 1, 4]\n", r"line 1 is '\[1.5, 0, 3\]'; every line"),
        ("losses.jsonl", b'{"task": 0, "loss": 1, "length": 2}\n\n[1, 2, 3]\n', "line 3 is"),
        ("losses.csv", b"task,loss,length\n0,1.5,3\n1,2.5,4,x\n", "line 3 has 4 fields and the header has 3"),
        ("losses.csv", b"task,loss,length\nx,0,1.5,3\nx,1,2.5,4\n", "line 2 has 4 fields and the header has 3"),
        ("losses.tsv", b"task\tloss\tlength\n0\t1.5\n", "line 2 has 2 fields and the header has 3"),
        ("losses.csv", b'task,loss,length\n"two\nlines",1.5,3\n\n0,2.5\n', "line 5 has 2 fields"),
        ("losses.csv", b'task,loss,length\n0,1.5,3\n"1,2.5,4\n', "row that begins on line 3 cannot be read"),
        ("losses.csv", b"task,loss,loss,length\n0,1.5,9,3\n", r"more than one column is called \['loss'\]"),
        ("losses.parquet", b"PAR1 no", "cannot be read as .parquet"),
    ],
)
def test_a_file_that_is_no_table_is_told(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match=message):
        read(path, PLAIN)
    with pytest.raises(ConfigurationError, match="does not exist"):
        read(tmp_path / "nowhere.csv", PLAIN)


def test_columns_without_a_name_blank_lines_and_quotes_are_read_as_ever(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    path.write_bytes(b'\n,task,loss,length,\n0,"a, b",1.5,3,\n  \n1,"say ""c""",2.5,4,\n\n')
    losses = read(path, PLAIN)
    assert list(losses.frame["group"]) == ["a, b", 'say "c"']
    assert list(losses.frame["loss"]) == [1.5, 2.5]


@pytest.mark.parametrize("kind", ["jsonl", "parquet"])
def test_columns_that_are_called_by_numbers_can_be_named(tmp_path: Path, kind: str) -> None:
    path = written(tmp_path, pd.DataFrame({0: [1.5, 2.5], 1: ["a", "b"], 2: [3, 4]}), kind)
    losses = read(path, Request({"loss": "0", "group": "1", "length": "2"}))
    assert list(losses.frame["loss"]) == [1.5, 2.5]


def test_a_byte_order_mark_and_windows_line_ends_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "losses.csv"
    path.write_bytes(b"\xef\xbb\xbftask,loss,length\r\n0,1.5,3\r\n1,2.5,4\r\n")
    assert list(read(path, PLAIN).frame["loss"]) == [1.5, 2.5]
