"""The same update shared out to one, two and three workers over gloo."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from model_worlds import ModelWorld
from processes import work_together
from torch import distributed
from worlds import INVARIANT, World, difference, gradient

# Seven utterances: micro-batches are uneven, and with three workers some share lacks a group.
UPDATE = list(range(7))
TRAINED = ("mean", "group_dro(eta=0.1)", "gradient_balanced(decay=0.9)")
REVERSED = {"classes": "speaker", "domaincls_loc": 1, "gradient_reversal": True}
MODELS = {
    "branches": ("multitask", {"branch_layers": 1, "task_group": "speaker"}),
    "classifier": ("multitask_aux", REVERSED),
    "unsupervised": ("multitask_aux", {**REVERSED, "training_type": "unsupervised"}),
}


def work(rank: int, folder: str) -> None:
    """Measure as one of three workers, then, without the last, as one of two, and the first alone, who writes it down.

    Starting processes is the dearest part of this file, so three serve all.
    """
    torch.set_num_threads(1)
    torch.backends.mkldnn.enabled = False
    place = Path(folder) / f"worker-{rank}"
    place.mkdir()
    world = World(place)
    for workers in (3, 2, 1):
        if rank < workers:
            store = f"file://{folder}/meeting-{workers}"
            distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=workers)
            measured = measure(world)
            distributed.destroy_process_group()
            if rank == 0:
                torch.save(measured, Path(folder) / f"measured-{workers}.pt")


def measure(world: World) -> dict[str, torch.Tensor]:
    """Measure gradients and trained weights on this worker's share."""
    measured = {}
    for reduction in INVARIANT:
        trainer = world.trainer(reduction, bound=2)
        measured[f"gradient {reduction}"] = gradient(trainer, trainer.updates.loader(UPDATE))
    measured["no share"] = gradient(trainer, trainer.updates.loader([0]))
    for reduction in TRAINED:
        trainer = world.trainer(reduction, bound=3, num_train_epochs=10)
        trainer.train()
        measured[f"weights {reduction}"] = torch.cat([w.detach().flatten() for w in trainer.network.parameters()])
    for name, (kind, settings) in MODELS.items():
        this = ModelWorld(world, kind, **settings)
        trainer = this.trainer("gradient_balanced(decay=0.9)", bound=2, num_train_epochs=2)
        measured[f"model {name}"] = gradient(trainer, this.loader(2)(UPDATE))
        # Two utterances, one branch: of three workers one has no share, and of two each has a part of the branch.
        share = this.loader(2)([1, 2])
        measured[f"one branch {name}"] = gradient(trainer, share)
        measured[f"class loss {name}"] = torch.tensor(trainer._step.values.get("class_loss", 0.0))
        trainer.train()
        measured[f"trained {name}"] = torch.cat([w.detach().flatten() for w in trainer.network.parameters()])
    return measured


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, torch.Tensor]]:
    folder = tmp_path_factory.mktemp("world")
    work_together(work, folder, workers=3)
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


@pytest.mark.parametrize("workers", [2, 3])
@pytest.mark.parametrize("what", ["model", "one branch", "class loss", "trained"])
@pytest.mark.parametrize("name", MODELS)
def test_branches_and_classifiers_do_not_depend_on_the_number_of_workers(measured, name, what, workers: int) -> None:
    """The gradient of a worker that lacks a group, or has no share, has no part for its branch; the sum has all parts."""
    one, other = measured[1][f"{what} {name}"], measured[workers][f"{what} {name}"]
    assert one.shape == other.shape
    assert torch.equal(one, other) or difference(one, other) < 1e-5
