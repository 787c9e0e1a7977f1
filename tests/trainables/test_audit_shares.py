"""The shares of an audit against gradients computed one by one, and against what the Trainer really does."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
import torch
from audits import CHUNK, DIGITS, POSITIONS, REDUCTIONS, WEIGHTED, auditor, measured, rows_of
from worlds import World

from trainables import ctc
from trainables.audit import Audit
from trainables.dataset import Share, UpdateSampler
from trainables.reductions import Reduction, parse
from trainables.shares import presets

EVERY = [str(reduction) for reduction in REDUCTIONS]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def found(world: World) -> tuple[Audit, list[dict[str, Any]]]:
    return measured(world)


@pytest.fixture(scope="module")
def by_hand(world: World) -> tuple[np.ndarray, np.ndarray]:
    """Loss and output layer's gradient of each utterance by itself, by autograd through the whole model."""
    model, losses, gradients = world.model().eval(), [], []
    for position in POSITIONS:
        batch = world.train.micro_batch([position], world.features, [0])
        loss = ctc.losses(model(**batch.inputs).logits, batch, world.vocabulary.blank).sum()
        gradient = torch.autograd.grad(loss, [model.lm_head.weight, model.lm_head.bias])
        losses.append(float(loss.detach()))
        gradients.append(torch.cat([part.flatten() for part in gradient]).double().numpy())
    return np.array(losses), np.array(gradients)


def factors(world: World, reduction: Reduction, losses: np.ndarray) -> np.ndarray:
    """c_i, the factor of each loss when the audited utterances are one update."""
    update = world.train.update(POSITIONS, CHUNK)
    weight_N, normaliser = reduction(update, reduction.initial_state(update.groups, world.train.group_counts))
    return weight_N * reduction.rescale(losses, update.label_count_N) / normaliser


def lengths(world: World) -> list[str]:
    """Every word is shorter than every sentence, so that quarters by labels are few and known."""
    edges = np.quantile([len(world.train.labels[one]) for one in POSITIONS], (0.25, 0.5, 0.75), method="lower")
    return [str(sum(len(world.train.labels[one]) > edge for edge in edges)) for one in POSITIONS]


@pytest.mark.parametrize("reduction", EVERY)
@pytest.mark.parametrize("column", ["group", "speaker", "length"])
def test_every_share_is_that_of_gradients_computed_one_by_one(world, found, by_hand, reduction, column) -> None:
    losses, gradients = by_hand
    factor_N = factors(world, parse(reduction), losses)
    values = lengths(world) if column == "length" else world.train.columns[column]
    rows = list(rows_of(found[0], reduction, column).values())
    names = sorted(set(values))
    assert len(rows) == len(names)
    parts = {name: (factor_N[:, None] * gradients)[np.array(values) == name].sum(axis=0) for name in names}
    whole = sum(parts.values())
    norms = {name: np.linalg.norm(part) for name, part in parts.items()}
    seconds = np.array([world.train.seconds[one] for one in POSITIONS])
    for row, name in zip(rows, names):
        member = np.array(values) == name
        rest = whole - parts[name]
        expected = {
            "utterances": member.sum(),
            "utterance_share": member.mean(),
            "second_share": seconds[member].sum() / seconds.sum(),
            "mean_loss": losses[member].mean(),
            "value": factor_N @ losses,
            "loss_share": (factor_N * losses)[member].sum() / (factor_N @ losses),
            "gradient_norm_share": norms[name] / sum(norms.values()),
            "gradient_share": parts[name] @ whole / (whole @ whole),
            "gradient_left": np.linalg.norm(whole) / sum(norms.values()),
            "cosine_to_rest": parts[name] @ rest / (norms[name] * np.linalg.norm(rest)),
        }
        assert {key: row[key] for key in expected} == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_rows_of_utterances_are_those_of_gradients_computed_one_by_one(world, found, by_hand) -> None:
    losses, gradients = by_hand
    rows = found[1]
    assert [row["utt_id"] for row in rows] == [world.train.columns["utt_id"][one] for one in POSITIONS]
    assert [row["loss"] for row in rows] == pytest.approx(losses.tolist(), rel=1e-5)
    assert [row["grad_norm"] for row in rows] == pytest.approx(np.linalg.norm(gradients, axis=1).tolist(), rel=DIGITS)


@pytest.mark.parametrize("reduction", EVERY)
def test_the_gradient_share_of_a_group_is_its_part_of_the_gradient_of_a_training_step(world, found, reduction) -> None:
    trainer = world.trainer(reduction)
    parts = defaultdict(list)
    for position in POSITIONS:
        parts[world.train.columns["group"][position]].append(position)

    def head_gradient(chosen: list[int]) -> torch.Tensor:
        trainer.model.zero_grad()
        batch = world.train.micro_batch(chosen, world.features, chosen)
        state = trainer.reduction_state
        trainer.training_step(trainer.model, Share(world.train.update(POSITIONS, CHUNK), [batch], 1.0, 0.0))
        trainer.reduction_state = state
        head = trainer.network.lm_head
        return torch.cat([head.weight.grad.flatten(), head.bias.grad]).double()

    whole = head_gradient(list(POSITIONS))
    for name, row in rows_of(found[0], reduction, "group").items():
        assert row["gradient_share"] == pytest.approx(
            float(head_gradient(parts[name]) @ whole / (whole @ whole)), abs=1e-5
        )


@pytest.fixture(scope="module", params=[3, 8])
def dealt(request: pytest.FixtureRequest, world: World) -> tuple[int, Audit]:
    return request.param, measured(world, update_size=request.param)[0]


@pytest.mark.parametrize("reduction", EVERY)
def test_shares_are_those_of_many_updates_as_training_deals_them(world, dealt, by_hand, reduction) -> None:
    """Updates of a sampler of training, of another seed than any audit's, weighed one by one."""
    size, audit = dealt
    losses, gradients = by_hand
    one, sampler = parse(reduction), UpdateSampler(len(POSITIONS), size, seed=17)
    state = one.initial_state(world.train.groups, world.train.group_counts)
    factor_N = np.zeros(len(POSITIONS))
    for epoch in range(500):
        sampler.set_epoch(epoch)
        for positions in sampler:
            update = world.train.update(positions, CHUNK)
            weight_N, normaliser = one(update, state)
            factor_N[positions] += weight_N * one.rescale(losses[positions], update.label_count_N) / normaliser
    group = np.array(world.train.columns["group"])
    whole = factor_N @ gradients
    for name, row in rows_of(audit, reduction, "group").items():
        member = group == name
        assert row["update_size"] == size
        assert row["loss_share"] == pytest.approx((factor_N * losses)[member].sum() / (factor_N @ losses), abs=0.02)
        share = (factor_N[member] @ gradients[member]) @ whole / (whole @ whole)
        assert row["gradient_share"] == pytest.approx(share, abs=0.02)


def test_small_updates_give_words_more_of_a_token_mean_than_of_a_sum_and_one_update_of_all_does_not(
    world, dealt, found
) -> None:
    size, audit = dealt
    words = [
        {name: rows_of(one, name, "group")["word"]["loss_share"] for name in ("sum", "token_mean")}
        for one in (audit, found[0])
    ]
    assert words[0]["token_mean"] > words[0]["sum"] + (0.05 if size == 3 else 0.005)
    assert words[1]["token_mean"] == pytest.approx(words[1]["sum"], abs=1e-12)


def test_the_value_is_that_of_one_update_of_all_whatever_the_size_of_updates(dealt, found) -> None:
    value = [{(row["reduction"], row["class"]): row["value"] for row in one.shares} for one in (dealt[1], found[0])]
    assert value[0] == pytest.approx(value[1], rel=1e-12)


def test_only_reductions_that_look_at_mates_have_directions_of_their_own(world) -> None:
    weights = auditor(world, update_size=5).weights
    place = {str(one): int(way) for one, way in zip(weights.reductions, weights.direction_R)}
    same = {name.partition("(")[0] for name, way in place.items() if way == place["sum"]}
    equal_groups = {"group_balanced", "group_temperature"}  # six words, six sentences
    assert same == {"sum", "utterance_mean", "stock_sum", "ctc_dro", "gradient_balanced", *equal_groups}
    assert place["stock_mean"] == place["mean"]


def test_shares_of_every_reduction_and_column_add_up_to_one(found) -> None:
    sums: dict[Any, float] = defaultdict(float)
    for row in found[0].shares:
        for name in (
            "utterance_share",
            "label_share",
            "second_share",
            "loss_share",
            "gradient_norm_share",
            "gradient_share",
        ):
            sums[row["reduction"], row["column"], name] += row[name]
    assert len(sums) == len(REDUCTIONS) * 3 * 6
    assert all(total == pytest.approx(1.0, abs=1e-9) for total in sums.values())


@pytest.mark.parametrize(
    "other", ["utterance_mean", "token_mean", "frame_mean", "stock_sum", "ctc_dro", "gradient_balanced"]
)
def test_reductions_that_point_the_same_way_in_one_update_have_the_same_shares_of_it(found, other) -> None:
    [same] = [name for name in EVERY if name.split("(")[0] == other]
    for column in ("group", "speaker", "length"):
        one, two = rows_of(found[0], "sum", column), rows_of(found[0], same, column)
        for name in one:
            shares = [key for key in one[name] if key.endswith("_share")]
            assert [one[name][key] for key in shares] == pytest.approx([two[name][key] for key in shares], abs=1e-12)
            assert one[name]["value"] != two[name]["value"] or same == "stock_sum"


def test_mean_divides_the_part_of_each_utterance_in_sum_by_its_labels(world, found) -> None:
    audit, rows = found
    for name, row in rows_of(audit, "mean", "group").items():
        share = {one["utt_id"]: one["loss"] / one["labels"] for one in rows}
        expected = sum(share[one["utt_id"]] for one in rows if one["group"] == name) / sum(share.values())
        assert row["loss_share"] == pytest.approx(expected, rel=1e-9)
    sentence = {key: rows_of(audit, key, "group")["sentence"]["gradient_share"] for key in ("sum", "mean")}
    assert sentence["sum"] > sentence["mean"]


def test_cosines_between_classes_are_those_of_their_gradients(world, found, by_hand) -> None:
    _, gradients = by_hand
    group = np.array(world.train.columns["group"])
    one, other = (gradients[group == name].sum(axis=0) for name in ("sentence", "word"))
    expected = one @ other / (np.linalg.norm(one) * np.linalg.norm(other))
    [row] = [row for row in found[0].cosines if (row["reduction"], row["column"]) == ("sum", "group")]
    assert (row["class"], row["other"]) == ("sentence", "word")
    assert row["cosine"] == pytest.approx(expected, abs=1e-6)


def test_one_class_has_all_shares_and_no_rest(world) -> None:
    words = tuple(one for one in POSITIONS if world.train.columns["group"][one] == "word")
    [row] = rows_of(measured(world, positions=words)[0], "mean", "group").values()
    assert (row["gradient_share"], row["gradient_norm_share"], row["cosine_to_rest"]) == (1.0, 1.0, None)


def test_the_presets_are_the_family_and_what_the_study_adds() -> None:
    names = [str(reduction) for reduction in presets([WEIGHTED, "mean", "power(alpha=0.75)"])]
    assert len(names) == len(set(names)) == len(presets()) + 2
    assert names[-2:] == [WEIGHTED, "power(alpha=0.75)"]
