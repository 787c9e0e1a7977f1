"""Places on the command line: what may be a URI, and that no message shows the key in one."""

from __future__ import annotations

import shlex

import pytest

from launcher import cli, ending

KEY = "s3://KEY:HIDDEN@/x"  # names no bucket: nobody is asked over a network


def told(line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    monkeypatch.setattr("sys.argv", ["launch.py", *shlex.split(line)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == ending.EXIT_BAD_REQUEST
    return capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    [f"--grid losses --plan --data {KEY}", f"--grid losses --plan --out {KEY}", f"status {KEY}", f"report {KEY}",
     f"export {KEY}", f"compare {KEY} {KEY}", f"dashboard {KEY}", f"why a b --out {KEY}", f"prepare --inspect {KEY}",
     f"prepare manifest . --out {KEY}"],
)  # fmt: skip
def test_no_message_shows_the_key_in_an_address(line: str, monkeypatch, capsys) -> None:
    text = told(line, monkeypatch, capsys)
    assert "s3://" in text
    assert "HIDDEN" not in text


@pytest.mark.parametrize(
    "line", ["prepare manifest s3://b/m.csv --out STORE", "config s3://b/x.conf", "audit s3://b/x.csv", "--grid losses --config s3://b/x"]
)  # fmt: skip
def test_a_uri_where_only_a_path_will_do_is_said_so(line: str, monkeypatch, capsys) -> None:
    assert "an address (s3://) cannot be given here; copy the files and give their path" in told(
        line, monkeypatch, capsys
    )
