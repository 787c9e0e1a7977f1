"""The promise of the project: an update has one gradient, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from worlds import INVARIANT, UPDATE, World, difference, gradient

from trainables import ctc
from trainables.dataset import Loader
from trainables.failures import Diverged
from trainables.reductions import LENGTH_ONLY, parse


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.mark.parametrize("reduction", INVARIANT)
@pytest.mark.parametrize("bound", [3, 1])
def test_the_gradient_of_an_update_does_not_depend_on_micro_batch_and_accumulation(world, reduction, bound) -> None:
    trainer = world.trainer(reduction)
    whole = gradient(trainer, world.share([UPDATE]))
    loader = Loader(world.train, world.features, 1e9, bound)
    assert difference(whole, gradient(trainer, loader(UPDATE))) < 1e-5


cuts = st.permutations(UPDATE).flatmap(
    lambda order: st.lists(st.sampled_from(range(1, 8)), unique=True, max_size=7).map(
        lambda places: [order[a:b] for a, b in zip([0, *sorted(places)], [*sorted(places), 8])]
    )
)


@given(parts=cuts, reduction=st.sampled_from(INVARIANT))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_cut_and_no_order_of_an_update_changes_its_gradient(world, parts, reduction) -> None:
    trainer = world.trainer(reduction)
    assert difference(gradient(trainer, world.share([UPDATE])), gradient(trainer, world.share(parts))) < 1e-5


@pytest.mark.parametrize("reduction", LENGTH_ONLY)
def test_the_gradient_is_that_of_the_formula(world, reduction) -> None:
    """An independent way to the same number: each utterance by itself, weighed and added up by hand."""
    trainer = world.trainer(reduction)
    whole = gradient(trainer, world.share([UPDATE]))
    weight_N, normaliser = parse(reduction)(world.train.update(UPDATE))
    by_hand = torch.zeros_like(whole)
    for place in UPDATE:
        trainer.model.zero_grad()
        batch = world.share([[place]]).micro_batches[0]
        loss = ctc.losses(trainer.model(**batch.inputs).logits, batch, world.vocabulary.blank).sum()
        loss.backward()
        by_hand += weight_N[place] / normaliser * torch.cat([p.grad.flatten() for p in trainer.model.parameters()])
    assert difference(by_hand, whole) < 1e-5


@pytest.mark.parametrize(
    "reduction", ["mean", "ctc_dro(eta=0.01, alpha=0.1, batch_frames=100)", "gradient_balanced(decay=0.9)"]
)
def test_weights_after_training_do_not_depend_on_the_layout(world, reduction) -> None:
    trained = []
    for bound, budget in ((8, 1e9), (2, 3.0)):
        trainer = world.trainer(reduction, bound=bound, budget=budget, num_train_epochs=10)
        trainer.train()
        assert trainer.state.global_step == 20
        trained.append(torch.cat([parameter.detach().flatten() for parameter in trainer.model.parameters()]))
    start = torch.cat([parameter.detach().flatten() for parameter in world.model().parameters()])
    assert difference(start, trained[0]) > 1e-3
    assert difference(*trained) < 1e-5


def test_the_last_update_of_an_epoch_may_be_smaller_and_is_normalised_by_its_own_size(world) -> None:
    loader = Loader(world.train, world.features, 1e9, 8)
    share = loader([0, 1, 2])
    trainer = world.trainer("utterance_mean")
    loss = trainer.training_step(trainer.model, share)
    losses = [
        ctc.losses(trainer.model(**batch.inputs).logits, batch, world.vocabulary.blank) for batch in share.micro_batches
    ]
    assert float(loss) == pytest.approx(float(torch.cat(losses).mean()), rel=1e-5)


def test_padding_in_a_batch_does_not_change_the_loss_of_an_utterance(world) -> None:
    model = world.model().eval()
    alone = [world.share([[place]]).micro_batches[0] for place in UPDATE]
    together = world.share([UPDATE]).micro_batches[0]
    with torch.no_grad():
        one_by_one = [float(ctc.losses(model(**batch.inputs).logits, batch, 0)) for batch in alone]
        at_once = ctc.losses(model(**together.inputs).logits, together, 0).tolist()
    assert at_once == pytest.approx(one_by_one, rel=1e-5)


def test_an_update_whose_gradient_is_not_finite_changes_no_weight_and_three_in_a_row_end_the_trial(world) -> None:
    trainer = world.trainer("sum")
    before = [parameter.detach().clone() for parameter in trainer.model.parameters()]
    trainer.model.lm_head.register_forward_hook(lambda module, inputs, output: output * float("nan"))
    with pytest.raises(Diverged, match="update 3"):
        trainer.train()
    assert all(torch.equal(one, other) for one, other in zip(before, trainer.model.parameters()))
    assert trainer.totals.non_finite == 3


def test_two_runs_of_the_same_trial_are_equal_bit_for_bit(world) -> None:
    logs = []
    for _ in range(2):
        trainer = world.trainer("mean", num_train_epochs=2)
        trainer.train()
        logs.append(
            [
                {k: v for k, v in row.items() if "runtime" not in k and "second" not in k}
                for row in trainer.state.log_history
            ]
        )
    assert logs[0] == logs[1]


def test_every_epoch_deals_new_updates_and_the_history_has_one_row_for_each(world) -> None:
    trainer = world.trainer("mean", num_train_epochs=2)
    trainer.train()
    rows = [row for row in trainer.state.log_history if "grad_norm" in row]
    assert [row["update"] for row in rows] == [1, 2, 3, 4]
    assert [row["utterances"] for row in rows] == [8, 4, 8, 4]
    assert {row["padding_fraction"] for row in rows[:2]} != {row["padding_fraction"] for row in rows[2:]}


def test_evaluation_scores_every_utterance_in_the_order_of_the_store(world) -> None:
    trainer = world.trainer("mean")
    rows = trainer.evaluator.evaluate(trainer.model, trainer.args.device, trainer.precision)
    assert [row["utt_id"] for row in rows] == world.validation.columns["utt_id"]
    assert all(np.isfinite(row["loss"]) and row["labels"] == len(row["reference"]) for row in rows)
