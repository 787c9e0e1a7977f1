"""`prepare` into buckets of S3 and of Google Cloud Storage: no copy of the speech stays, and only one process makes a store."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gcs
import pytest
import s3
from conftest import small_rows, write_manifest

from launcher import copies, lease, prepare_command
from launcher.mirror import Mirror
from launcher.results import ResultsError
from launcher.retries import StorageError
from trainables.corpora import remote, shards
from trainables.corpora.store import Store
from trainables.errors import DataError


class Corpus:
    """A manifest, and where its store is to be."""

    def __init__(self, bucket: s3.Bucket | gcs.Bucket, folder: Path) -> None:
        self.bucket, self.under, self.folder = bucket, f"stores/{folder.name}", folder
        self.uri = bucket.uri(self.under)
        self.rows = small_rows(folder)
        self.manifest = write_manifest(folder / "manifest.csv", self.rows)

    def prepare(self) -> None:
        prepare_command.prepare("manifest", self.manifest, self.uri, options=(), split="", workers=1, as_json=True)

    def changes(self) -> None:
        """Be another corpus."""
        self.rows.pop()
        write_manifest(self.manifest, self.rows)

    def copied(self) -> list[str]:
        """Name the files that are kept on this machine, save for locks."""
        files = [path for path in copies.cache_folder(self.uri).rglob("*") if path.is_file()]
        return sorted(path.name for path in files if path.name not in ("busy", ".store.lock"))

    def removed_there(self) -> None:
        assert isinstance(self.bucket, s3.Bucket)
        for key in self.bucket.keys(self.under):
            self.bucket.client.delete_object(Bucket=self.bucket.name, Key=f"{self.under}/{key}")

    def utterances(self) -> int:
        return Store.open(remote.fetch(self.uri)).description["utterances"]


@pytest.fixture(scope="module")
def s3_bucket() -> Iterator[s3.Bucket]:
    with s3.bucket() as made:
        yield made


@pytest.fixture
def corpus(s3_bucket: s3.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    return here(s3_bucket, tmp_path, monkeypatch)


@pytest.fixture(params=[s3, gcs], ids=["s3", "gs"])
def anywhere(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Corpus]:
    with request.param.bucket() as made:
        yield here(made, tmp_path, monkeypatch)


def here(bucket: s3.Bucket | gcs.Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(lease, "_SETTLED_SECONDS", 0.0)
    return Corpus(bucket, tmp_path)


def test_once_a_store_is_in_the_bucket_no_copy_of_it_stays(
    anywhere: Corpus, capsys: pytest.CaptureFixture[str]
) -> None:
    anywhere.prepare()
    assert json.loads(capsys.readouterr().out)["path"] == anywhere.uri
    assert {"store.json", "utterances.arrow"} <= set(anywhere.bucket.keys(anywhere.under))
    assert ".lock" not in anywhere.bucket.keys(anywhere.under)
    assert anywhere.copied() == []
    anywhere.prepare()  # the same again
    assert anywhere.copied() == []
    assert anywhere.utterances() == len(anywhere.rows)


def test_another_store_there_is_told_and_once_it_is_removed_the_other_corpus_is_prepared(corpus: Corpus) -> None:
    corpus.prepare()
    corpus.changes()
    with pytest.raises(ResultsError, match="holds another store; give another --out, or remove that one first"):
        corpus.prepare()
    assert corpus.copied() == []
    corpus.removed_there()
    corpus.prepare()
    assert corpus.utterances() == len(corpus.rows)


@pytest.fixture
def unsent(corpus: Corpus, monkeypatch: pytest.MonkeyPatch) -> Corpus:
    """A corpus whose store was made, while the network went before the last file of it was sent."""
    all_sent = Mirror._put

    def put(mirror: Mirror, name: str, blocks: Any) -> None:
        if name == "store.json":
            raise OSError("AWS Error NETWORK_CONNECTION")
        all_sent(mirror, name, blocks)

    with monkeypatch.context() as cut:
        cut.setattr("launcher.retries._PAUSES_SECONDS", ())
        cut.setattr(Mirror, "_put", put)
        kept = copies.cache_folder(corpus.uri) / "made" / "store"
        with pytest.raises(StorageError, match=f"what is prepared stays in {kept} until the same command has sent it"):
            corpus.prepare()
    assert "store.json" in corpus.copied()
    assert "store.json" not in corpus.bucket.keys(corpus.under)
    return corpus


def test_what_could_not_be_sent_is_sent_by_the_same_command_without_decoding(unsent: Corpus, monkeypatch) -> None:
    with monkeypatch.context() as deaf:
        deaf.setattr(shards, "write", lambda shard: pytest.fail("decodes again"))
        unsent.prepare()
    assert unsent.copied() == []
    assert unsent.utterances() == len(unsent.rows)


@pytest.mark.parametrize("damage", [False, True], ids=["whole", "cut short"])
def test_what_could_not_be_sent_does_not_stand_in_the_way_of_another_corpus(unsent: Corpus, damage: bool) -> None:
    if damage:
        os.truncate(copies.cache_folder(unsent.uri) / "made" / "store" / "utterances.arrow", 10)
    unsent.changes()
    unsent.prepare()
    assert unsent.copied() == []
    assert unsent.utterances() == len(unsent.rows)


def test_a_store_in_a_folder_is_not_replaced_by_another_corpus(corpus: Corpus) -> None:
    corpus.uri = str(corpus.folder / "store")
    corpus.prepare()
    corpus.changes()
    with pytest.raises(DataError, match="is a store of other data"):
        corpus.prepare()


def test_two_machines_do_not_prepare_one_store_at_a_time(anywhere: Corpus, monkeypatch) -> None:
    decodes = shards.write
    told: list[str] = []

    def meanwhile(shard: shards.Shard) -> Any:
        with monkeypatch.context() as other:
            other.setenv("XDG_CACHE_HOME", str(anywhere.folder / "other"))
            other.setattr(shards, "write", decodes)
            with pytest.raises(ResultsError) as refused:
                anywhere.prepare()
            told.append(str(refused.value))
        return decodes(shard)

    monkeypatch.setattr(shards, "write", meanwhile)
    anywhere.prepare()
    assert f"in use by process {os.getpid()} on " in told[0]
    assert "wait for it, or give another --out" in told[0]
    assert anywhere.utterances() == len(anywhere.rows)


def test_a_copy_that_cannot_be_removed_is_told(corpus: Corpus, monkeypatch) -> None:
    removed = shutil.rmtree

    def refuses(path: Path, *args: Any, **more: Any) -> None:
        if Path(path).name == "store":
            raise OSError(16, "Device or resource busy")
        removed(path, *args, **more)

    monkeypatch.setattr("launcher.making.shutil.rmtree", refuses)
    with pytest.raises(ResultsError, match=r"its copy in .*made/store cannot be removed \(Device or resource busy\)"):
        corpus.prepare()
    assert "store.json" in corpus.bucket.keys(corpus.under)
