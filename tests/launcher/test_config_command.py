"""Promises of `launch.py config`, of the files in configs/ and of the page about them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click.testing
import pytest

from launcher import config_command
from launcher.cli import cli
from launcher.config import ConfigurationError, load
from launcher.config_keys import NO_EFFECT, RENAMED, RENAMED_VALUES
from launcher.config_schema import MODELS, TRAINER
from launcher.study import grid

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = sorted((ROOT / "configs").glob("*.conf"))
STUDY = """[Trainer Arguments]
eval_strategy = epoch
lr = 1e-4
[Training Configuration]
early_stopping = 3
[Study]
reduction = sum, mean
seed = 1..5
"""


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "study.conf"
    path.write_text(STUDY, encoding="utf-8")
    return path


def run(*words: str | Path) -> click.testing.Result:
    return click.testing.CliRunner().invoke(cli, ["config", *map(str, words)], standalone_mode=False)


def test_the_resolved_file_holds_every_key_and_loads_to_the_same_trials(study: Path, tmp_path: Path) -> None:
    done = run(study)
    assert done.exception is None
    assert done.stderr.startswith("Warning: lr = '1e-4' in [Trainer Arguments] of study.conf: today this is written")
    for model in MODELS.values():
        for key in model.model_fields:
            assert f"\n{key} = " in done.stdout
    assert "save_strategy = epoch" in done.stdout, "what follows from early stopping is written out"
    again = tmp_path / "again.conf"
    again.write_text(done.stdout, encoding="utf-8")
    assert load(again) == config_command.resolve(study).configuration
    assert run(again).stdout == done.stdout


def test_check_is_one_line(study: Path) -> None:
    assert run(study, "--check").stdout == f"{study}: valid, 10 trials, 1 warning\n"
    assert run(study, "--check", "--set", "seed=1", "--set", "reduction=sum").stdout.endswith("1 trial, 1 warning\n")


def test_json_is_alone_on_stdout(study: Path) -> None:
    content = json.loads(run(study, "--json").stdout)
    assert (content["valid"], content["trials"], len(content["warnings"])) == (True, 10, 1)
    assert content["Training Configuration"]["early_stopping"] == 3
    assert content["Study"]["axes"]["Trainer Arguments.seed"] == [1, 2, 3, 4, 5]
    assert set(json.loads(run(study, "--json", "--check").stdout)) == {"file", "valid", "trials", "warnings"}


def test_a_problem_of_some_trials_says_in_which(study: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config_command.resolve(study, ["dataset_loss_weighting=1.3,0.7"])
    (problem,) = caught.value.problems
    assert problem.endswith("(in 5 of 10 trials; the first has reduction = sum, seed = 1)")
    with pytest.raises(ConfigurationError) as caught:
        config_command.resolve(study, ["eval_strategy=no"])
    assert "of 10 trials" not in str(caught.value), "in all trials: nothing to tell apart"


def test_all_problems_of_the_grid_come_in_one_go(study: Path) -> None:
    with pytest.raises(ConfigurationError) as caught:
        config_command.resolve(study, ["bf16=True", "fp16=True", "test_set=both"])
    assert len(caught.value.problems) == 2


def test_a_grid_beyond_reason_is_refused_before_it_is_made(study: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"make 40000 trials; 10000 are the most"):
        config_command.resolve(study, ["seed=1..200", "data_seed=1..200", "reduction=sum"])


def test_conversion_is_printed_as_it_stands_and_goes_with_nothing_else(study: Path) -> None:
    assert run(study, "--convert").stdout == STUDY.replace("lr =", "learning_rate =")
    for word in ("--check", "--json", "--set=seed=1"):
        assert isinstance(run(study, "--convert", word).exception, click.UsageError)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_a_shipped_file_is_valid_without_a_warning(path: Path) -> None:
    assert len(CONFIGS) >= 3
    assert re.fullmatch(r".*: valid, \d trials, 0 warnings\n", run(path, "--check").stdout)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_what_a_shipped_file_suggests_in_comments_is_valid_too(path: Path, tmp_path: Path) -> None:
    """Uncomment each `# key = value`; a later one stands for the one that is set."""
    section, values = "", {}
    for line in path.read_text(encoding="utf-8").splitlines():
        header = re.match(r"\[(.+)\]", line)
        section = header[1] if header else section
        commented = re.match(r"# (?P<key>[a-z_0-9]+) = (?P<value>[^;]+)", line)
        if commented and section:
            values[f"{section}.{commented['key']}"] = commented["value"].strip()
    assert values
    for target, value in values.items():
        assert load(path, [f"{target}={value}"]).warnings == (), target


def test_the_page_describes_every_key_as_the_schema_does() -> None:
    page = (ROOT / "docs" / "experiment_files.md").read_text(encoding="utf-8")
    for model in MODELS.values():
        for key, field in model.model_fields.items():
            default = "[]" if field.default == () else field.default
            assert f"| {key} | {default} | {field.description} |" in page


def test_the_page_names_every_old_spelling() -> None:
    page = (ROOT / "docs" / "experiment_files.md").read_text(encoding="utf-8").partition("**Old spellings**")[2]
    rows = [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("| ")]
    today_of = {name.removesuffix(" in another section"): today for old, today in rows for name in old.split(", ")}
    for old, targets in RENAMED.items():
        keys = [target.partition(".")[2] for target in targets]
        assert all(key in today_of[old] or NO_EFFECT.get(key, "?") in today_of[old] for key in keys), old
    for (target, value), today in RENAMED_VALUES.items():
        key = target.partition(".")[2]
        assert key == value or value == "true" or today_of[f"{key} = {value}"] == f"{key} = {today}"


def test_the_example_axes_of_the_page_make_the_trials_it_says(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "experiment_files.md").read_text(encoding="utf-8")
    text = page.partition("**Axes.**")[2].partition("**Training")[0]
    axes = re.findall(r"`([a-z_]+ = [^`]+)`", text)
    path = tmp_path / "axes.conf"
    path.write_text("\n".join(["[Study]", *axes, ""]), encoding="utf-8")
    loaded = load(path)
    assert [len(values) for values in loaded.axes.values()] == [3, 5, 2, 3]
    assert len(grid(loaded)) == 90
    assert all(target.startswith(TRAINER) or "Configuration." in target for target in loaded.axes)
