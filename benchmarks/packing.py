"""What packing saves: padding and training speed of updates of 8, 32 and 128 utterances, packed and as one batch.

    python benchmarks/packing.py [--data MANIFEST.csv]

Also measures what one more micro-batch costs (`trainables.packing.OVERHEAD_SECONDS`) and what oneDNN's kernels cost on
shapes that keep changing. One thread, the model `tiny`, forward and backward, no optimizer.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
import torch

from trainables import ctc, packing, preflight
from trainables.dataset import Split, split
from trainables.models import tiny

OUT = Path(__file__).parent / "out" / "packing.json"


@click.command()
@click.option("--data", default="sample", show_default=True)
@click.option("--seconds", default=120.0, show_default=True, help="Audio of each measurement.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(data: str, seconds: float, out: Path) -> None:
    """Print the tables."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    with tempfile.TemporaryDirectory() as scratch:
        store = preflight.prepare(data, Path(scratch), [{"model_type": "tiny"}], ["group"])
        model = tiny.build(store.vocabulary, {})
        train = split(store, "train", store.vocabulary, model, ["group"])
        rows = [_compare(model, train, size, seconds) for size in (8, 32, 128)]
        overhead = _overhead(model, train)
        speeds = _kernels(model, train, seconds)
    for row in rows:
        click.echo(
            f"updates of {row['update_size']:3}: padding {100 * row['packed_padding']:.1f} % packed, "
            f"{100 * row['whole_padding']:.1f} % as one batch; packed is {row['ratio']:.2f} times as fast"
        )
    click.echo(f"one more micro-batch costs as much as {overhead:.2f} s of audio")
    click.echo(f"native kernels are {speeds:.2f} times as fast as oneDNN's on packed updates of 8")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"rows": rows, "overhead_seconds": overhead, "native_over_onednn": speeds}, indent=1))


def _compare(model: Any, train: Split, size: int, seconds: float) -> dict[str, float]:
    updates = _updates(train, size, seconds)
    packed = [_pack(train, update) for update in updates]
    whole = [[list(range(len(update)))] for update in updates]
    _speed(model, train, updates[:2], packed[:2])
    packed_speed, whole_speed = (_speed(model, train, updates, cuts) for cuts in (packed, whole))
    return {
        "update_size": size,
        "packed_padding": _padding(train, updates, packed),
        "whole_padding": _padding(train, updates, whole),
        "ratio": packed_speed / whole_speed,
    }


def _updates(train: Split, size: int, seconds: float) -> list[list[int]]:
    dealt = [update for epoch in range(50) for update in packing.updates(len(train), size, 1, epoch)]
    length = np.cumsum([sum(train.seconds[position] for position in update) for update in dealt])
    return dealt[: max(3, int(np.searchsorted(length, seconds)))]


def _pack(train: Split, update: Sequence[int]) -> list[list[int]]:
    return packing.pack(
        [train.seconds[position] for position in update], budget_seconds=60.0, max_utterances=len(update)
    )


def _padding(train: Split, updates: Sequence[Sequence[int]], cuts: Sequence[Sequence[Sequence[int]]]) -> float:
    lengths = [[train.seconds[position] for position in update] for update in updates]
    padded = sum(packing.padded_seconds(part, one) for one, parts in zip(lengths, cuts) for part in parts)
    return 1 - sum(map(sum, lengths)) / padded


def _speed(
    model: Any, train: Split, updates: Sequence[Sequence[int]], cuts: Sequence[Sequence[Sequence[int]]]
) -> float:
    """Seconds of speech per second, padding not counted."""
    features = tiny.start(None).features()
    started, audio = time.perf_counter(), 0.0
    for update, parts in zip(updates, cuts):
        for part in parts:
            batch = train.micro_batch([update[place] for place in part], features, part)
            ctc.losses(model(**batch.inputs).logits, batch, 0).sum().backward()
            audio += sum(train.seconds[update[place]] for place in part)
        model.zero_grad()
    return audio / (time.perf_counter() - started)


def _overhead(model: Any, train: Split) -> float:
    """Fit time = fixed + slope x padded audio over single-utterance and larger micro-batches."""
    order = sorted(range(len(train)), key=lambda position: train.seconds[position])
    points = []
    for count in (1, 2, 4, 8):
        for start in range(0, len(order) - count, max(1, len(order) // 12)):
            part = order[start : start + count]
            started = time.perf_counter()
            batch = train.micro_batch(part, tiny.start(None).features(), range(count))
            ctc.losses(model(**batch.inputs).logits, batch, 0).sum().backward()
            points.append((count * train.seconds[part[-1]], time.perf_counter() - started))
    slope, fixed = np.polyfit(*np.array(points).T, deg=1)
    return float(fixed / slope)


def _kernels(model: Any, train: Split, seconds: float) -> float:
    updates = _updates(train, 8, seconds)
    cuts = [_pack(train, update) for update in updates]
    speeds = {}
    for enabled in (False, True):
        torch.backends.mkldnn.enabled = enabled
        speeds[enabled] = _speed(model, train, updates, cuts)
    torch.backends.mkldnn.enabled = False
    return speeds[False] / speeds[True]


if __name__ == "__main__":
    main()
