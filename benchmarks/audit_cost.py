"""What an audit costs: of every reduction against one, against plain evaluation, and in memory.

    python benchmarks/audit_cost.py [--data MANIFEST.csv]

Audits of one reduction (`mean`) and of all take turns on the same utterances, with `tiny` and with a random model of the
size of wav2vec2-base; "all / one" is the median over turns. Where other work disturbs the machine, that scatters by more
than the difference. So the steps that depend on the reductions (weights, sums over classes, tables) are also timed by
themselves, on random gradients: "added" is what those of all take more than those of one, as part of the audit of one,
each at its fastest. "Losses only" is one forward per utterance and its loss. Memory is the peak of a process of its own
that audits the same utterances once and five times over. One thread; on a CPU, processor time.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
import torch
from torch import multiprocessing
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

from trainables import ctc, packing, preflight
from trainables.audit import Auditor
from trainables.corpora.store import Store
from trainables.dataset import Split, split
from trainables.models import tiny
from trainables.reductions import parse
from trainables.sampling import sample
from trainables.share_tables import cosine_rows, gradient_shares, share_rows
from trainables.shares import ClassSums, presets

OUT = Path(__file__).parent / "out" / "audit_cost.json"
BOUNDS: dict[str, Any] = {"budget_seconds": 60.0, "max_utterances": 8}
TIMES_OVER = 5


@click.command()
@click.option("--data", default="sample", show_default=True)
@click.option("--utterances", default=600, show_default=True, help="Audited with `tiny`.")
@click.option("--utterances-base", default=16, show_default=True, help="Audited with the size of wav2vec2-base.")
@click.option("--turns", default=7, show_default=True)
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(data: str, utterances: int, utterances_base: int, turns: int, out: Path) -> None:
    """Print the tables."""
    _settle()
    with tempfile.TemporaryDirectory() as scratch:
        store = preflight.prepare(data, Path(scratch), [{"model_type": "tiny"}], ["group"]).path
        # First: the peak of a process counts that of the one which started it.
        memory = [_peak_in_process(store, utterances, times) for times in (1, TIMES_OVER)]
        rows = [
            _compare("tiny", *_tiny(store), utterances, turns),
            _compare("wav2vec2-base size", *_base(store), utterances_base, turns),
        ]
    click.echo(
        f"{'model':20}{'utterances':>11}{'reductions':>11}{'all / one':>11}{'added':>8}{'one / losses only':>19}{'audio s / s':>13}"
    )
    for row in rows:
        click.echo(
            f"{row['model']:20}{row['utterances']:11}{row['reductions']:11}{row['all_over_one']:11.3f}"
            f"{100 * row['added']:6.1f} %"
            f"{row['one_over_losses']:19.3f}{row['audio_seconds_per_second']:13.1f}"
        )
    growth = (memory[1] - memory[0]) / 2**20
    click.echo(
        f"peak memory, {utterances} utterances: {memory[0] / 2**20:.0f} MiB; {TIMES_OVER} times as many: {growth:+.1f} MiB"
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"rows": rows, "peak_memory_bytes": memory, "times_over": TIMES_OVER}, indent=1))


def _settle() -> None:
    """As in every trial."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False


def _tiny(store: Path) -> tuple[Any, Split, Any]:
    return _data(store, tiny.build(Store.open(store).vocabulary, {}), tiny.start(None).features())


def _base(store: Path) -> tuple[Any, Split, Any]:
    """The default configuration is that of wav2vec2-base; as there, without attention mask."""
    model = Wav2Vec2ForCTC(Wav2Vec2Config(vocab_size=len(Store.open(store).vocabulary), pad_token_id=0))
    return _data(store, model, Wav2Vec2FeatureExtractor(return_attention_mask=False))


def _data(store: Path, model: Any, features: Any) -> tuple[Any, Split, Any]:
    model.to(_device())
    opened = Store.open(store)
    return model, split(opened, "train", opened.vocabulary, model, ["group", "speaker"]), features


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _auditor(data: Split, features: Any, positions: tuple[int, ...], every: bool) -> Auditor:
    reductions = presets() if every else (parse("mean"),)
    return Auditor(data, positions, features, 0, ("group", "speaker"), reductions, update_size=32, **BOUNDS)


def _compare(name: str, model: Any, data: Split, features: Any, count: int, turns: int) -> dict[str, Any]:
    positions = sample(data, count)
    one, every = (_auditor(data, features, positions, all_of_them) for all_of_them in (False, True))
    runs: dict[str, Callable[[], Any]] = {
        "one": lambda: one.measure(model, _device(), contextlib.nullcontext),
        "all": lambda: every.measure(model, _device(), contextlib.nullcontext),
        "losses": lambda: _losses(model, data, features, positions),
    }
    for run in runs.values():
        run()
    seconds = [_turn(runs) for _ in range(turns)]
    added = _bookkeeping_seconds(every, model) - _bookkeeping_seconds(one, model)
    least = {kind: min(turn[kind] for turn in seconds) for kind in runs}
    audio = sum(data.seconds[position] for position in positions)
    return {
        "model": name,
        "utterances": len(positions),
        "reductions": len(presets()),
        "all_over_one": median(turn["all"] / turn["one"] for turn in seconds),
        "added": added / least["one"],
        "one_over_losses": median(turn["one"] / turn["losses"] for turn in seconds),
        "audio_seconds_per_second": audio / least["all"],
        "turns": seconds,
    }


def _turn(runs: dict[str, Callable[[], Any]]) -> dict[str, float]:
    """Run each there and back again, so that a machine that slows down or recovers favours none."""
    there = {kind: _seconds(run) for kind, run in runs.items()}
    back = {kind: _seconds(run) for kind, run in reversed(runs.items())}
    return {kind: (there[kind] + back[kind]) / 2 for kind in runs}


def _bookkeeping_seconds(auditor: Auditor, model: Any) -> float:
    """Time the steps of an audit that depend on its reductions."""
    count, size = len(auditor.positions), sum(weight.numel() for weight in model.lm_head.parameters())
    gradient_NQ = torch.rand(count, size, device=_device())
    loss_N, labels_N = np.full(count, 50.0), np.full(count, 10)

    def run() -> None:
        anew = dataclasses.replace(auditor)
        sums = ClassSums(anew.classes, len(anew.weights.weight_DN), len(anew.reductions), size, _device())
        for first in range(0, count, BOUNDS["max_utterances"]):
            places = np.arange(first, min(first + BOUNDS["max_utterances"], count))
            sums.add(
                places,
                coefficient_DB=anew.weights.coefficients(places.tolist(), loss_N[places], labels_N[places]),
                value_R=anew.weights.values(places.tolist(), loss_N[places], labels_N[places]),
                plain_B=np.ones((len(places), 4)),
                gradient_BQ=gradient_NQ[places],
            )
        sums.add_up_workers()
        found = (anew.weights, sums, gradient_shares(sums))
        share_rows(*found)
        cosine_rows(*found)

    return min(_seconds(run) for _ in range(10))


@torch.no_grad()
def _losses(model: Any, data: Split, features: Any, positions: tuple[int, ...]) -> None:
    model.eval()
    seconds = [data.seconds[position] for position in positions]
    for part in packing.pack(seconds, **BOUNDS):
        batch = data.micro_batch([positions[place] for place in part], features, part)
        inputs = {name: tensor.to(_device()) for name, tensor in batch.inputs.items()}
        ctc.losses(model(**inputs).logits, batch, 0).cpu()


def _seconds(run: Callable[[], Any]) -> float:
    clock = time.perf_counter if torch.cuda.is_available() else time.process_time
    started = clock()
    run()
    return clock() - started


def _peak_in_process(store: Path, count: int, times: int) -> int:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_peak, args=(store, count, times, answers))
    process.start()
    peak = answers.get()
    process.join()
    return peak


def _peak(store: Path, count: int, times: int, answers: Any) -> None:
    _settle()
    model, data, features = _tiny(store)
    auditor = _auditor(data, features, sample(data, count) * times, every=True)
    with tempfile.TemporaryDirectory() as folder:
        auditor.write(model, _device(), contextlib.nullcontext, Path(folder))
    answers.put(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)


if __name__ == "__main__":
    main()
