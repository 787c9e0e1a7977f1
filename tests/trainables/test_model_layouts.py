"""Models with branches or a classifier keep the promise: an update has one gradient, however it is cut."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from model_worlds import ModelWorld
from torch.nn import functional
from worlds import UPDATE, World, difference, gradient

from trainables import ctc
from trainables.gradients import GroupGradients
from trainables.reductions import parse

BY_SPEAKER = {"classes": "speaker", "domaincls_loc": "encoder"}
REVERSED = {**BY_SPEAKER, "gradient_reversal": True, "gradient_reversal_lambda": 0.7}
UNSUPERVISED = {**REVERSED, "training_type": "unsupervised", "task_weight": (0.7, 0.3)}
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "branches": ("multitask", {"branch_layers": 1}),
    "fresh branches": ("multitask", {"reinitialize_last_n_layers": 2, "task_group": "speaker"}),
    "heads": ("multitask", {"branch_layers": 0}),
    "classifier": ("multitask_aux", {**BY_SPEAKER, "task_weight": (0.3, 0.7)}),
    "reversal": ("multitask_aux", REVERSED),
    "unsupervised": ("multitask_aux", UNSUPERVISED),
}
CASES = [
    ("branches", "mean"), ("branches", "gradient_balanced(decay=0.9)"), ("fresh branches", "focal(gamma=2)"),
    ("heads", "token_mean"), ("classifier", "mean"), ("reversal", "gradient_balanced(decay=0.9)"),
    ("unsupervised", "mean"), ("unsupervised", "group_balanced"), ("unsupervised", "gradient_balanced(decay=0.9)"),
]  # fmt: skip


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def worlds(world: World) -> dict[str, ModelWorld]:
    return {name: ModelWorld(world, kind, **settings) for name, (kind, settings) in KINDS.items()}


def named_gradients(trainer: Any) -> dict[str, torch.Tensor]:
    named = trainer.network.named_parameters()
    return {name: weight.grad.clone() for name, weight in named if weight.grad is not None}


@pytest.mark.parametrize(("kind", "reduction"), CASES)
def test_the_gradient_of_an_update_does_not_depend_on_its_micro_batches(worlds, kind: str, reduction: str) -> None:
    this = worlds[kind]
    trainer = this.trainer(reduction)
    whole = gradient(trainer, this.loader()(UPDATE))
    assert difference(whole, gradient(trainer, this.loader(3)(UPDATE))) < 1e-5


@pytest.mark.parametrize("kind", ["branches", "unsupervised"])
def test_weights_after_training_do_not_depend_on_the_layout(worlds, kind: str) -> None:
    trained = []
    for bound in (8, 2):
        trainer = worlds[kind].trainer("gradient_balanced(decay=0.9)", bound=bound, num_train_epochs=3)
        trainer.train()
        trained.append(torch.cat([weight.detach().flatten() for weight in trainer.network.parameters()]))
    assert difference(*trained) < 1e-5


@pytest.mark.parametrize(
    ("kind", "reduction"), [("classifier", "mean"), ("reversal", "token_mean"), ("unsupervised", "mean")]
)
def test_the_gradient_with_a_classifier_is_that_of_the_formula(worlds, kind: str, reduction: str) -> None:
    """An independent way: each utterance by itself, its two losses weighed and added up by hand."""
    this = worlds[kind]
    trainer = this.trainer(reduction)
    update = [0, 1, 2, 4, 5]
    trainer.training_step(trainer.model, this.loader()(update))
    whole, logged = named_gradients(trainer), trainer._step.values
    model, settings = trainer.network, this.settings
    w_ctc, w_class = settings.get("task_weight", (0.5, 0.5))
    first = this.options.unsupervised_task
    weighed = [place for place in update if first is None or this.train.columns["group"][place] != first]
    assert (len(weighed) < len(update)) == (kind == "unsupervised")
    weight_M, normaliser = parse(reduction)(this.world.train.update(weighed))
    speakers = this.world.train.columns["speaker"]
    by_hand, losses, class_losses = {}, 0.0, 0.0
    for place in update:
        model.zero_grad()
        batch = this.train.micro_batch([place], this.world.features, [0])
        output = model(**batch.inputs)
        entropy = functional.cross_entropy(
            output.class_logits, torch.tensor([this.options.classes.index(speakers[place])])
        )
        class_loss = len(speakers) / (3 * speakers.count(speakers[place])) * entropy / len(update)
        loss = torch.zeros(())
        if place in weighed:
            weight = weight_M[weighed.index(place)] / normaliser
            loss = weight * ctc.losses(output.logits, batch, this.world.vocabulary.blank).sum()
        (w_ctc * loss + w_class * class_loss).backward()
        losses, class_losses = losses + float(loss.detach()), class_losses + float(class_loss.detach())
        for name, weights in model.named_parameters():
            if weights.grad is not None:
                by_hand[name] = by_hand.get(name, 0) + weights.grad
    for name, expected in by_hand.items():
        assert float((whole[name] - expected).norm()) <= 1e-4 * float(expected.norm()) + 1e-7, name
    assert difference(*(torch.cat([found[name].flatten() for name in by_hand]) for found in (by_hand, whole))) < 1e-5
    assert logged["class_loss"] == pytest.approx(class_losses, rel=1e-5)
    assert logged["loss"] == pytest.approx(w_ctc * losses + w_class * class_losses, rel=1e-5)


def test_what_is_not_supervised_moves_no_text_and_does_not_count_in_z(worlds) -> None:
    this = worlds["unsupervised"]
    left_out = [place for place in range(len(this.train)) if place in this.without_ctc]
    assert {this.train.columns["group"][place] for place in left_out} == {"sentence"}
    share = this.loader()([0, *left_out[:3]])
    assert (len(share), len(share.update)) == (4, 1)
    trainer = this.trainer("utterance_mean")
    alone = named_gradients_of(trainer, this.loader()([0]))["lm_head.weight"]
    together = named_gradients_of(trainer, share)["lm_head.weight"]
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-7)


def test_an_update_without_any_supervised_utterance_trains_the_classifier_alone(worlds) -> None:
    this = worlds["unsupervised"]
    trainer = this.trainer("gradient_balanced(decay=0.9)")
    state = trainer.reduction_state
    gradients = named_gradients_of(trainer, this.loader()(sorted(this.without_ctc)[:4]))
    assert float(gradients["lm_head.weight"].abs().max()) == 0
    assert float(gradients["classifier.output.weight"].abs().max()) > 0
    assert trainer.reduction_state == state
    assert "nll_per_label" not in trainer._step.values


def named_gradients_of(trainer: Any, share: Any) -> dict[str, torch.Tensor]:
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, share)
    return named_gradients(trainer)


def test_utterances_without_a_class_count_neither_in_the_loss_nor_in_n(worlds) -> None:
    from dataclasses import replace

    this = worlds["classifier"]
    share = this.loader()(UPDATE)
    some = np.where(np.arange(8) % 2, share.class_N, -1)
    trainer = this.trainer()
    kept = named_gradients_of(trainer, replace(share, class_N=some))["classifier.output.weight"]
    alone = named_gradients_of(trainer, this.loader()(UPDATE[1::2]))["classifier.output.weight"]
    torch.testing.assert_close(kept, alone, rtol=1e-4, atol=1e-7)
    assert trainer._step.values["class_accuracy"] in (0.0, 0.25, 0.5, 0.75, 1.0)
    none = named_gradients_of(trainer, replace(share, class_N=np.full(8, -1)))
    assert float(none["classifier.output.weight"].abs().max()) == 0
    assert "class_loss" not in trainer._step.values


def test_the_reversal_grows_with_the_progress_of_training(world: World) -> None:
    this = ModelWorld(world, "multitask_aux", **REVERSED, gradient_reversal_schedule="dann")
    trainer = this.trainer(num_train_epochs=2)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "class_loss" in row]
    expected = [0.7 * (2 / (1 + np.exp(-10 * step / 4)) - 1) for step in range(4)]
    assert [row["reversal_lambda"] for row in rows] == pytest.approx(expected)
    assert all(0 <= row["class_accuracy"] <= 1 and row["class_loss"] > 0 for row in rows)


def test_a_branch_whose_group_is_absent_is_not_moved_by_the_optimizer(worlds) -> None:
    this = worlds["branches"]
    words = [place for place, group in enumerate(this.train.columns["group"]) if group == "word"]
    trainer = this.trainer()
    gradients = named_gradients_of(trainer, this.loader()(words[:4]))
    number = this.options.tasks.index("sentence")
    assert not any(name.startswith((f"branches.{number}.", f"lm_heads.{number}.")) for name in gradients)
    assert any(name.startswith(f"branches.{1 - number}.") for name in gradients)


@pytest.mark.parametrize("kind", ["branches", "fresh branches"])
def test_group_gradients_are_those_of_each_groups_mean_loss_at_all_output_layers(worlds, kind: str) -> None:
    this, model = worlds[kind], worlds[kind].model().train()
    measured, groups = GroupGradients(model, this.train.groups), np.array(this.train.group_code)
    for batch in this.loader(3)(UPDATE).micro_batches:
        logits = model(**batch.inputs).logits
        group_B = groups[np.array(UPDATE)[batch.position_B]]
        measured.add(ctc.losses(logits, batch, this.world.vocabulary.blank), logits, group_B, batch.inputs["task"])
    norms = measured.norms(np.bincount(groups[UPDATE]))
    for group in range(2):
        model.zero_grad()
        mine = [place for place in UPDATE if groups[place] == group]
        batch = this.train.micro_batch(mine, this.world.features, range(len(mine)))
        ctc.losses(model(**batch.inputs).logits, batch, this.world.vocabulary.blank).mean().backward()
        weights = [weight for head in model.lm_heads for weight in head.parameters() if weight.grad is not None]
        expected = float(torch.cat([weight.grad.flatten() for weight in weights]).norm())
        assert norms[group] == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", ["branches", "classifier"])
def test_a_model_saved_in_the_middle_of_training_can_be_loaded(worlds, kind: str, tmp_path: Path) -> None:
    this = worlds[kind]
    trainer = this.trainer(save_strategy="steps", save_steps=2, num_train_epochs=1)
    trainer.checkpoints = tmp_path
    trainer.args.output_dir = str(tmp_path)
    trainer.train()
    loaded = type(trainer.network).from_pretrained(tmp_path / "checkpoint-2").state_dict()
    assert all(torch.equal(loaded[name], weights) for name, weights in trainer.network.state_dict().items())


@pytest.mark.parametrize("kind", KINDS)
def test_models_are_given_what_they_ask_for_and_nothing_else(worlds, kind: str) -> None:
    this = worlds[kind]
    own = {"task"} if kind in ("branches", "fresh branches", "heads") else {"frame_count"}
    batch = this.train.micro_batch([0, 1], this.world.features, [0, 1])
    assert set(batch.inputs) == {"input_values", "attention_mask", *own}
    evaluated = this.validation.micro_batch([0, 1], this.world.features, [0, 1])
    assert set(evaluated.inputs) - {"input_values", "attention_mask"} == own & {"task"}
    assert set(this.world.train.micro_batch([0], this.world.features, [0]).inputs) == {"input_values", "attention_mask"}


def test_a_model_with_branches_is_scored_with_the_branch_of_each_group(worlds) -> None:
    trainer = worlds["branches"].trainer(num_train_epochs=1)
    with torch.no_grad():
        trainer.network.lm_heads[0].bias[trainer.blank] += 1e4
    rows = trainer.evaluator.evaluate(trainer.network, trainer.args.device, trainer.precision)
    silent = {row["group"]: row["hypothesis"] == "" and row["loss"] > 1e3 for row in rows}
    assert silent == {"sentence": True, "word": False}
