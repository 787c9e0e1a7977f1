"""What preparing a corpus costs, beside a plain loop that only decodes: time, processor time, memory; threads or processes.

    python benchmarks/prepare.py [--files 20000] [--data MANIFEST.csv]

Without `--data` a corpus of noise is made: of ten files nine are words (16 kHz, 0.5 to 1.2 s), one is a sentence (44.1 kHz,
2 to 4 s). "Loop" reads, decodes and resamples each file with soundfile and soxr in one thread, hashes and keeps nothing;
"threads" does that in a pool; the others are whole preparations, store written. Each is a process of its own. Memory is the peak of the process, and of the
largest it started. On a machine with other work the processor time says more than the time.
"""

from __future__ import annotations

import csv
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import click
import numpy as np
import soundfile
import soxr

from trainables.corpora import manifest, pipeline
from trainables.corpora.audio import SAMPLE_RATE_HZ
from trainables.corpora.pipeline import Plan

OUT = Path(__file__).parent / "out" / "prepare.json"


@click.command()
@click.option("--files", default=20_000, show_default=True, help="Of the corpus of noise.")
@click.option("--data", type=click.Path(path_type=Path), help="Manifest to prepare instead.")
@click.option("--workers", default=pipeline.cores(), help="Threads and processes.  [default: cores]")
@click.option("--turns", default=1, show_default=True, help="The fastest of so many counts.")
@click.option("--one", help="Internal: WAY of a single measurement.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(files: int, data: Path | None, workers: int, turns: int, one: str | None, out: Path) -> None:
    """Print the table."""
    if one is not None:
        assert data is not None
        click.echo(json.dumps(_measure(one, data, workers)))
        return
    with tempfile.TemporaryDirectory() as scratch:
        source = data or _make(Path(scratch), files)
        rows = [_fastest(way, source, workers, turns) for way in ("loop", "threads", "one process", "processes")]
    assert len({row["fingerprint"] for row in rows if row["fingerprint"]}) == 1, "the stores differ"
    loop = rows[0]
    click.echo(
        f"{rows[0]['files']:,} files, {workers} workers; stores of one and {workers} processes have one fingerprint"
    )
    click.echo(
        f"{'':14}{'files / s':>10}{'time / loop':>13}{'processor time / loop':>23}{'peak MiB':>10}{'of a child':>12}"
    )
    for row in rows:
        click.echo(
            f"{row['way']:14}{row['files'] / row['seconds']:10.0f}{row['seconds'] / loop['seconds']:13.2f}"
            f"{row['cpu_seconds'] / loop['cpu_seconds']:23.2f}{row['peak_bytes'] / 2**20:10.0f}"
            f"{row['child_peak_bytes'] / 2**20:12.0f}"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"workers": workers, "rows": rows}, indent=1))


def _fastest(way: str, source: Path, workers: int, turns: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--one", way, "--data", str(source), "--workers", str(workers)]
    root = str(Path(__file__).resolve().parents[1])
    environment = {**os.environ, "PYTHONPATH": root}
    found = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout)
        for _ in range(turns)
    ]
    return min(found, key=lambda row: row["seconds"])


def _measure(way: str, source: Path, workers: int) -> dict[str, Any]:
    found = manifest.find(source, {})
    paths = [recording.audio[0] for recording in found.recordings]
    before, start, fingerprint = _cpu_seconds(), time.perf_counter(), None
    if way == "loop":
        for path in paths:
            _decoded(path)
    elif way == "threads":
        with ThreadPoolExecutor(workers) as pool:
            for _ in pool.map(_decoded, paths):
                pass
    else:
        with tempfile.TemporaryDirectory(dir=source.parent) as scratch:
            processes = 1 if way == "one process" else workers
            fingerprint = pipeline.build(Path(scratch) / "store", Plan(found), workers=processes).fingerprint
    seconds = time.perf_counter() - start
    peaks = [resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return {
        "way": way, "files": len(paths), "seconds": seconds, "cpu_seconds": _cpu_seconds() - before,
        "peak_bytes": peaks[0], "child_peak_bytes": peaks[1], "fingerprint": fingerprint,
    }  # fmt: skip


def _decoded(path: str) -> int:
    samples_SC, rate_hz = soundfile.read(path, dtype="float32", always_2d=True)
    samples_S = samples_SC.mean(axis=1)
    if rate_hz != SAMPLE_RATE_HZ:
        samples_S = soxr.resample(samples_S, rate_hz, SAMPLE_RATE_HZ, quality="HQ")
    return len(np.round(32_767 * samples_S).astype(np.int16))


def _cpu_seconds() -> float:
    """Return what this process and those that it waited for have used."""
    uses = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(use.ru_utime + use.ru_stime for use in uses)


def _make(folder: Path, files: int) -> Path:
    rng = np.random.default_rng(1)
    noise = (0.1 * rng.standard_normal(400_000)).astype(np.float32)
    rows = []
    for number in range(files):
        sentence = number % 10 == 9
        rate_hz, seconds = (44_100, 2 + 2 * rng.random()) if sentence else (16_000, 0.5 + 0.7 * rng.random())
        start = int(rng.integers(0, len(noise) - 180_000))
        soundfile.write(folder / f"{number}.wav", noise[start : start + int(seconds * rate_hz)], rate_hz)
        split = ("train", "train", "train", "validation", "test")[number % 5]
        text = "some words that somebody read" if sentence else f"word {number % 455}"
        rows.append([f"u{number}", f"{number}.wav", text, split, f"s{number % 20}", "l2" if sentence else "dysarthric"])
    with (folder / "manifest.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([["utt_id", "audio", "transcript", "split", "speaker", "group"], *rows])
    return folder / "manifest.csv"


if __name__ == "__main__":
    main()
