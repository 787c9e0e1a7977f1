"""Files that people read and start from stay true."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest
import ray
import yaml

from launcher import config
from launcher.cli import cli
from search_spaces import losses
from trainables.reductions import REDUCTIONS

ROOT = Path(__file__).resolve().parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CHANGELOG.md"]


def test_the_cluster_file_fits_rays_schema() -> None:
    schema = json.loads((Path(ray.__file__).parent / "autoscaler" / "ray-schema.json").read_text())
    jsonschema.validate(yaml.safe_load((ROOT / "cluster.yaml").read_text()), schema)


def test_the_shipped_experiment_file_is_the_default_study() -> None:
    shipped = config.load(ROOT / "configs" / "losses.conf")
    assert not shipped.warnings
    of_file, of_default = (
        losses.study(one).with_data("x").trials() for one in (shipped, config.load(None, defaults=losses.DEFAULTS))
    )
    assert [trial.trial_id for trial in of_file] == [trial.trial_id for trial in of_default]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\((?!https?://|#)([^)#]+)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_options_named_in_the_pages_exist(page: Path) -> None:
    ours = {name for command in (cli, *cli.commands.values()) for option in command.params for name in option.opts}
    others = {
        "--quiet",
        "--editable",
        "--constraint",
        "--generate",
        "--help",
        "--version",
        "--logdir",
        "--epochs",
        "--working-dir",
    }
    for block in re.findall(r"`[^`]*launch\.py[^`]*`|```.*?```", page.read_text(encoding="utf-8"), flags=re.DOTALL):
        assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", block)) <= ours | others


def test_the_page_on_the_loss_lists_the_whole_family() -> None:
    text = (ROOT / "docs" / "loss.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"`([a-z_]+)(?:\([^`]*\))?`", text.partition("**Update and micro-batch.**")[0]))
    assert set(REDUCTIONS) <= listed


def test_the_readme_names_the_folders_there_are() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in ("launcher/", "trainables/", "search_spaces/", "cluster.yaml", "configs/", "benchmarks/", "tests/"):
        assert name in text
        assert (ROOT / name.rstrip("/")).exists()
    assert text.count("\n") <= 150
