"""The data of a study, as `doctor` looks at them: read by the same way as a study reads them."""

from __future__ import annotations

import pkgutil
import shlex
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from launcher import progress
from launcher.findings import OK, WARNING, Finding

_PREPARE = "trainables.preflight:prepare"
_INSPECT = "trainables.corpora.commands:inspect"
_LINES = 3


def data(source: str, folder: Path | None, console: Console) -> list[Finding]:
    """Read all audio of a manifest, or open a store, and say what a study would find.

    Args:
        source: as `--data`.
        folder: of the study: a store made of a manifest is kept there for it; None: it is thrown away.
        console: where progress goes.

    Raises:
        ValueError: with `is_request_error`, when no study can use the data.
    """
    with _stores(folder) as stores, progress.reading(console, "reading audio") as bar:
        task = bar.add_task("audio", total=None)
        store = pkgutil.resolve_name(_PREPARE)(
            source, stores, [{"model_type": "tiny"}], ["group"],
            lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
        found = pkgutil.resolve_name(_INSPECT)(str(store.path))
    kept = f"{store.path / 'rejects.parquet'} lists them"
    which = kept if folder is not None else f"python launch.py prepare --inspect {shlex.quote(source)} lists them"
    return list(_findings(found, which))


@contextmanager
def _stores(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder / "stores"
        return
    with tempfile.TemporaryDirectory(prefix="lossgrid-doctor-") as scratch:
        yield Path(scratch)


def _findings(found: dict[str, Any], which: str) -> Iterator[Finding]:
    groups = ", ".join(f"{row['group']} {row['utterances']:,}" for row in found["by"]["group"])
    splits = ", ".join(f"{row['split']} {row['utterances']:,}" for row in found["by"]["split"])
    yield Finding(
        OK, "data",
        f"{found['utterances']:,} utterances, {found['hours']:.2f} hours, fingerprint {found['fingerprint']}; "
        f"by group: {groups}; by split: {splits}",
    )  # fmt: skip
    if rejects := found["rejects"]:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in rejects.items())
        advice = f"{which}; mend them, or go on without"
        yield Finding(WARNING, "data", f"{sum(rejects.values()):,} utterances cannot be used: {reasons}", advice)
    if shared := found["leak_lines"]:
        more = f"; and {len(shared) - _LINES} more" if len(shared) > _LINES else ""
        advice = "if splits are to be apart: prepare --split; prepare --inspect lists all"
        yield Finding(WARNING, "data", "; ".join(shared[:_LINES]) + more, advice)
