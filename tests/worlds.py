"""What tests of the trainer share: a tiny model, a few utterances, and every reduction that must not depend on a layout."""

from __future__ import annotations

from pathlib import Path

import torch
from conftest import small_rows, write_manifest
from transformers import Wav2Vec2ForCTC

from trainables import distributed, preflight
from trainables.dataset import Loader, Share, UpdateLoader, UpdateSampler, split
from trainables.evaluation import Evaluator
from trainables.model_setup import training_arguments
from trainables.models import tiny
from trainables.reductions import LENGTH_ONLY, parse
from trainables.trainer import UpdateTrainer

UPDATE = list(range(8))
# All but the stock ones, which replicate a fault: their gradient does depend on the layout.
INVARIANT = (
    *LENGTH_ONLY, "group_balanced", "group_temperature(temperature=2)", "dataset_weighted(word=1.3, sentence=0.7)",
    "capped(limit=3)", "focal(gamma=2)", "group_dro(eta=0.1)", "ctc_dro(eta=0.01, alpha=0.1, batch_frames=100)",
    "gradient_balanced(decay=0.9)",
)  # fmt: skip


class World:
    """A tiny model and eight utterances of unequal length."""

    def __init__(self, folder: Path) -> None:
        manifest = write_manifest(folder / "manifest.csv", small_rows(folder))
        store = preflight.prepare(str(manifest), folder / "stores", [{"model_type": "tiny"}], ["group"])
        self.folder, self.vocabulary = folder, store.vocabulary
        self.features = tiny.start(None).features()
        model = self.model()
        self.train = split(store, "train", self.vocabulary, model, ["group"])
        self.validation = split(store, "validation", self.vocabulary, model, ["group"])

    def model(self, seed: int = 0) -> Wav2Vec2ForCTC:
        torch.manual_seed(seed)
        return tiny.build(self.vocabulary, {})

    def trainer(
        self, reduction: str, *, bound: int = 8, budget: float = 1e9, match_step: bool = False, **arguments
    ) -> UpdateTrainer:
        loader = Loader(self.train, self.features, budget, bound, distributed.rank(), distributed.world_size())
        given = {"learning_rate": 1e-3, "num_train_epochs": 5, "save_strategy": "no", "logging_steps": 1, **arguments}
        return UpdateTrainer(
            self.model(),
            training_arguments(given, self.folder / "checkpoints"),
            loader=UpdateLoader(loader, UpdateSampler(len(self.train), 8, seed=1)),
            reduction=parse(reduction),
            evaluator=Evaluator(self.validation, self.vocabulary, self.features, ("group",), 60.0, 8),
            blank=self.vocabulary.blank,
            match_step=match_step,
        )

    def share(self, parts: list[list[int]]) -> Share:
        return Share(
            update=self.train.update(UPDATE),
            micro_batches=[self.train.micro_batch([UPDATE[i] for i in part], self.features, part) for part in parts],
            audio_seconds=1.0,
            padding_fraction=0.0,
        )


def gradient(trainer: UpdateTrainer, share: Share) -> torch.Tensor:
    trainer.model.zero_grad()
    state = trainer.reduction_state
    trainer.training_step(trainer.model, share)
    trainer.reduction_state = state
    return torch.cat(
        [parameter.grad.flatten() for parameter in trainer.model.parameters() if parameter.grad is not None]
    )


def difference(one: torch.Tensor, other: torch.Tensor) -> float:
    return float((one - other).double().norm() / one.double().norm())
