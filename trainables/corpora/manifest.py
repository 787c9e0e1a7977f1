"""Read a manifest: one row per utterance, as .csv, .tsv, .jsonl or .parquet.

Needed columns: utt_id, audio (or path), transcript, split. Recommended: speaker, group, corpus. All others are kept.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow.parquet

from trainables.corpora import importing
from trainables.corpora.recordings import Found, Recording, readable
from trainables.errors import DataError

OPTIONS: Mapping[str, tuple[str, ...]] = {}
FORMATS = (".csv", ".tsv", ".jsonl", ".parquet")
NEEDED = ("utt_id", "audio", "transcript", "split")
SPLITS = ("train", "validation", "test")
_OF_RECORDINGS = ("utt_id", "audio", "transcript", "speaker", "corpus", "group", "split", "duration_seconds")
_OTHER_NAMES = {"path": "audio", "file": "audio", "id": "utt_id", "text": "transcript"}
_SPLIT_NAMES = {"dev": "validation", "valid": "validation", "val": "validation", "eval": "validation"}


@dataclass(frozen=True)
class Manifest:
    """The rows of a manifest, as text.

    Attributes:
        path: where it was read from; relative audio paths start at its folder.
        rows: one mapping per utterance, same keys in each; missing values are "".
        filled: columns the manifest lacked, with the value that stands in for them.
    """

    path: Path
    rows: tuple[dict[str, str], ...]
    filled: dict[str, str]


def find(root: Path, options: Mapping[str, str]) -> Found:
    """Return the rows of a manifest as recordings.

    Args:
        root: the manifest.
        options: none are known.

    Raises:
        DataError: as `read`; an option.
    """
    importing.settings("manifest", options, OPTIONS)
    return found(read(root))


def found(manifest: Manifest) -> Found:
    """Return the rows of a manifest as recordings; columns that they do not know are kept as further columns."""
    recordings = (
        Recording(
            utt_id=row["utt_id"],
            audio=(str(audio_path(manifest.path.absolute(), row["audio"])) if row["audio"] else "",),
            transcript=row["transcript"],
            speaker=row["speaker"],
            corpus=row["corpus"],
            group=row["group"],
            split=row["split"],
            more={name: value for name, value in row.items() if name not in _OF_RECORDINGS},
        )
        for row in manifest.rows
    )
    notes = (
        f"the manifest has no column {column}; {value!r} stands in for it" for column, value in manifest.filled.items()
    )
    return Found(tuple(recordings), notes=tuple(notes))


def read(path: Path) -> Manifest:
    """Read and check a manifest.

    Raises:
        DataError: no such file, unknown format, unreadable, no permission, a needed column is missing, no row, a row without
            utt_id, an unknown split, or two columns that mean the same.
    """
    try:
        rows = _read_rows(path)
    except PermissionError as error:
        raise DataError(
            f"{path} cannot be read: {error.strerror}; check its permissions and those of its folder"
        ) from error
    if not rows:
        raise DataError(f"{path} has no rows; a manifest has one row per utterance")
    names = _names(tuple(rows[0]), path)
    rows = [{names[key]: value for key, value in row.items()} for row in rows]
    columns = tuple(rows[0])
    if odd := [name for name in columns if readable(name) != name]:
        raise DataError(f"{path}: the name of the column {odd[0]!r} holds what is no character; give it another name")
    if missing := [name for name in NEEDED if name not in columns]:
        raise DataError(
            f"{path} lacks the column{'s' if len(missing) > 1 else ''} {', '.join(missing)}; "
            f"it has: {', '.join(columns)}. Needed: {', '.join(NEEDED)} (path is read as audio)"
        )
    defaults = {"speaker": "unknown", "corpus": path.stem, "group": "all"}
    filled = {name: value for name, value in defaults.items() if name not in columns}
    for number, row in enumerate(rows, start=1):
        row.update(filled)
        row["split"] = _SPLIT_NAMES.get(row["split"].strip().lower(), row["split"].strip().lower())
        if not row["utt_id"] or row["split"] not in SPLITS:
            raise DataError(
                f"{path}, row {number}: utt_id {row['utt_id']!r}, split {row['split']!r}; "
                f"every row needs an utt_id and one of the splits {', '.join(SPLITS)}"
            )
    return Manifest(path, tuple(rows), filled)


def _names(columns: Sequence[str], path: Path) -> dict[str, str]:
    """Return what each column is called here: `path` is `audio` where there is no column of that name, and so on."""
    names = {name: name if _OTHER_NAMES.get(name, name) in columns else _OTHER_NAMES[name] for name in columns}
    for name in NEEDED:
        if len(alike := [column for column, known in names.items() if known == name]) > 1:
            raise DataError(f"{path}: the columns {' and '.join(alike)} both stand for {name}; call one of them {name}")
    return names


def audio_path(manifest: Path, audio: str) -> Path:
    """Resolve the audio of a row: absolute, below `~`, or relative to the folder of the manifest."""
    try:
        return manifest.parent / Path(audio).expanduser()
    except (RuntimeError, ValueError):
        # ~name.wav, and nobody here is called name.wav: a file of that name.
        return manifest.parent / audio


def _read_rows(path: Path) -> list[dict[str, str]]:
    if not importing.is_file(path):
        what = "is a folder, not a manifest" if importing.is_folder(path) else "does not exist"
        raise DataError(f"{str(path)!r} {what}; give a manifest ({', '.join(FORMATS)}) or a prepared store")
    if path.suffix.lower() not in FORMATS:
        raise DataError(f"{str(path)!r}: unknown format {path.suffix!r}; allowed: {', '.join(FORMATS)}")
    try:
        if path.suffix.lower() == ".parquet":
            return _parquet_rows(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = _json_rows(file, path) if path.suffix.lower() == ".jsonl" else _delimited_rows(file, path)
            return list(lines)
    except (UnicodeDecodeError, csv.Error, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read ({error}); manifests are UTF-8 text or Parquet") from error


def _delimited_rows(file: Iterator[str], path: Path) -> Iterator[dict[str, str]]:
    reader = csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
    header: Sequence[str] = [name.strip() for name in reader.fieldnames or ()]
    if repeated := sorted({name for name in header if list(header).count(name) > 1}):
        raise DataError(f"{path} has the column {', '.join(repeated)} more than once")
    for row in reader:
        if None in row or None in row.values():
            raise DataError(
                f"{path}, line {reader.line_num}: {len(header)} fields expected as in the header; "
                "quote transcripts that contain the delimiter"
            )
        yield {key.strip(): value for key, value in row.items()}


def _json_rows(file: Iterator[str], path: Path) -> Iterator[dict[str, str]]:
    parsed: list[dict[str, object]] = []
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}, line {number}: not JSON ({error.msg})") from error
        if not isinstance(value, dict):
            raise DataError(f"{path}, line {number}: one JSON object per line is needed, got {line.strip()[:60]!r}")
        parsed.append(value)
    yield from _as_text(parsed)


def _parquet_rows(path: Path) -> list[dict[str, str]]:
    return list(_as_text(pyarrow.parquet.read_table(path).to_pylist()))


def _as_text(rows: list[dict[str, object]]) -> Iterator[dict[str, str]]:
    columns = tuple(dict.fromkeys(key for row in rows for key in row))
    for row in rows:
        yield {name: "" if row.get(name) is None else str(row[name]) for name in columns}
