"""What the command `prepare` does; the launcher finds these functions by name."""

from __future__ import annotations

import importlib
import inspect as python_inspect
import pkgutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import trainables.corpora
from trainables.corpora import importing, pipeline, remote, selecting, splits, summary
from trainables.corpora import prepare as sources
from trainables.corpora.pipeline import Plan
from trainables.corpora.recordings import readable
from trainables.corpora.store import Store
from trainables.errors import DataError

_OF_A_REJECT = ("utt_id", "reason", "detail")


def prepare(
    corpus: str,
    root: Path,
    out: Path,
    *,
    options: Sequence[str] = (),
    split: str = "",
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
    anew: bool = False,
) -> dict[str, Any]:
    """Make a store of a corpus as researchers have it on disk.

    Args:
        corpus: name of an importer.
        root: where the corpus lies.
        out: folder of the store; it is made.
        options: NAME=VALUE for the importer.
        split: a named split in place of that of the importer.
        workers: processes that decode; None: one per core.
        progress: called with (utterances done, utterances in all).
        anew: see `pipeline.build`.

    Returns:
        `summary.of` the store.

    Raises:
        DataError: unknown corpus, option or split, nothing of that corpus at `root`, or `out` cannot be written to.
    """
    importer = _importer(corpus)
    settings = importing.settings(corpus, _pairs(options, importer), importer.OPTIONS)
    if split:
        splits.parse(split)
    found = importer.find(importing.expanded(root), settings)
    about = {"source": readable(str(root)), "corpus": corpus, "options": settings}
    plan = Plan(found, about=about, split=split)
    store = pipeline.build(importing.expanded(out), plan, workers=workers, progress=progress, anew=anew)
    return summary.of(store)


def inspect(location: str, progress: Callable[[int, int], None] | None = None) -> dict[str, Any]:
    """Summarise a store, a manifest, or the union of several of them.

    Args:
        location: a folder, URI or manifest, or several with commas between.
        progress: called with (utterances done, utterances in all) while the audio of a manifest is read.

    Returns:
        `summary.of` the store. Where it was made for this alone, from a manifest or as a union, and is gone, `path` is ""
        and `rejected` lists each utterance that cannot be used: utt_id, reason, detail.

    Raises:
        DataError: one of them cannot be used, or nothing of it.
    """
    names = sources.split(location)
    is_store = remote.is_uri(location) or importing.is_folder(importing.expanded(location))
    if len(names) == 1 and location != "sample" and is_store:
        folder = remote.fetch(location) if remote.is_uri(location) else importing.expanded(location)
        return summary.of(Store.open(folder))
    with tempfile.TemporaryDirectory(prefix="lossgrid-inspect-") as scratch:
        opened = [sources.opened(name, Path(scratch), progress) for name in names]
        store = selecting.select(opened, [], Path(scratch))
        found = summary.of(store)
        for part in found["parts"]:
            part["location"] = "" if part["location"].startswith(scratch) else part["location"]
        rejected = [{name: row[name] for name in _OF_A_REJECT} for row in store.rejects()]
        return {**found, "path": "", "rejected": rejected}


def importers() -> list[str]:
    """List the corpora that can be prepared: modules of this package with `find` and `OPTIONS`."""
    names = [module.name for module in pkgutil.iter_modules(trainables.corpora.__path__)]
    return [name for name in names if _is_importer(importlib.import_module(f"trainables.corpora.{name}"))]


def _importer(corpus: str) -> ModuleType:
    known = importers()
    if corpus not in known:
        raise DataError(f"unknown corpus {corpus!r}; choose one of: {', '.join(known)}")
    return importlib.import_module(f"trainables.corpora.{corpus}")


def _is_importer(module: ModuleType) -> bool:
    return hasattr(module, "OPTIONS") and python_inspect.isfunction(getattr(module, "find", None))


def _pairs(options: Sequence[str], importer: ModuleType) -> dict[str, str]:
    pairs = [option.partition("=") for option in options]
    names = [name.strip() for name, _, _ in pairs]
    if wrong := [option for option, (name, equals, _) in zip(options, pairs) if not equals or not name.strip()]:
        raise DataError(f"--option {wrong[0]!r}: write NAME=VALUE; names: {', '.join(importer.OPTIONS) or 'none'}")
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise DataError(f"--option {twice[0]} is given more than once")
    return {name: value.strip() for name, (_, _, value) in zip(names, pairs)}
