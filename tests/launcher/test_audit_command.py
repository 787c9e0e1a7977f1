"""`audit` as a user meets it, and the original experiment's published numbers from its published losses."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from scipy import stats

from launcher.cli import cli
from launcher.config_values import ConfigurationError
from launcher.loss_files import Losses, Request, read
from launcher.loss_stats import Analysis, analyse
from launcher.results import ResultsError

ROOT = Path(__file__).resolve().parents[2]
REFERENCE = ROOT.parent / "shared" / "reference"
NAMES = ("0=dysarthric", "1=L2")
needs_reference = pytest.mark.skipif(
    not (REFERENCE / "checking_losses_sum.csv").is_file(), reason="needs the losses of the original experiment"
)


def audit(*words: str | Path) -> None:
    """Run the command in this process."""
    cli.main(["audit", *map(str, words)], standalone_mode=False)


def small(path: Path) -> Path:
    rows = [(f"u{k}", f"s{k % 9}", "word" if k % 2 else "sentence", 3.0 + k % 5 + 9 * (k % 2 == 0), 4 + 20 * (k % 2 == 0) + k % 3)
            for k in range(36)]  # fmt: skip
    pd.DataFrame(rows, columns=["utt_id", "speaker", "group", "loss", "length"]).to_csv(path, index=False)
    return path


def original(kind: str, rows: str) -> tuple[Losses, Analysis]:
    losses = read(REFERENCE / f"checking_losses_{kind}.csv", Request({}, rows, NAMES), per_label=kind == "mean")
    return losses, analyse(losses, correlation_intervals=False)


# Published in the original's notebook: means of L2 and of dysarthric speech, Pearson's r of loss and length.
PUBLISHED = [
    ("sum", "", 480, "97.85998662", "29.66775707", "0.35107560"),
    ("mean", "", 480, "3.14134369", "5.74021041", "-0.20973114"),
    ("sum", "0:412", 412, "44.98539936", "28.58226936", "0.46043878"),
]


@needs_reference
@pytest.mark.parametrize(("kind", "rows", "number", "l2", "dysarthric", "r"), PUBLISHED)
def test_published_means_and_correlations_come_out_to_the_last_digit(
    kind: str, rows: str, number: int, l2: str, dysarthric: str, r: str
) -> None:
    losses, found = original(kind, rows)
    mean = found.groups.set_index("group")["mean"]
    assert len(losses.frame) == number
    assert (f"{mean['L2']:.8f}", f"{mean['dysarthric']:.8f}") == (l2, dysarthric)
    assert f"{found.correlations['pearson'][0]:.8f}" == r


@needs_reference
@pytest.mark.parametrize(
    ("kind", "rows", "t", "p", "mann_whitney_p"),
    [
        ("sum", "0:412", "-5.98", 8e-9, 1e-22),
        ("sum", "", "-8.53", 4e-16, 3e-28),
        ("mean", "0:412", "+12.51", 4e-25, 2e-60),
        ("mean", "", "+6.13", 2e-9, 2e-32),
    ],
)
def test_the_tests_compare_the_losses_of_the_groups(
    kind: str, rows: str, t: str, p: float, mann_whitney_p: float
) -> None:
    row = original(kind, rows)[1].pairs.iloc[0]
    assert f"{row['welch_t']:+.2f}" == t
    assert f"{row['welch_p']:.0e}" == f"{p:.0e}"
    assert f"{row['mann_whitney_p']:.0e}" == f"{mann_whitney_p:.0e}"


@needs_reference
@pytest.mark.parametrize(
    ("kind", "rows", "published"),
    [("sum", 412, "-30.35"), ("sum", 480, "-13.93"), ("mean", 480, "-15.51"), ("mean", 446, "-13.57")],
)
def test_the_published_tests_compare_the_codes_of_the_groups_with_the_losses(
    kind: str, rows: int, published: str
) -> None:
    table = pd.read_csv(REFERENCE / f"checking_losses_{kind}.csv")[:rows]
    mistaken: Any = stats.ttest_ind(table["task"], table["loss"])
    assert f"{mistaken.statistic:.2f}" == published


@needs_reference
def test_at_equal_length_the_original_sums_of_second_language_speakers_are_smaller() -> None:
    coefficient = original("sum", "0:412")[1].regression.set_index("term")["coefficient"]
    assert f"{coefficient['length (each label)']:.2f}" == "0.82"
    assert f"{coefficient['L2 (against dysarthric)']:.1f}" == "-15.9"


@needs_reference
def test_the_share_of_the_original_losses_falls_from_sum_to_mean() -> None:
    shares = original("sum", "0:412")[1].shares
    of_l2 = shares[shares["group"] == "L2"]
    assert [f"{share:.3f}" for share in of_l2["loss_share"]] == ["0.733", "0.635", "0.515", "0.386", "0.267"]
    assert set(of_l2["utterance_share"].round(3)) == {0.636}


@needs_reference
def test_the_published_digits_stand_in_what_the_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    paths = [REFERENCE / f"checking_losses_{kind}.csv" for kind in ("sum", "mean")]
    audit(*paths, "--per-label", paths[1], "--name", NAMES[0], "--name", NAMES[1])
    printed = capsys.readouterr().out
    for _, _, number, *digits in PUBLISHED:
        if number == 480:
            assert all(re.search(rf"(?<!\d){re.escape(digit)}", printed) for digit in digits)
    assert "-8.53" in printed
    assert "+6.13" in printed


def test_json_is_alone_on_stdout_and_says_what_was_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    audit(small(tmp_path / "losses.csv"), "--json", "--rows", ":30", "--out", tmp_path / "out")
    printed = capsys.readouterr()
    (file,) = json.loads(printed.out)["files"]
    assert (file["utterances"], file["rows"], file["per_label"]) == (30, ":30", False)
    assert file["columns"] == {"loss": "loss", "group": "group", "length": "length", "speaker": "speaker"}
    assert [row["group"] for row in file["groups"]] == ["sentence", "word"]
    assert {row["errors"] for row in file["regression"]} == {"clustered by speaker"}
    assert json.loads((tmp_path / "out" / "audit.json").read_text())["files"] == [file]


def test_out_takes_the_tables_of_all_files_and_a_page_that_needs_nothing_else(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = [small(tmp_path / "one.csv"), small(tmp_path / "two<b>.csv")]
    out = tmp_path / "new" / "audit"
    audit(*paths, "--out", out)
    assert str(out) in capsys.readouterr().err
    tables = ("groups", "pairs", "correlations", "regression", "shares")
    assert {file.name for file in out.iterdir()} == {"audit.html", "audit.json", *(f"{name}.csv" for name in tables)}
    groups = pd.read_csv(out / "groups.csv")
    assert list(groups["file"]) == [str(path) for path in paths for _ in range(2)]
    content = json.loads((out / "audit.json").read_text())
    assert list(groups["mean"]) == pytest.approx([row["mean"] for file in content["files"] for row in file["groups"]])
    page = (out / "audit.html").read_text(encoding="utf-8")
    assert "default-src 'none'" in page
    assert "two&lt;b&gt;.csv" in page
    assert page.count('<div class="plot"') == 2
    ids = re.findall(r'<(?:table|div class="plot") id="([^"]+)"', page)
    assert len(ids) == len(set(ids)) == 12


def test_a_wrong_request_is_one_message_and_exit_code_2(tmp_path: Path) -> None:
    command = [sys.executable, str(ROOT / "launch.py"), "audit", str(small(tmp_path / "losses.csv"))]
    done = subprocess.run([*command, "--group", "severity"], capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--group 'severity': there is no such column" in done.stderr
    assert "Traceback" not in done.stderr


def test_files_are_named_once_and_as_they_are_given(tmp_path: Path) -> None:
    path = small(tmp_path / "losses.csv")
    with pytest.raises(ConfigurationError, match="given twice"):
        audit(path, path)
    with pytest.raises(ConfigurationError, match=r"--per-label 'other\.csv' is none of the files"):
        audit(path, "--per-label", "other.csv")


def test_an_output_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    path = small(tmp_path / "losses.csv")
    with pytest.raises(ResultsError, match="--out"):
        audit(path, "--out", path / "out")
