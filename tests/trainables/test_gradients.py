from __future__ import annotations

import numpy as np
import pytest
import torch
from worlds import UPDATE, World

from trainables import ctc
from trainables.dataset import Loader
from trainables.gradients import GroupGradients, StepMatcher


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def test_the_running_norm_becomes_the_target_whatever_the_scale_of_the_loss() -> None:
    rng = np.random.default_rng(1)
    directions = rng.standard_normal((300, 5)) * rng.uniform(0.5, 2.0, (300, 1))
    for scale in (1e-3, 1.0, 1e4):
        matcher, weight, norms = StepMatcher(target=0.5), torch.nn.Parameter(torch.zeros(5)), []
        for direction in directions:
            weight.grad = torch.tensor(scale * direction, dtype=torch.float32)
            before = matcher.rescale([weight])
            assert before == pytest.approx(scale * np.linalg.norm(direction), rel=1e-5)
            norms.append(float(weight.grad.norm()))
        assert np.mean(norms[50:]) == pytest.approx(0.5, rel=0.1)


@pytest.mark.slow
def test_matched_arms_that_point_the_same_way_take_the_same_steps(world: World) -> None:
    trained = []
    for reduction in ("sum", "utterance_mean"):
        trainer = world.trainer(reduction, match_step=True, num_train_epochs=6)
        trainer.train()
        trained.append(torch.cat([weight.detach().flatten() for weight in trainer.network.parameters()]))
        rows = [row for row in trainer.state.log_history if "grad_norm" in row]
        assert all(row["update_ratio"] >= 0 for row in rows)
    assert float((trained[0] - trained[1]).norm() / trained[0].norm()) < 0.02
    unmatched = world.trainer("sum", num_train_epochs=6)
    unmatched.train()
    assert unmatched.totals.clipped > trainer.totals.clipped


def test_an_undefined_gradient_leaves_the_running_norm_alone() -> None:
    matcher, weight = StepMatcher(target=1.0), torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([float("nan"), 1.0])
    assert np.isnan(matcher.rescale([weight]))
    assert (matcher.mean, matcher.updates) == (0.0, 0)


def test_group_gradients_are_those_of_a_backward_of_each_groups_mean_loss(world: World) -> None:
    model = world.model().train()
    measured = GroupGradients(model, world.train.groups)
    share = Loader(world.train, world.features, 1e9, 3)(UPDATE)
    group_N = share.update.group_N
    assert group_N is not None
    for batch in share.micro_batches:
        logits = model(**batch.inputs).logits
        measured.add(ctc.losses(logits, batch, world.vocabulary.blank), logits, group_N[batch.position_B])
    counts = np.bincount(group_N)
    norms = measured.norms(counts)
    for group in range(len(world.train.groups)):
        model.zero_grad()
        mine = [place for place in UPDATE if group_N[place] == group]
        batch = world.share([mine]).micro_batches[0]
        ctc.losses(model(**batch.inputs).logits, batch, world.vocabulary.blank).mean().backward()
        expected = np.hypot(float(model.lm_head.weight.grad.norm()), float(model.lm_head.bias.grad.norm()))
        assert norms[group] == pytest.approx(expected, rel=1e-4)
