"""Gradient norm of one update of eight utterances in four layouts, stock Trainer beside lossgrid.

    python benchmarks/invariance.py

The update is the same in every row of a column: eight utterances of the sample corpus, the same weights, one optimizer
step, no clipping. Only its cut into micro-batches x accumulation steps differs.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import torch
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainingArguments, Wav2Vec2ForCTC

from trainables import preflight
from trainables.dataset import Loader, Split, UpdateLoader, UpdateSampler, split
from trainables.evaluation import Evaluator
from trainables.models import tiny
from trainables.reductions import parse
from trainables.trainer import UpdateTrainer
from trainables.vocabulary import Vocabulary
from trainables.wav2vec2_ctc import training_arguments

LAYOUTS = ((8, 1), (4, 2), (2, 4), (1, 8))
OUT = Path(__file__).parent / "out" / "invariance.json"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(out: Path) -> None:
    """Print the table."""
    torch.backends.mkldnn.enabled = False  # as in every trial
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        store = preflight.prepare("sample", Path(scratch), [{"model_type": "tiny"}], ["group"])
        vocabulary, features = store.vocabulary, tiny.features(None)
        data = split(store, "train", vocabulary, _model(vocabulary, "sum"), ["group"])
        update = list(range(0, 160, 20))
        for reduction in ("sum", "mean"):
            stock = [_stock(data, update, features, vocabulary, reduction, *layout) for layout in LAYOUTS]
            ours = [_ours(data, update, features, vocabulary, reduction, layout[0]) for layout in LAYOUTS]
            rows += [{"by": "stock", "reduction": reduction, "norms": stock}]
            rows += [{"by": "lossgrid", "reduction": reduction, "norms": ours}]
    click.echo(
        "gradient norm          " + "".join(f"{f'{b} x {steps}':>12}" for b, steps in LAYOUTS) + "   worst difference"
    )
    for row in rows:
        worst = max(abs(norm / row["norms"][0] - 1) for norm in row["norms"])
        numbers = "".join(f"{norm:12.4f}" for norm in row["norms"])
        click.echo(f"{row['by']:10} {row['reduction']:12}{numbers}   {worst:.1e}")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"layouts": LAYOUTS, "rows": rows}, indent=1))


def _model(vocabulary: Vocabulary, reduction: str) -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    return tiny.build(vocabulary, {"ctc_loss_reduction": reduction})


def _ours(data: Split, update: list[int], features: Any, vocabulary: Vocabulary, reduction: str, bound: int) -> float:
    loader = Loader(data, features, 1e9, bound)
    trainer = UpdateTrainer(
        _model(vocabulary, "sum"),
        training_arguments({"save_strategy": "no"}, Path(tempfile.mkdtemp())),
        loader=UpdateLoader(loader, UpdateSampler(len(data), 8, 1)),
        reduction=parse(reduction),
        evaluator=Evaluator(data, vocabulary, features, ("group",), 60.0, 8),
        blank=vocabulary.blank,
    )
    trainer.training_step(trainer.network, loader(update))
    gradients = [weight.grad.flatten() for weight in trainer.network.parameters() if weight.grad is not None]
    return float(torch.cat(gradients).double().norm())


class _InOrder(Trainer):
    """The stock Trainer on a fixed update."""

    def _get_train_sampler(self, train_dataset: Any = None) -> Any:
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]


def _stock(
    data: Split, update: list[int], features: Any, vocabulary: Vocabulary, reduction: str, batch: int, steps: int
) -> float:
    def collate(positions: list[int]) -> dict[str, torch.Tensor]:
        inputs = data.micro_batch(positions, features, range(len(positions))).inputs
        longest = max(len(data.labels[position]) for position in positions)
        rows = [data.labels[position] + [-100] * (longest - len(data.labels[position])) for position in positions]
        return {**inputs, "labels": torch.tensor(rows)}

    arguments = TrainingArguments(
        output_dir=tempfile.mkdtemp(), per_device_train_batch_size=batch, gradient_accumulation_steps=steps, max_steps=1,
        max_grad_norm=1e12, logging_steps=1, save_strategy="no", report_to=[], disable_tqdm=True,
        remove_unused_columns=False, use_cpu=True,
    )  # fmt: skip
    trainer = _InOrder(_model(vocabulary, reduction), arguments, data_collator=collate, train_dataset=update)  # type: ignore[arg-type]
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    return next(row["grad_norm"] for row in trainer.state.log_history if "grad_norm" in row)


if __name__ == "__main__":
    main()
