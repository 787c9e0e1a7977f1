"""From what `--data` names to the store that the trials of a study share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from trainables.corpora import fitting, importing, manifest, pipeline, remote, sample, store
from trainables.corpora.pipeline import Plan
from trainables.corpora.recordings import readable
from trainables.corpora.selecting import Source, select
from trainables.corpora.store import Store
from trainables.errors import DataError
from trainables.masking import without_passwords

Progress = Callable[[int, int], None]
TRAINED = ("train", "validation")
"""The splits without which nothing can be trained."""


def prepare(
    source: str,
    folder: Path,
    models: Sequence[tuple[str, str | None]],
    progress: Progress | None = None,
    *,
    needs: Sequence[str] = TRAINED,
) -> Store:
    """Return the store of a study's data, made on the first call and found again on later ones.

    Args:
        source: "sample", a manifest, a prepared store (folder or URI), or several of these with commas between.
        folder: where stores are kept; the store's own folder is named by what went into it.
        models: (model_type, pretrained_model_name) of every model of the study; an utterance that one of them
            cannot be trained on is rejected for all, so that all are trained on the same utterances.
        progress: called with (utterances done, utterances in all).
        needs: splits of the data that must not be empty.

    Raises:
        DataError: a source cannot be used, or nothing, or nothing of a needed split, can.
    """
    names = split(source)
    sources = [opened(name, folder, progress, needs=needs if len(names) == 1 else ()) for name in names]
    known = [fitting.model(model_type, name) for model_type, name in dict.fromkeys(models)]
    return select(sources, known, folder, needs)


def split(source: str) -> list[str]:
    """Take `a,b` apart; a comma in the name of something that exists separates nothing.

    Raises:
        DataError: an empty name, or one that stands twice.
    """
    if "," not in source or _exists(source):
        return [source]
    names = [name.strip() for name in source.split(",")]
    if "" in names or len(set(names)) < len(names):
        raise DataError(f"--data {source!r}: give manifests and stores with commas between, each once")
    return names


def _exists(name: str) -> bool:
    path = importing.expanded(name)
    return importing.is_file(path) or importing.is_folder(path)


def opened(name: str, folder: Path, progress: Progress | None = None, *, needs: Sequence[str] = ()) -> Source:
    """Open one of the sources of a study.

    Args:
        name: "sample", a manifest, or a prepared store (folder or URI).
        folder: where a manifest is made into a store.
        progress: called with (utterances done, utterances in all).
        needs: splits of a manifest that must not be empty.

    Raises:
        DataError: it cannot be used.
    """
    if remote.is_uri(name):
        if without_passwords(name) != name:  # a selection names its stores, for all nodes and whoever gets the folder
            raise remote.wrong(
                f"{name}: a key in this address would stand in the files of the study; give it by the environment "
                "(AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY), by a profile of the cloud's tools, or by the role of the machine"
            )
        return Source(Store.open(remote.fetch(name)), name, copied=True)
    path = importing.expanded(name)
    if importing.is_file(path / store.DESCRIPTION):
        return Source(Store.open(path), str(path.resolve()))
    read = manifest.read(sample.manifest_path() if name == "sample" else path)
    plan = Plan(
        manifest.found(read),
        about={
            "source": readable(name),
            "corpus": "manifest",
            "filled": {column: readable(value) for column, value in read.filled.items()},
        },
        needs=tuple(needs),
    )
    stem = readable(read.path.parent.name if name == "sample" else read.path.stem)
    made = pipeline.build(folder / f"{stem}-{plan.key[:8]}", plan, progress=progress)
    return Source(made, str(made.path.resolve()))
