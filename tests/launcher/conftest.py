"""A bucket, a store and a machine, for tests of studies that lie elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import gcs
import pytest
import s3
import trials
from bucket_nodes import Node


@pytest.fixture(scope="module")
def bucket() -> Iterator[s3.Bucket]:
    with s3.bucket() as made:
        yield made


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trials.small_store(tmp_path_factory)


@pytest.fixture
def node(bucket: s3.Bucket, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Node:
    return Node(bucket, store, tmp_path, monkeypatch)


@pytest.fixture(params=[s3, pytest.param(gcs, marks=pytest.mark.slow)], ids=["s3", "gs"])
def anywhere(
    request: pytest.FixtureRequest, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Node]:
    """A node for a study in a bucket of one kind or the other."""
    with request.param.bucket() as made:
        yield Node(made, store, tmp_path, monkeypatch)
