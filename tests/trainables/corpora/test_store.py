"""A store that is opened is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import small_rows, write_manifest

from trainables.corpora import commands
from trainables.corpora.store import Store
from trainables.errors import DataError


@pytest.fixture
def made(tmp_path: Path) -> Path:
    manifest = write_manifest(tmp_path / "manifest.csv", small_rows(tmp_path))
    commands.prepare("manifest", manifest, tmp_path / "store")
    return tmp_path / "store"


@pytest.mark.parametrize("name", ["audio/00000.arrow", "places.arrow", "rejects.parquet"])
def test_a_store_that_was_copied_in_part_names_the_file(made: Path, name: str) -> None:
    file = made / name
    content = file.read_bytes()
    file.write_bytes(content[:-1])
    with pytest.raises(DataError, match=rf"{name} has {len(content) - 1} bytes, it had {len(content)}"):
        Store.open(made)
    file.unlink()
    with pytest.raises(DataError, match=rf"{name}: No such file"):
        Store.open(made)


def test_a_store_that_an_earlier_version_prepared_is_to_be_made_again(made: Path) -> None:
    file = made / "store.json"
    description = json.loads(file.read_text())
    file.write_text(json.dumps({**description, "preparation_version": 1}))
    with pytest.raises(DataError, match="prepared by version 1; this is version 2: prepare the data again"):
        Store.open(made)


def test_a_description_that_lacks_entries_names_them(made: Path) -> None:
    file = made / "store.json"
    description = json.loads(file.read_text())
    del description["vocabulary"]
    file.write_text(json.dumps(description))
    with pytest.raises(DataError, match="lacks vocabulary"):
        Store.open(made)
