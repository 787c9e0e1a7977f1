from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from conftest import small_rows, tone, write_manifest

from trainables.corpora import commands
from trainables.corpora.recordings import Found, Recording
from trainables.errors import DataError


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    return write_manifest(folder / "manifest.csv", small_rows(folder))


def test_a_summary_counts_what_the_manifest_holds(manifest: Path, tmp_path: Path) -> None:
    found = commands.prepare("manifest", manifest, tmp_path / "store")
    assert found["utterances"] == 20
    assert found == commands.inspect(str(tmp_path / "store"))
    assert {row["split"]: row["utterances"] for row in found["by"]["split"]} == {
        "train": 12,
        "validation": 4,
        "test": 4,
    }
    assert [row["utterances"] for row in found["by"]["speaker"]] == [8, 6, 6]
    hours = sum(row["seconds"] for row in found["by"]["group"]) / 3600
    assert hours == pytest.approx(found["hours"], abs=1e-4)
    for lengths in found["lengths"].values():
        assert {group: sum(own["counts"]) for group, own in lengths["groups"].items()} == {"sentence": 10, "word": 10}
    assert found["lengths"]["seconds"]["groups"]["word"]["quantiles"][0] == 0.5
    assert found["lengths"]["characters"]["groups"]["word"]["quantiles"][-1] == 5


def test_what_splits_share_is_reported(manifest: Path, tmp_path: Path) -> None:
    found = commands.prepare("manifest", manifest, tmp_path / "store")
    shared = {(row["first"], row["second"], row["what"]): row["shared"] for row in found["leaks"]}
    assert shared["train", "test", "speaker"] == 3
    assert shared["train", "test", "sound"] == 0
    assert any(line.startswith("train and test share 3 speakers") for line in found["leak_lines"])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"corpus": "timit"}, "unknown corpus 'timit'; choose one of: .*manifest"),
        ({"corpus": "store"}, "unknown corpus 'store'"),
        ({"options": ["mic=M5"]}, "unknown option 'mic'; allowed: none"),
        ({"options": ["mic"]}, "write NAME=VALUE"),
        ({"options": ["mic=1", "mic=2"]}, "more than once"),
        ({"split": "random"}, "split 'random' is unknown"),
        ({"root": Path("nowhere.csv")}, "does not exist"),
    ],
)
def test_a_wrong_request_gets_one_clear_message(manifest: Path, tmp_path: Path, given: dict, message: str) -> None:
    request = {"corpus": "manifest", "root": manifest, "out": tmp_path / "store", **given}
    with pytest.raises(DataError, match=message):
        commands.prepare(**request)
    assert not (tmp_path / "store").exists()


def test_what_is_no_store_cannot_be_inspected(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not a prepared store"):
        commands.inspect(str(tmp_path))


def test_an_importer_is_one_module_with_find_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A corpus that this package does not know, put where importers are."""
    samples = [tone(0.5, 300.0), tone(0.6, 400.0), np.zeros(8000)]
    for number, signal in enumerate(samples):
        soundfile.write(tmp_path / f"{number}.wav", signal, 16_000)

    def find(root: Path, options: dict[str, str]) -> Found:
        more = {"mic": options["mic"]}
        return Found(
            tuple(
                Recording(f"u{n}", (str(root / f"{n}.wav"),), f"word {n}", "s", "own", "control", "", more)
                for n in range(3)
            )
        )

    module = ModuleType("trainables.corpora.own")
    module.__dict__.update(find=find, OPTIONS={"mic": ("M5", "all")})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    known = commands.importers()
    monkeypatch.setattr(commands, "importers", lambda: [*known, "own"])
    found = commands.prepare("own", tmp_path, tmp_path / "store", options=["mic=all"])
    assert (found["utterances"], found["rejects"]) == (2, {"silent": 1})
    assert found["by"]["split"] == [{"split": "", "utterances": 2, "speakers": 1, "seconds": 1.1}]
    with pytest.raises(DataError, match="option mic = 'M9'; allowed: M5, all"):
        commands.prepare("own", tmp_path, tmp_path / "other", options=["mic=M9"])


def test_every_importer_of_the_design_is_there() -> None:
    assert set(commands.importers()) >= {"manifest", "uaspeech", "torgo", "l2arctic", "sap"}
