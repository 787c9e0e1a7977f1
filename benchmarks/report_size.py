"""What a report over very many utterances takes: time, and the peak of the memory of a process that does nothing else.

    python benchmarks/report_size.py [--trials 10] [--utterances 500000]

The study is made up: five reductions, words and sentences of 200 speakers, scored before and after training.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import pyarrow as pa
import pyarrow.parquet

OUT = Path(__file__).parent / "out" / "report_size.json"
NAMES = ("mean", "sum", "sqrt_length", "per_frame", "token_mean")
WRITE = """
import sys
from pathlib import Path
from launcher import report, utterance_files
report.write(utterance_files.open_study(Path(sys.argv[1])), Path(sys.argv[1]) / "report.html")
status = Path("/proc/self/status").read_text()
print(int(status.partition("VmHWM:")[2].split()[0]) * 1024)
"""


@click.command()
@click.option("--trials", default=10, show_default=True)
@click.option("--utterances", default=500_000, show_default=True, help="Of each trial and phase.")
def main(trials: int, utterances: int) -> None:
    """Measure, print, write JSON."""
    with tempfile.TemporaryDirectory(prefix="lossgrid-report-") as scratch:
        rows = study(Path(scratch), trials, utterances)
        started = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", WRITE, scratch], capture_output=True, text=True, check=True)
        seconds = time.perf_counter() - started
        page = (Path(scratch) / "report.html").stat().st_size
    peak = int(done.stdout.split()[-1])
    print(f"{rows:,} rows: {seconds:.1f} s, {peak / 1e9:.2f} GB at the peak, page of {page / 1e6:.1f} MB")
    OUT.parent.mkdir(parents=True, exist_ok=True)
    measured = {"rows": rows, "seconds": seconds, "peak_memory_bytes": peak, "page_bytes": page}
    OUT.write_text(json.dumps(measured, indent=1), encoding="utf-8")


def study(out: Path, trials: int, utterances: int) -> int:
    """Write a study; return its rows of utterances."""
    rng, number = np.random.default_rng(1), np.arange(utterances)
    words = np.where(number % 2 == 0, 1, 4 + number % 9)
    texts = pa.array([" ".join(["SEVEN"] * count) for count in range(13)])
    known = {
        "utt_id": pa.array([f"u{one:07d}" for one in number]),
        "corpus": pa.array(["made"] * utterances),
        "split": pa.array(["test"] * utterances),
        "group": pa.array(np.where(number % 2 == 0, "word", "sentence")),
        "speaker": pa.array([f"s{one % 200:03d}" for one in number]),
        "reference": texts.take(pa.array(words)),
        "labels": pa.array(6 * words),
        "frames": pa.array(20 + 17 * words),
        "duration_seconds": pa.array(0.4 + 0.35 * words),
    }
    listed = []
    for trial in range(trials):
        name, seed = NAMES[trial % len(NAMES)], 1 + trial // len(NAMES)
        trial_id = f"{name}-s{seed}-{trial:08x}"
        folder = out / "trials" / trial_id
        folder.mkdir(parents=True)
        wrong = rng.binomial(words, 0.3 + 0.03 * (trial % len(NAMES)))
        scored = {
            **known, "hypothesis": texts.take(pa.array(words - wrong)), "loss": pa.array(4.0 * words * rng.gamma(2, 0.5, utterances)),
            "substitutions": pa.array(0 * wrong), "insertions": pa.array(0 * wrong), "deletions": pa.array(wrong),
            "hits": pa.array(words - wrong), "char_errors": pa.array(6 * wrong), "chars": pa.array(6 * words),
        }  # fmt: skip
        phases = [
            pa.table({**scored, "trial_id": [trial_id] * utterances, "phase": [phase] * utterances})
            for phase in ("initial", "final")
        ]
        pyarrow.parquet.write_table(pa.concat_tables(phases), folder / "utterances.parquet", compression="zstd")
        wer = float(wrong.sum() / words.sum())
        result = {
            "status": "done",
            "wer": wer,
            "cer": wer,
            "nll_per_label": 1.0,
            "updates": 1,
            "seconds": 1.0,
            "device": "cpu",
        }
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")
        axes = {"reduction": name, "seed": seed}
        listed.append(
            {"trial_id": trial_id, "variant": f"reduction={name}", "seed": seed, "repeat": 0, "axes": axes, "configuration": {}}
        )  # fmt: skip
    data = {"source": "made", "fingerprint": "0", "utterances": utterances, "hours": 1.0, "counts": [], "rejects": {}}
    seeds = sorted({one["seed"] for one in listed})
    study = {
        "study": "losses", "question": "?", "created": "", "command": "", "axes": {"reduction": NAMES, "seed": seeds},
        "baseline": listed[0]["variant"], "groups": ["group"], "data": data, "environment": {}, "trials": listed,
    }  # fmt: skip
    (out / "study.json").write_text(json.dumps(study), encoding="utf-8")
    return 2 * trials * utterances


if __name__ == "__main__":
    main()
