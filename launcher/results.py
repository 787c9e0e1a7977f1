"""The tables of a study: every requested trial has its row, whatever became of it.

The folder of a study: study.json (what was requested), trials/<trial_id>/ (what each trial measured; the truth), and
results.parquet, rejects.parquet and one table per part: utterances, history, and shares, exact, audit where there are
audits (the union, written when a run ends).
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet

from launcher import attempt_times, launches, reading
from launcher.reading import ResultsError as ResultsError

ENDED = ("done", "failed", "pruned")
STATUSES = (*ENDED, "running", "pending", "interrupted")
_TEXT = ("trial_id", "study", "variant", "status", "error", "failure", "broken_off", "started", "finished", "node", "device",
         *launches.COLUMNS, "data_fingerprint", "reduction_used", "tracker_warning", "config")  # fmt: skip
_NUMBERS = ("wer", "cer", "nll_per_label", "clip_fraction", "grad_norm", "padding_fraction", "audio_seconds_per_second", "update_ratio",
            "seconds", "device_seconds", "earlier_device_seconds")  # fmt: skip
_COUNTS = ("attempts", "seed", "repeat", "updates", "non_finite_updates", "zero_infinity_hits", "out_of_memory", "peak_memory_bytes",
           "workers", "threads", "untimed_attempts")  # fmt: skip
_PARTS = ("utterances", "history", "shares", "exact", "audit")


@dataclass(frozen=True)
class Tables:
    """A study as data frames.

    Attributes:
        study: study.json: name, question, command, axes, baseline, groups, data, environment, trials.
        results: one row per requested trial; wer and cer are fractions, nll_per_label in nats, seconds and bytes as named.
        utterances: one row per trial x phase (initial, final) x evaluated utterance.
        history: one row per trial x logged update.
        shares: one row per trial x phase x reduction x class of a group column: who moves the weights.
        exact: how well the shares stand for the gradient of all weights; empty unless it was asked for.
        audit: one row per trial x phase x audited utterance, with its loss and the norm of its gradient.
        rejects: one row per utterance that could not be used, with the reason.
    """

    study: dict[str, Any]
    results: pd.DataFrame
    utterances: pd.DataFrame
    history: pd.DataFrame
    shares: pd.DataFrame
    exact: pd.DataFrame
    audit: pd.DataFrame
    rejects: pd.DataFrame


def load(folder: str | Path, parts: Sequence[str] = _PARTS) -> Tables:
    """Read a study, finished or running, by its folder or URI; of its tables by trial those named, the others are empty.

    Raises:
        ResultsError: the folder holds no study.json.
    """
    from launcher import places  # which reads these tables itself

    with places.read(folder) as place:
        return _load(place.folder, parts)


def _load(folder: Path, parts: Sequence[str]) -> Tables:
    study = read_study(folder)
    frames = {part: _concatenate(_part_files(folder, study, part) if part in parts else iter(())) for part in _PARTS}
    rejects = folder / "rejects.parquet"
    return Tables(
        study=study,
        results=results_table(folder, study).to_pandas(),
        rejects=reading.table(rejects).to_pandas() if rejects.is_file() else pd.DataFrame(),
        **frames,
    )


def write_tables(folder: Path) -> None:
    """Write the union of the trials' tables; memory stays flat in the number of rows."""
    study = read_study(folder)
    results = results_table(folder, study)
    write_whole(folder / "results.parquet", lambda path: pyarrow.parquet.write_table(results, path))
    for part in _PARTS:
        files = list(_part_files(folder, study, part))
        if files:
            write_whole(folder / f"{part}.parquet", lambda path, files=files: _write_union(files, path))


def export(folder: Path, kind: str) -> list[Path]:
    """Write the tables of a study into its folder `export`, as csv, json (one object per line) or parquet.

    A table that no trial wrote has no columns and gets no file.
    """
    tables = load(folder)
    written = []
    for name in ("results", *_PARTS, "rejects"):
        frame: pd.DataFrame = getattr(tables, name)
        if frame.columns.empty:
            continue
        writers = {
            "csv": lambda path, frame=frame: frame.to_csv(path, index=False),
            "json": lambda path, frame=frame: frame.to_json(path, orient="records", lines=True),
            "parquet": lambda path, frame=frame: frame.to_parquet(path, index=False),
        }
        path = folder / "export" / f"{name}.{kind}"
        write_whole(path, writers[kind])
        written.append(path)
    return written


def read_study(folder: Path) -> dict[str, Any]:
    """Read study.json.

    Raises:
        ResultsError: there is none, or it cannot be read.
    """
    try:
        content = reading.json_file(folder / "study.json")
    except FileNotFoundError as error:
        raise ResultsError(f"{folder} holds no study (no study.json); give the folder that --out named") from error
    except (OSError, ValueError) as error:
        raise ResultsError(f"{folder / 'study.json'} cannot be read ({error})") from error
    return reading.plan(content, folder / "study.json")


def trial_folder(folder: Path, trial_id: str) -> Path:
    """Return where a trial of a study writes."""
    return folder / "trials" / trial_id


def outcome(folder: Path) -> dict[str, Any]:
    """Read what became of a trial: what it measured, or its status and error.

    A trial is done when its result.json is there, failed when failure.json is, pruned when pruned.json is; with none of
    them it is interrupted when it has begun and pending when it has not.
    """
    record, result = attempts(folder), _json(folder / "result.json")
    at = _json(folder / "progress.json").get("at") if record["open"] else None
    known = attempt_times.known(folder, record, result, at)
    if warnings := _json(folder / "trackers.json").get("warnings"):
        known["tracker_warning"] = "; ".join(warnings)
    if result:
        return {**result, **known}
    if failure := _json(folder / "failure.json"):
        named = {name: failure.get(name) for name in ("error", "traceback", "node")}
        return {
            "status": "failed", **named, "failure": failure.get("class"), "finished": failure.get("time"), **known
        }  # fmt: skip
    if pruned := _json(folder / "pruned.json"):
        return {**pruned, **known}
    return {"status": "interrupted" if record["attempts"] else "pending", **known}


def attempts(folder: Path) -> dict[str, Any]:
    """Read how often a trial was begun, whether an attempt is open, and why earlier ones ended."""
    path = folder / "attempts.json"
    found = reading.shaped(_json(path), {"attempts": int, "ended": list, "took": list}, path)
    return {"attempts": 0, "open": False, "launch": "", "ended": [], "took": [], **found}


def trial_file(folder: Path) -> dict[str, Any]:
    """Read trial.json: what a trial is, and the launches that it was handed to; empty where there is none."""
    return reading.shaped(_json(folder / "trial.json"), {"identity": dict, "launches": list}, folder / "trial.json")


def record_failure(folder: Path, error: str, kind: str) -> None:
    """Note why a trial failed and the class of that failure, unless its worker did so itself."""
    if not (folder / "failure.json").is_file() and not (folder / "result.json").is_file():
        write_json(folder / "failure.json", {"error": error, "class": kind})


def results_table(folder: Path, study: Mapping[str, Any]) -> pa.Table:
    """Build results.parquet: requested trials first, joined with what became of each."""
    rows = [_row(folder, study, trial) for trial in study["trials"]]
    axes = [name for name in study["axes"] if name not in (*_TEXT, *_COUNTS)]
    grouped = sorted(
        {
            name
            for row in rows
            for name in row
            if name.split("/")[0] in ("wer", "cer", "nll_per_label", "padding_effect")
        }
        - set(_NUMBERS)
    )
    schema = pa.schema(
        [
            *((name, pa.string()) for name in _TEXT[:3]),
            *((name, _axis_type([row.get(name) for row in rows])) for name in axes),
            *((name, pa.int64()) for name in _COUNTS[:3]),
            *((name, pa.string()) for name in _TEXT[3:5]),
            *((name, pa.float64()) for name in (*_NUMBERS, *grouped)),
            *((name, pa.int64()) for name in _COUNTS[3:]),
            *((name, pa.string()) for name in _TEXT[5:]),
            ("mixed_code", pa.bool_()),
        ]
    )
    for row in rows:
        row.update({name: str(row.get(name)) for name in axes if schema.field(name).type == pa.string()})
    try:
        return pa.Table.from_pylist(rows, schema=schema)
    except (pa.ArrowException, OverflowError) as error:
        raise ResultsError(f"{folder}: its trials recorded no results ({error}); ask for it anew") from error


def write_json(path: Path, content: Any) -> None:
    """Write a JSON file whole or not at all."""
    text = json.dumps(content, indent=1, ensure_ascii=False, default=str)
    write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def write_whole(path: Path, write: Any) -> None:
    """Let `write(temporary)` make a file, flush it to the disk and put it in place.

    Raises:
        ResultsError: the folder cannot be written to; `Unwritable`: the disk is full or gone.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write(temporary)
        with temporary.open("rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
        flush_folder(path.parent)
    except OSError as error:
        raise reading.unwritable(path, error) from error
    finally:  # half a file would take the room that the next one needs; what was raised tells more than an error here
        with suppress(OSError):
            temporary.unlink()


def flush_folder(folder: Path) -> None:
    """Put the names in a folder on the disk: without it a file that was renamed can be gone after a power loss."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _row(folder: Path, study: Mapping[str, Any], trial: Mapping[str, Any]) -> dict[str, Any]:
    place = trial_folder(folder, trial["trial_id"])
    known, made = outcome(place), trial_file(place)
    return {
        **trial["axes"],
        **known,
        **launches.columns(made, known),
        "trial_id": trial["trial_id"],
        "study": study["study"],
        "variant": trial["variant"],
        "seed": trial["seed"],
        "repeat": trial.get("repeat", 0),
        "data_fingerprint": made.get("identity", {}).get("data") or study["data"]["fingerprint"],
        "config": json.dumps(trial["configuration"], sort_keys=True),
    }


def _part_files(folder: Path, study: Mapping[str, Any], part: str) -> Iterator[Path]:
    for trial in study["trials"]:
        file = trial_folder(folder, trial["trial_id"]) / f"{part}.parquet"
        if file.is_file():
            yield file


def _concatenate(files: Iterator[Path]) -> pd.DataFrame:
    tables = [reading.table(file) for file in files]
    return pa.concat_tables(tables, promote_options="default").to_pandas() if tables else pd.DataFrame()


def _write_union(files: Sequence[Path], path: Path) -> None:
    schema = pa.unify_schemas([reading.schema(file).remove_metadata() for file in files])
    with pyarrow.parquet.ParquetWriter(path, schema, compression="zstd") as writer:
        for file in files:
            table = reading.table(file)
            for name in schema.names:
                if name not in table.column_names:
                    table = table.append_column(schema.field(name), pa.nulls(len(table), schema.field(name).type))
            writer.write_table(table.select(schema.names).cast(schema))


def _axis_type(values: Sequence[Any]) -> pa.DataType:
    kinds = {type(value) for value in values}
    for kind, arrow in ((bool, pa.bool_()), (int, pa.int64()), (float, pa.float64())):
        if kinds == {kind}:
            return arrow
    return pa.float64() if kinds == {int, float} else pa.string()


def _json(path: Path) -> dict[str, Any]:
    try:
        return reading.json_file(path) if path.is_file() else {}
    except ValueError as error:
        raise ResultsError(f"{path} is damaged ({error}); remove it, and the same command makes it anew") from error
