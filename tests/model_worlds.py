"""What tests of the models share: the tiny world with a model that has branches or a classifier, and small checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC
from worlds import World

from trainables import distributed, model_options, model_setup, variants
from trainables.class_loss import ClassLoss
from trainables.dataset import Loader, UpdateLoader, UpdateSampler
from trainables.evaluation import Evaluator
from trainables.reductions import parse
from trainables.trainer import UpdateTrainer
from trainables.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("<pad>", "<unk>", "|", *"ABCDEFG"))


class ModelWorld:
    """A model of the given kind, from scratch with two transformer layers, on the utterances of a world."""

    def __init__(self, world: World, model_type: str, **settings: Any) -> None:
        self.world, self.settings = world, {"model_type": model_type, "num_hidden_layers": 2, **settings}
        self.module = variants.load("trainables.models", model_type)
        self.options = model_options.of({"Model Configuration": self.settings}, world.train.store)
        self.train = model_setup.routed(world.train, self.options)
        self.class_loss = None
        if self.options.classes:
            self.train = model_setup.with_classes(self.train, self.options)
            self.class_loss = ClassLoss.of(self.settings, self.options.classes, self.train.class_code or ())
        unsupervised = self.options.unsupervised(self.train.columns)
        self.without_ctc = frozenset(place for place, left_out in enumerate(unsupervised) if left_out)
        self.validation = model_setup.routed(world.validation, self.options)

    def model(self, seed: int = 0, **overrides: Any) -> Any:
        torch.manual_seed(seed)
        fields = {"num_hidden_layers": self.settings["num_hidden_layers"], **overrides}
        return self.module.build(self.world.vocabulary, fields, None, self.options)

    def loader(self, bound: int = 8, budget: float = 1e9) -> Loader:
        rank, workers = distributed.rank(), distributed.world_size()
        return Loader(self.train, self.world.features, budget, bound, rank, workers, without_ctc=self.without_ctc)

    def trainer(
        self, reduction: str = "mean", *, bound: int = 8, budget: float = 1e9, **arguments: Any
    ) -> UpdateTrainer:
        given = {"learning_rate": 1e-3, "num_train_epochs": 5, "save_strategy": "no", "logging_steps": 1, **arguments}
        world = self.world
        return UpdateTrainer(
            self.model(),
            model_setup.training_arguments(given, world.folder / "checkpoints"),
            loader=UpdateLoader(self.loader(bound, budget), UpdateSampler(len(self.train), 8, seed=1)),
            reduction=parse(reduction),
            evaluator=Evaluator(self.validation, world.vocabulary, world.features, ("group",), 60.0, 8),
            blank=world.vocabulary.blank,
            class_loss=self.class_loss,
        )


def config(stable: bool = True, **fields: Any) -> Wav2Vec2Config:
    """A small wav2vec2: layer norm at the end of the encoder as in large-lv60, or group norm as in base-960h."""
    return Wav2Vec2Config(
        **{
            "vocab_size": len(VOCABULARY), "pad_token_id": 0, "hidden_size": 16, "num_hidden_layers": 3,
            "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": (8, 8), "conv_kernel": (320, 3),
            "conv_stride": (160, 2), "feat_extract_norm": "layer" if stable else "group", "do_stable_layer_norm": stable,
            "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 2, "hidden_dropout": 0.0,
            "activation_dropout": 0.0, "attention_dropout": 0.0, "feat_proj_dropout": 0.0, "final_dropout": 0.0,
            "layerdrop": 0.0, "mask_time_prob": 0.0, "num_codevectors_per_group": 4, "codevector_dim": 8,
            "proj_codevector_dim": 8, **fields,
        }
    )  # fmt: skip


def checkpoint(folder: Path, stable: bool = True, architecture: Any = Wav2Vec2ForCTC, **fields: Any) -> str:
    """Save a small checkpoint with random weights, as those on the hub are saved."""
    torch.manual_seed(5)
    architecture(config(stable, **fields)).save_pretrained(folder)
    if architecture is Wav2Vec2ForCTC:
        (folder / "vocab.json").write_text(VOCABULARY.as_json(), encoding="utf-8")
    Wav2Vec2FeatureExtractor(return_attention_mask=stable).save_pretrained(folder)
    return str(folder)


def audio(*samples: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Noise of these lengths as one padded batch: waveform_BS and attention_mask_BS."""
    generator = torch.Generator().manual_seed(7)
    waveform_BS, mask_BS = torch.zeros(len(samples), max(samples)), torch.zeros(len(samples), max(samples)).long()
    for row, length in enumerate(samples):
        waveform_BS[row, :length] = torch.randn(length, generator=generator)
        mask_BS[row, :length] = 1
    return waveform_BS, mask_BS


def frames(samples: int) -> int:
    """Frames that the small models give."""
    return (((samples - 320) // 160 + 1) - 3) // 2 + 1
