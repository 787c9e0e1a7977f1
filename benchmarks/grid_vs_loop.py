"""Four trials by lossgrid and by a plain loop of stock `Trainer` processes: same data, same model, same updates.

    python benchmarks/grid_vs_loop.py --data MANIFEST.csv --epochs 10

The loop is what a careful user writes without lossgrid: one process per trial, one after the other with all cores; audio
decoded once in each; random batches; the loss inside the model; evaluation after each epoch. Prints a table and writes
JSON. Times are of whole commands, start-up included; only their ratio on one machine means something.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import click

ROOT = Path(__file__).resolve().parents[1]


@click.command()
@click.option("--data", required=True, type=click.Path(exists=True, path_type=Path), help="Manifest.")
@click.option("--epochs", default=10, show_default=True)
@click.option("--update-size", default=8, show_default=True)
@click.option("--learning-rate", default=6e-3, show_default=True)
@click.option("--reductions", default="sum,mean", show_default=True)
@click.option("--seeds", default="1,2", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=ROOT / "benchmarks" / "out" / "grid_vs_loop.json")
def main(
    data: Path, epochs: int, update_size: int, learning_rate: float, reductions: str, seeds: str, out: Path
) -> None:
    """Run both and print the ratio."""
    settings = {
        "epochs": epochs,
        "update_size": update_size,
        "learning_rate": learning_rate,
        "data": str(data.resolve()),
    }
    cells = [(reduction, int(seed)) for reduction in reductions.split(",") for seed in seeds.split(",")]
    seconds, rows = {}, []
    for backend in ("train", "tune"):
        with tempfile.TemporaryDirectory() as scratch:
            seconds[backend], trials = _grid(settings, reductions, seeds, backend, Path(scratch))
        rows += [{**trial, "by": f"lossgrid {backend}"} for trial in trials]
    seconds["loop"], trials = _loop(settings, cells)
    rows += [{**trial, "by": "loop"} for trial in trials]
    for row in rows:
        wer = f"WER {100 * row['wer']:.1f} %"
        click.echo(f"{row['by']:15} {row['reduction']:6} seed {row['seed']}  updates {row['updates']}  {wer}")
    ratios = {backend: seconds["loop"] / seconds[backend] for backend in ("train", "tune")}
    for backend, ratio in ratios.items():
        click.echo(
            f"--backend {backend}: {seconds[backend]:.0f} s, loop {seconds['loop']:.0f} s: {ratio:.2f} times as fast"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"settings": settings, "seconds": seconds, "ratios": ratios, "rows": rows}, indent=1))


def _grid(
    settings: dict[str, Any], reductions: str, seeds: str, backend: str, scratch: Path
) -> tuple[float, list[dict[str, Any]]]:
    given = {
        "num_train_epochs": settings["epochs"],
        "per_device_train_batch_size": settings["update_size"],
        "learning_rate": settings["learning_rate"],
        "reduction": reductions,
        "seed": seeds,
    }
    overrides = [word for key, value in given.items() for word in ("--set", f"{key}={value}")]
    command = [sys.executable, str(ROOT / "launch.py"), "--grid", "losses", "--data", settings["data"],
               "--out", str(scratch / "study"), "--backend", backend, "--json", *overrides]  # fmt: skip
    started = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=scratch)
    return time.perf_counter() - started, json.loads(done.stdout)["trials"]


def _loop(settings: dict[str, Any], cells: list[tuple[str, int]]) -> tuple[float, list[dict[str, Any]]]:
    started, rows = time.perf_counter(), []
    for reduction, seed in cells:
        job = {**settings, "reduction": reduction, "seed": seed}
        command = [sys.executable, str(Path(__file__).with_name("stock_trainer.py")), json.dumps(job)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        click.echo(f"loop: {reduction} seed {seed} done", err=True)
    return time.perf_counter() - started, rows


if __name__ == "__main__":
    main()
