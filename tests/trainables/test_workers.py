"""The same update shared out to one, two and three workers over gloo."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from torch import distributed, multiprocessing
from worlds import INVARIANT, World, difference, gradient

# Seven utterances: micro-batches are uneven, and with three workers some share lacks a group.
UPDATE = list(range(7))
TRAINED = ("mean", "group_dro(eta=0.1)", "gradient_balanced(decay=0.9)")


def work(rank: int, workers: int, folder: str) -> None:
    """Measure gradients and trained weights on one worker; the first writes them down."""
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    store = f"file://{folder}/meeting-{workers}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
    try:
        world = World(Path(folder))
        measured = {}
        for reduction in INVARIANT:
            trainer = world.trainer(reduction, bound=2)
            measured[f"gradient {reduction}"] = gradient(trainer, trainer.updates.loader(UPDATE))
        measured["no share"] = gradient(trainer, trainer.updates.loader([0]))
        for reduction in TRAINED:
            trainer = world.trainer(reduction, bound=3, num_train_epochs=10)
            trainer.train()
            measured[f"weights {reduction}"] = torch.cat([w.detach().flatten() for w in trainer.network.parameters()])
        if rank == 0:
            torch.save(measured, Path(folder) / f"measured-{workers}.pt")
    finally:
        distributed.destroy_process_group()


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("world")
    World(folder)
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    for workers in (1, 2, 3):
        multiprocessing.spawn(work, args=(workers, str(folder)), nprocs=workers)
    return {workers: torch.load(folder / f"measured-{workers}.pt") for workers in (1, 2, 3)}


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("reduction", INVARIANT)
def test_the_gradient_of_an_update_does_not_depend_on_the_number_of_workers(measured, workers, reduction) -> None:
    name = f"gradient {reduction}"
    assert difference(measured[1][name], measured[workers][name]) < 1e-5


@pytest.mark.parametrize("workers", [2, 3])
def test_a_worker_without_a_share_takes_part(measured, workers: int) -> None:
    assert difference(measured[1]["no share"], measured[workers]["no share"]) < 1e-5


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("reduction", TRAINED)
def test_weights_after_twenty_updates_do_not_depend_on_the_number_of_workers(measured, workers, reduction) -> None:
    name = f"weights {reduction}"
    assert difference(measured[1][name], measured[workers][name]) < 1e-5
