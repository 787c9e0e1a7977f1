"""A machine that works on a trial of a study in a bucket; for tests of what is sent, and of what is left behind."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gcs
import pytest
import s3
import trials

from launcher.mirror import Mirror

NAME = "mean-s1-00000000"


class Node:
    """A machine with a copy of nothing."""

    def __init__(
        self, bucket: s3.Bucket | gcs.Bucket, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.bucket, self.under, self.tmp_path, self.patch = bucket, f"studies/{tmp_path.name}", tmp_path, monkeypatch
        out = tmp_path / "out"
        self.job: dict[str, Any] = {
            **trials.job(store, out / "trials" / NAME, {"save_total_limit": 2}),
            "out": str(out), "uri": bucket.uri(self.under), "stop_file": str(out / ".stop-1"), "audits": str(out / "audits"),
            "launch": "one",
        }  # fmt: skip
        self.moves("first")

    def moves(self, name: str) -> None:
        """Go on on another machine."""
        self.patch.setenv("XDG_CACHE_HOME", str(self.tmp_path / name))

    def keys(self) -> list[str]:
        return self.bucket.keys(f"{self.under}/trials/{NAME}")

    def json(self, name: str) -> dict[str, Any]:
        return json.loads(self.bucket.read(f"{self.under}/trials/{NAME}/{name}"))

    def fetched(self, name: str) -> Path:
        """Copy all that is there of the trial."""
        Mirror(self.job["uri"], self.tmp_path / name).pull()
        return self.tmp_path / name / "trials" / NAME
