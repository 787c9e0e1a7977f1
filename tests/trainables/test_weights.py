"""Checkpoints that lie in a bucket are copied whole, once per node, and a trial starts from what it is named by."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gcs
import pytest
import s3
from trials import error, job, run, small_store

from launcher import config
from search_spaces import audit
from trainables import preflight, weights
from trainables.errors import DataError


@pytest.fixture(scope="module", params=[s3, gcs], ids=["s3", "gs"])
def bucket(request: pytest.FixtureRequest) -> Iterator[s3.Bucket | gcs.Bucket]:
    with request.param.bucket() as made:
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_store(tmp_path_factory)


@pytest.fixture(scope="module")
def model(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small model that was trained."""
    folder = tmp_path_factory.mktemp("trained")
    run(job(store, folder))
    return folder / "model"


@pytest.fixture
def uri(bucket: s3.Bucket | gcs.Bucket, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The same in a bucket, for a machine without a copy of anything."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for path in model.iterdir():
        bucket.write(f"{tmp_path.name}/model/{path.name}", path.read_bytes())
    return bucket.uri(f"{tmp_path.name}/model")


def measuring(store: Path, folder: Path, name: str) -> dict[str, Any]:
    """A trial that scores a trained model."""
    told = job(store, folder, {"do_train": False})
    told["sections"]["Training Configuration"]["load_model"] = name
    return told


def test_a_model_in_a_bucket_is_the_one_on_disk(uri: str, model: Path, store: Path, tmp_path: Path) -> None:
    assert weights.hash_of(uri) == weights.hash_of(str(model))
    there, here = (measuring(store, tmp_path / name, where) for name, where in (("there", uri), ("here", str(model))))
    ready = preflight.ready(str(store), tmp_path, [there["sections"], here["sections"]], ["group"])
    assert ready.weights == {uri: weights.hash_of(str(model)), str(model): weights.hash_of(str(model))}
    assert run({**there, "weights": ready.weights})["nll_per_label"] == run(here)["nll_per_label"]


def test_it_is_copied_once_and_again_when_it_changes(uri: str, bucket: s3.Bucket | gcs.Bucket, tmp_path: Path) -> None:
    first = weights.folder_of(uri)
    assert first is not None
    before = (first / "config.json").stat().st_mtime_ns
    assert weights.folder_of(uri) == first
    assert (first / "config.json").stat().st_mtime_ns == before
    bucket.write(f"{tmp_path.name}/model/vocab.json", b'{"another": 0}')
    second = weights.folder_of(uri)
    assert second not in (None, first)
    assert not list(weights.cache_folder().glob(".*"))  # neither locks nor halves


def test_a_trial_does_not_start_from_another_model_than_the_one_it_is_named_by(
    uri: str, bucket: s3.Bucket | gcs.Bucket, store: Path, tmp_path: Path
) -> None:
    known = {uri: weights.hash_of(uri)}
    bucket.write(f"{tmp_path.name}/model/vocab.json", b'{"another": 0}')
    trial = {**measuring(store, tmp_path / "trial", uri), "weights": known}
    run(trial, "failed")
    assert "is not what it was when the study was launched" in error(tmp_path / "trial")


def test_neither_does_it_from_a_folder_that_was_trained_anew(model: Path, store: Path, tmp_path: Path) -> None:
    copy = tmp_path / "model"
    shutil.copytree(model, copy)
    known = {str(copy): weights.hash_of(str(copy))}
    with (copy / "model.safetensors").open("r+b") as file:
        file.seek(-4, 2)
        file.write(b"\x00\x00\x80\x3f")
    trial = {**measuring(store, tmp_path / "trial", str(copy)), "weights": known}
    run(trial, "failed")
    assert "is not what it was when the study was launched" in error(tmp_path / "trial")


def test_what_is_not_there_is_one_message_without_the_key(
    bucket: s3.Bucket | gcs.Bucket, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(DataError, match=r"there is no checkpoint at .*of a trial give the folder model"):
        weights.folder_of(bucket.uri("nothing"))
    with pytest.raises(DataError, match="cannot be reached") as refused:
        weights.folder_of("s3://KEY:SEC/RET@bucket/x?no_such_option=1")
    assert "SEC" not in str(refused.value)
    assert "RET" not in str(refused.value)


def test_what_does_not_come_over_whole_is_not_kept(uri: str, monkeypatch: pytest.MonkeyPatch) -> None:
    written = Path.stat

    def stat(path: Path, **how: Any) -> Any:  # as if the object had been replaced by a longer one meanwhile
        found = written(path, **how)
        return type("Stat", (), {"st_size": found.st_size + 1}) if path.name == "model.safetensors" else found

    with monkeypatch.context() as changed:
        changed.setattr(Path, "stat", stat)
        with pytest.raises(DataError, match="changed while it was copied"):
            weights.folder_of(uri)
    assert not [path for path in weights.cache_folder().rglob("*") if path.is_file()]
    assert weights.folder_of(uri) is not None


def test_a_study_takes_the_address_as_it_is(uri: str) -> None:
    overrides = (f"load_model={uri}", "seed=1")
    study = audit.study(config.load(None, overrides, defaults=audit.DEFAULTS))
    assert {cell.training.load_model for cell in study.configurations} == {uri}
