"""A store on another file system is copied once per node, whole or not at all; file:// stands for all of them."""

from __future__ import annotations

import json
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import small_rows, write_manifest

from trainables.corpora import commands, remote
from trainables.corpora.prepare import prepare
from trainables.corpora.store import Store
from trainables.errors import DataError

TINY = [("tiny", None)]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "lossgrid" / "stores"


@pytest.fixture
def made(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    manifest = write_manifest(folder / "manifest.csv", small_rows(folder))
    commands.prepare("manifest", manifest, tmp_path / "bucket" / "store")
    return tmp_path / "bucket" / "store"


def test_a_study_reads_a_store_by_its_uri_and_each_node_copies_it_once(made: Path, cache: Path, tmp_path: Path) -> None:
    uri = made.as_uri()
    study = prepare(uri, tmp_path / "stores", TINY)
    (copy,) = cache.iterdir()
    assert copy.name.startswith(study.fingerprint)
    assert study.fingerprint == Store.open(made).fingerprint
    first = Store.open(made).samples(3)
    assert (Store.open(study.path).samples(3) == first).all()
    inode = (copy / "store.json").stat().st_ino
    prepare(uri, tmp_path / "others", TINY)
    assert (copy / "store.json").stat().st_ino == inode

    shutil.rmtree(cache)  # another node: it copies when it first needs audio
    assert (Store.open(study.path).samples(3) == first).all()
    shutil.rmtree(made)  # out of reach: the copy is enough
    assert (Store.open(study.path).samples(3) == first).all()


def test_a_damaged_file_leaves_no_copy(made: Path, cache: Path) -> None:
    audio = made / "audio" / "00000.arrow"
    content = bytearray(audio.read_bytes())
    content[-100] ^= 1
    audio.write_bytes(content)
    with pytest.raises(DataError, match=r"00000.arrow is not what store.json says"):
        remote.fetch(made.as_uri())
    assert not list(cache.iterdir())


def test_a_missing_file_leaves_no_copy(made: Path, cache: Path) -> None:
    (made / "audio" / "00000.arrow").unlink()
    with pytest.raises(DataError, match=r"audio/00000.arrow cannot be read"):
        remote.fetch(made.as_uri())
    assert not list(cache.iterdir())


def test_names_that_lead_out_of_the_store_are_refused(made: Path, cache: Path, tmp_path: Path) -> None:
    description = json.loads((made / "store.json").read_text())
    description["files"][0]["file"] = "../../../outside"
    (made / "store.json").write_text(json.dumps(description))
    with pytest.raises(DataError, match="outside itself"):
        remote.fetch(made.as_uri())
    assert not (tmp_path / "outside").exists()


@pytest.mark.parametrize(
    ("uri", "message"),
    [("nowhere://bucket/store", "cannot be reached"), ("file:///no/such/store", "not a prepared store")],
)
@pytest.mark.usefixtures("cache")
def test_a_place_without_a_store_gets_one_clear_message(uri: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        remote.fetch(uri)


def test_a_selection_has_no_audio_to_copy(made: Path, cache: Path, tmp_path: Path) -> None:
    study = prepare(made.as_uri(), tmp_path / "stores", TINY)
    with pytest.raises(DataError, match="no audio of its own"):
        remote.fetch(study.path.as_uri())


def test_processes_that_fetch_at_once_copy_once(made: Path, cache: Path) -> None:
    with ThreadPoolExecutor(6) as pool:
        (path,) = set(pool.map(remote.fetch, [made.as_uri()] * 6))
    assert list(cache.iterdir()) == [path]
    assert Store.open(path).fingerprint == Store.open(made).fingerprint


@pytest.mark.parametrize("secret", ["gehe/im", "gehe im", "gehe@im"])
def test_an_address_that_cannot_be_read_is_told_without_its_key(cache: Path, secret: str) -> None:
    with pytest.raises(DataError, match="cannot be reached") as caught:
        remote.fetch(f"no-such-system://KEY:{secret}@bucket/store?sig={secret.replace('@', '')}")
    assert "gehe" not in str(caught.value)


@pytest.mark.parametrize("address", ["s3://AKIA:hush@bucket/store", "s3://bucket/store?secret_key=hush&region=eu-1"])
def test_no_key_in_the_address_of_a_store_gets_into_the_files_of_a_study(
    address: str, cache: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="AWS_SECRET_ACCESS_KEY") as told:
        prepare(address, tmp_path / "stores", TINY)
    assert "hush" not in str(told.value)
    assert not (tmp_path / "stores").exists()
