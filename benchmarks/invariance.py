"""How far the gradient of one update depends on its layout: every reduction, and stock Trainer beside them.

    python benchmarks/invariance.py [--ray-train] [--updates 20]

The update is the same throughout: eight utterances of the sample corpus, the same weights, no clipping. Only its cut into
micro-batches x accumulation steps x workers (gloo) differs. Prints the relative difference to one micro-batch on one
worker: of the gradient, and of the weights after so many updates of training; for stock Trainer the norm of its gradient too.
`--ray-train` runs the workers as those of a real `TorchTrainer` instead of plain processes.
"""

from __future__ import annotations

import json
import os
import socket
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
STOCK_WORKERS = 2
REDUCTIONS = (
    *LENGTH_ONLY, "group_balanced", "group_temperature(temperature=2)", "dataset_weighted(word=1.3, sentence=0.7)",
    "capped(limit=3)", "focal(gamma=2)", "group_dro(eta=0.1)", "ctc_dro(eta=0.01, alpha=0.1, batch_frames=100)",
    "gradient_balanced(decay=0.9)",
)  # fmt: skip
UPDATE = list(range(0, 160, 20))
OUT = Path(__file__).parent / "out" / "invariance.json"


@click.command()
@click.option("--ray-train", is_flag=True, help="Workers of a real Ray Train run instead of plain processes.")
@click.option("--updates", type=click.IntRange(1), default=20, help="Of training, before weights are compared.")
@click.option("--out", type=click.Path(path_type=Path), default=OUT)
def main(ray_train: bool, updates: int, out: Path) -> None:
    """Print the tables."""
    with tempfile.TemporaryDirectory() as scratch:
        (_in_ray_train if ray_train else _in_processes)(scratch, updates)
        measured = {workers: torch.load(Path(scratch) / f"{workers}.pt") for workers in (1, *WORKERS)}
        stock = _stock_norms(Path(scratch))
    columns = [f"{bound} x {steps}" for bound, steps in LAYOUTS] + [f"{workers} workers" for workers in WORKERS]
    click.echo(f"{'relative difference':58}" + "".join(f"{name:>11}" for name in columns))
    rows, trained = {}, {}
    for reduction in REDUCTIONS:
        kinds = {bound: ("gradient", reduction, bound) for bound, _ in LAYOUTS}
        others = [measured[1][kinds[bound]] for bound, _ in LAYOUTS] + [measured[n][kinds[2]] for n in WORKERS]
        rows[reduction] = [_difference(other, measured[1][kinds[8]]) for other in others]
        _print_row(f"gradient, {reduction}", rows[reduction])
    for reduction in REDUCTIONS:
        whole = measured[1]["weights", reduction, 8]
        others = [measured[1]["weights", reduction, 2]] + [measured[n]["weights", reduction, 2] for n in WORKERS]
        trained[reduction] = [_difference(other, whole) for other in others]
        _print_row(
            f"weights after {updates} updates, {reduction}",
            [None, None, trained[reduction][0], None, *trained[reduction][1:]],
        )
    for name, norms in stock.items():
        click.echo(f"{f'{name}, norm of the gradient':58}" + "".join(f"{norm:11.2f}" for norm in norms))
    out.parent.mkdir(parents=True, exist_ok=True)
    content = {"columns": columns, "gradient": rows, "weights": trained, "stock_norms": stock, "ray_train": ray_train}
    out.write_text(json.dumps(content, indent=1))


def _difference(one: torch.Tensor, whole: torch.Tensor) -> float:
    return float((one - whole).double().norm() / whole.double().norm())


def _print_row(name: str, values: list[float | None]) -> None:
    click.echo(f"{name:58}" + "".join(f"{'' if value is None else f'{value:.1e}':>11}" for value in values))


def _in_processes(scratch: str, updates: int) -> None:
    for workers in (1, *WORKERS):
        multiprocessing.spawn(_process, args=(workers, scratch, updates), nprocs=workers)  # type: ignore[reportPrivateImportUsage]


def _process(rank: int, workers: int, scratch: str, updates: int) -> None:
    meeting = f"file://{scratch}/meeting-{workers}"
    distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=workers)
    _measure(scratch, updates)
    distributed.destroy_process_group()


def _in_ray_train(scratch: str, updates: int) -> None:
    """Let Ray Train start the workers and connect them, as in a trial with `--workers N`."""
    from launcher import cluster

    with cluster.connected(None):  # sets the environment of Ray, so it comes before any import of it
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer

        for workers in (1, *WORKERS):
            TorchTrainer(
                _measure_by_name,
                train_loop_config={"script": str(Path(__file__).resolve()), "scratch": scratch, "updates": updates},
                scaling_config=ScalingConfig(num_workers=workers, resources_per_worker={"CPU": 0.5}),
                torch_config=TorchConfig(backend="gloo"),
                run_config=RunConfig(storage_path=scratch, name=f"workers-{workers}"),
            ).fit()


def _measure_by_name(config: dict[str, Any]) -> None:
    """Find this script in the worker: what stands in `__main__` would be sent by value, and torch cannot be."""
    import importlib.util

    spec = importlib.util.spec_from_file_location("invariance", config["script"])
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module._measure(config["scratch"], config["updates"])


def _measure(scratch: str, updates: int) -> None:
    """Measure every reduction on this worker's share; the first worker writes it down."""
    _settle()
    workers = ours.world_size()
    data, vocabulary, features = _data(Path(scratch) / f"store-{workers}-{ours.rank()}")
    measured = {}
    for reduction in REDUCTIONS:
        for bound in [bound for bound, _ in LAYOUTS] if workers == 1 else [2]:
            measured["gradient", reduction, bound] = _ours(data, features, vocabulary, reduction, bound)
        for bound in (8, 2) if workers == 1 else (2,):
            measured["weights", reduction, bound] = _trained(data, features, vocabulary, reduction, bound, updates)
    if ours.rank() == 0:
        torch.save(measured, Path(scratch) / f"{workers}.pt")


def _settle() -> None:
    """As in every trial."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False


def _data(folder: Path) -> tuple[Split, Vocabulary, Any]:
    store = preflight.prepare("sample", folder, [{"model_type": "tiny"}], ["group"])
    model = _model(store.vocabulary, "sum")
    return split(store, "train", store.vocabulary, model, ["group"]), store.vocabulary, tiny.start(None).features()


def _stock_norms(scratch: Path) -> dict[str, list[float]]:
    """Norm of stock Trainer's gradient: every layout on one worker, then micro-batches of 4 on two.

    Beside it the norm of the reductions that replicate it.
    """
    _settle()
    data, vocabulary, features = _data(scratch / "stock")
    norms = {
        reduction: [_stock(data, UPDATE, features, vocabulary, reduction, *layout) for layout in LAYOUTS]
        for reduction in ("sum", "mean")
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    multiprocessing.spawn(_stock_process, args=(port, str(scratch)), nprocs=STOCK_WORKERS)  # type: ignore[reportPrivateImportUsage]
    shared = json.loads((scratch / "stock.json").read_text())
    ours = {
        f"lossgrid stock_{reduction}": [
            float(_ours(data, features, vocabulary, f"stock_{reduction}", bound).double().norm())
            for bound, _ in (*LAYOUTS, (4, 1))
        ]
        for reduction in norms
    }
    return {f"stock Trainer, {reduction}": [*norms[reduction], shared[reduction]] for reduction in norms} | ours


def _stock_process(rank: int, port: int, scratch: str) -> None:
    """Run stock Trainer as torchrun would start it, with micro-batches of 4 on each of two workers."""
    world = str(STOCK_WORKERS)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    _settle()
    data, vocabulary, features = _data(Path(scratch) / f"stock-store-{rank}")
    norms = {reduction: _stock(data, UPDATE, features, vocabulary, reduction, 4, 1) for reduction in ("sum", "mean")}
    if rank == 0:
        (Path(scratch) / "stock.json").write_text(json.dumps(norms))


def _model(vocabulary: Vocabulary, reduction: str) -> Wav2Vec2ForCTC:
    torch.manual_seed(0)
    return tiny.build(vocabulary, {"ctc_loss_reduction": reduction})


def _trainer(
    data: Split, features: Any, vocabulary: Vocabulary, reduction: str, bound: int, updates: int = 1
) -> UpdateTrainer:
    loader = Loader(data, features, 1e9, bound, ours.rank(), ours.world_size())
    arguments = {"save_strategy": "no", "max_steps": updates, "learning_rate": 1e-3, "logging_steps": updates}
    return UpdateTrainer(
        _model(vocabulary, "sum"),
        training_arguments(arguments, Path(tempfile.mkdtemp())),
        loader=UpdateLoader(loader, UpdateSampler(len(data), 8, 1)),
        reduction=parse(reduction),
        evaluator=Evaluator(data, vocabulary, features, ("group",), 60.0, 8),
        blank=vocabulary.blank,
    )


def _ours(data: Split, features: Any, vocabulary: Vocabulary, reduction: str, bound: int) -> torch.Tensor:
    trainer = _trainer(data, features, vocabulary, reduction, bound)
    trainer.training_step(trainer.network, trainer.updates.loader(UPDATE))
    return torch.cat([weight.grad.flatten() for weight in trainer.network.parameters() if weight.grad is not None])


def _trained(
    data: Split, features: Any, vocabulary: Vocabulary, reduction: str, bound: int, updates: int
) -> torch.Tensor:
    trainer = _trainer(data, features, vocabulary, reduction, bound, updates)
    trainer.train()
    return torch.cat([weight.detach().flatten() for weight in trainer.network.parameters()])


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
