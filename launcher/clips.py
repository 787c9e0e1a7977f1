"""Take the sound of single utterances out of a prepared store, short enough to stand in a page."""

from __future__ import annotations

import base64
import hashlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from launcher.config_values import ConfigurationError
from launcher.worst import Clips

LONGEST = 10.0  # seconds of a clip
_RATE = 16_000  # samples per second in every store
_LAYOUT = 2  # of the files of a store


def from_store(study: dict[str, Any], rows: pd.DataFrame) -> Clips:
    """Return the sound of utterances as FLAC in data: URIs.

    The folder of a study may come from somebody else, and it names a store of this machine: only a store with the
    fingerprint of the study's own data is opened, and only sound that lies in it or in the very stores it was made of.

    Args:
        study: study.json, which names the store.
        rows: utt_id and split of each.

    Raises:
        ConfigurationError: the study names no store, or it cannot be read here.
    """
    data = study.get("data") or {}
    folder = data.get("store")
    if not folder:
        raise ConfigurationError("--audio: study.json names no prepared store; write the report without --audio")
    try:
        return _clips(Path(folder), data.get("fingerprint"), rows)
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        if isinstance(error, ConfigurationError):
            raise
        raise ConfigurationError(
            f"--audio: the store {folder!r} of this study cannot be read here ({error}); write the report where the store is, "
            "or without --audio"
        ) from error


def _clips(folder: Path, fingerprint: Any, rows: pd.DataFrame) -> Clips:
    description = json.loads((folder / "store.json").read_text(encoding="utf-8"))
    if description.get("layout") != _LAYOUT:
        raise ConfigurationError(
            f"--audio: {str(folder)!r} is a store of layout {description.get('layout')!r}, this version reads {_LAYOUT}: prepare "
            "the data again, or write the report without --audio"
        )
    if fingerprint is None or description["fingerprint"] != fingerprint:
        raise ConfigurationError(
            f"--audio: {str(folder)!r} holds other data (fingerprint {description['fingerprint']!r}) than this study was run on "
            f"({fingerprint!r}); prepare that again, or write the report without --audio"
        )
    table, places = _mapped(folder / "utterances.arrow"), _mapped(folder / "places.arrow")
    known = table.select([name for name in ("utt_id", "split") if name in table.column_names]).to_pandas()
    sounds, cut, absent = {}, 0, 0
    for place, (utt_id, split) in enumerate(zip(rows["utt_id"], rows["split"])):
        row = _row(known, utt_id, split)
        entry = None if row is None else description["audio"][places.column("file")[row].as_py()]
        location = None if entry is None else _location(folder, entry)
        if row is None or entry is None or location is None:
            absent += 1
            continue
        recording = _mapped(_within(location, entry["file"])).column("audio")[places.column("place")[row].as_py()]
        samples_S = np.frombuffer(recording.as_py(), "<i2")
        cut += len(samples_S) > LONGEST * _RATE
        sounds[place] = _flac(samples_S[: int(LONGEST * _RATE)])
    notes = [f"Of {cut} the first {LONGEST:.0f} seconds are here."] if cut else []
    notes += [f"The sound of {absent} is not on this machine."] if absent else []
    return Clips(sounds, tuple(notes))


def _row(known: pd.DataFrame, utt_id: Any, split: Any) -> int | None:
    """Find an utterance; None where it is not in the store, or not alone under its name."""
    match = known["utt_id"] == str(utt_id)
    if "split" in known.columns and pd.notna(split):
        match &= known["split"] == str(split)
    found = np.flatnonzero(match.to_numpy(dtype=bool))
    return int(found[0]) if len(found) == 1 else None


def _location(folder: Path, entry: dict[str, Any]) -> Path | None:
    """Return the folder of the store that has this audio; None where that is at a URI."""
    location = entry.get("location")
    if location is None:
        return folder
    if "://" in location:
        return None
    other = folder / location  # a store beside this one is named from here
    if hashlib.sha256((other / "store.json").read_bytes()).hexdigest()[:16] != entry["identity"]:
        raise ConfigurationError(
            f"--audio: {str(other)!r} is not the store that {str(folder)!r} was made of; prepare the data again, or write the "
            "report without --audio"
        )
    return other


def _within(folder: Path, file: str) -> Path:
    path = (folder / file).resolve()
    if not path.is_relative_to(folder.resolve()):
        raise ConfigurationError(
            f"--audio: the store {str(folder)!r} names the file {file!r}, which is not in it; write the report without --audio"
        )
    return path


def _mapped(path: Path) -> pa.Table:
    with pa.memory_map(str(path)) as source:
        return pa.ipc.open_file(source).read_all()


def _flac(samples_S: np.ndarray) -> str:
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, samples_S, _RATE, format="FLAC", subtype="PCM_16")
    return f"data:audio/flac;base64,{base64.b64encode(file.getvalue()).decode()}"
