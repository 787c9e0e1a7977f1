"""How far the gradient of one update depends on its layout: every reduction, and stock Trainer beside them.

    python benchmarks/invariance.py

The update is the same throughout: eight utterances of the sample corpus, the same weights, no clipping. Only its cut into
micro-batches x accumulation steps x workers (gloo) differs. Prints the relative difference to one micro-batch on one
worker, and for stock Trainer (one worker) the norm of its gradient too.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import click
import torch
from torch import distributed, multiprocessing
from torch.utils.data import SequentialSampler
from transformers import PrinterCallback, Trainer, TrainingArguments, Wav2Vec2ForCTC

from trainables import distributed as ours
from trainables import preflight
from trainables.dataset import Loader, Split, UpdateLoader, UpdateSampler, split
from trainables.evaluation import Evaluator
from trainables.model_setup import training_arguments
from trainables.models import tiny
from trainables.reductions import LENGTH_ONLY, parse
from trainables.trainer import UpdateTrainer
from trainables.vocabulary import Vocabulary

LAYOUTS = ((8, 1), (4, 2), (2, 4), (1, 8))
WORKERS = (2, 3)
REDUCTIONS = (
    *LENGTH_ONLY, "group_balanced", "group_temperature(temperature=2)", "dataset_weighted(word=1.3, sentence=0.7)",
    "capped(limit=3)", "focal(gamma=2)", "group_dro(eta=0.1)", "ctc_dro(eta=0.01, alpha=0.1, batch_frames=100)",
    "gradient_balanced(decay=0.9)",
)  # fmt: skip
UPDATE = list(range(0, 160, 20))
OUT = Path(__file__).parent / "out" / "invariance.json"


@click.command()
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(out: Path) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as scratch:
        for workers in (1, *WORKERS):
            multiprocessing.spawn(  # type: ignore[reportPrivateImportUsage]
                _work, args=(workers, scratch), nprocs=workers
            )
        measured = {workers: torch.load(Path(scratch) / f"{workers}.pt") for workers in (1, *WORKERS)}
        stock = _stock_norms(Path(scratch))
    columns = [f"{bound} x {steps}" for bound, steps in LAYOUTS] + [f"{workers} workers" for workers in WORKERS]
    click.echo(f"{'relative difference':48}" + "".join(f"{name:>11}" for name in columns))
    rows = {}
    for reduction in REDUCTIONS:
        whole = measured[1][reduction, 8]
        others = [measured[1][reduction, bound] for bound, _ in LAYOUTS] + [measured[n][reduction, 2] for n in WORKERS]
        rows[reduction] = [float((other - whole).double().norm() / whole.double().norm()) for other in others]
        click.echo(f"lossgrid {reduction:39}" + "".join(f"{value:11.1e}" for value in rows[reduction]))
    for reduction, norms in stock.items():
        click.echo(f"stock {reduction:42}" + "".join(f"{abs(norm / norms[0] - 1):11.1e}" for norm in norms))
    for reduction, norms in stock.items():
        click.echo(f"{f'stock {reduction}, norm of the gradient':48}" + "".join(f"{norm:11.2f}" for norm in norms))
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"columns": columns, "lossgrid": rows, "stock_norms": stock}, indent=1))


def _work(rank: int, workers: int, scratch: str) -> None:
    """Measure every reduction on one of several workers; the first writes the gradients down."""
    _settle()
    meeting = f"file://{scratch}/meeting-{workers}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    data, vocabulary, features = _data(Path(scratch) / f"store-{workers}-{rank}")
    bounds = [bound for bound, _ in LAYOUTS] if workers == 1 else [2]
    gradients = {
        (reduction, bound): _ours(data, features, vocabulary, reduction, bound)
        for reduction in REDUCTIONS
        for bound in bounds
    }
    if rank == 0:
        torch.save(gradients, Path(scratch) / f"{workers}.pt")
    distributed.destroy_process_group()


def _settle() -> None:
    """As in every trial."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False


def _data(folder: Path) -> tuple[Split, Vocabulary, Any]:
    store = preflight.prepare("sample", folder, [{"model_type": "tiny"}], ["group"])
    model = _model(store.vocabulary, "sum")
    return split(store, "train", store.vocabulary, model, ["group"]), store.vocabulary, tiny.features(None)


def _stock_norms(scratch: Path) -> dict[str, list[float]]:
    _settle()
    data, vocabulary, features = _data(scratch / "stock")
    return {
        reduction: [_stock(data, UPDATE, features, vocabulary, reduction, *layout) for layout in LAYOUTS]
        for reduction in ("sum", "mean")
    }


def _model(vocabulary: Vocabulary, reduction: str) -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    return tiny.build(vocabulary, {"ctc_loss_reduction": reduction})


def _ours(data: Split, features: Any, vocabulary: Vocabulary, reduction: str, bound: int) -> torch.Tensor:
    loader = Loader(data, features, 1e9, bound, ours.rank(), ours.world_size())
    trainer = UpdateTrainer(
        _model(vocabulary, "sum"),
        training_arguments({"save_strategy": "no"}, Path(tempfile.mkdtemp())),
        loader=UpdateLoader(loader, UpdateSampler(len(data), 8, 1)),
        reduction=parse(reduction),
        evaluator=Evaluator(data, vocabulary, features, ("group",), 60.0, 8),
        blank=vocabulary.blank,
    )
    trainer.training_step(trainer.network, loader(UPDATE))
    return torch.cat([weight.grad.flatten() for weight in trainer.network.parameters() if weight.grad is not None])


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
