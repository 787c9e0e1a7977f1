"""Gradients at all weights, on a few utterances, beside those at the output layer."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import pytest
import torch
from worlds import World

from trainables import ctc, exact_gradients
from trainables.audit import Auditor
from trainables.dataset import Share
from trainables.reductions import parse
from trainables.shares import Classes, Weights, presets

SAMPLE = (0, 1, 2, 3, 5, 8)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


def loss_of(world: World, model: Any, number: int) -> torch.Tensor:
    batch = world.train.micro_batch([SAMPLE[number]], world.features, [0])
    return ctc.losses(model(**batch.inputs).logits, batch, world.vocabulary.blank)[0]


def grams(world: World, model: Any, held: int) -> exact_gradients.Grams:
    bytes_of_one = 4 * sum(weight.numel() for weight in model.parameters())
    return exact_gradients.measure(model, lambda one: loss_of(world, model, one), len(SAMPLE), held * bytes_of_one)


def audited(world: World, model: torch.nn.Module, exact: int) -> list[dict[str, Any]]:
    auditor = Auditor(
        world.train,
        tuple(range(12)),
        world.features,
        world.vocabulary.blank,
        ("group",),
        presets(),
        60.0,
        4,
        exact=exact,
    )
    return auditor.measure(model, torch.device("cpu"), contextlib.nullcontext).exact


def test_inner_products_are_those_of_whole_gradients_however_few_are_held(world) -> None:
    model = world.model().eval()
    gradients = []
    for number in range(len(SAMPLE)):
        found = torch.autograd.grad(loss_of(world, model, number), list(model.parameters()), allow_unused=True)
        gradients.append(torch.cat([part.flatten() for part in found if part is not None]).double())
    gradient_NP = torch.stack(gradients)
    expected = (gradient_NP @ gradient_NP.T).numpy()
    for held in (1, 2, 4, 6, 100):
        assert grams(world, model, held).exact_NN == pytest.approx(expected, rel=1e-4)


def test_where_the_output_layer_alone_is_trained_the_cheap_figure_is_the_exact_one(world) -> None:
    model = world.model()
    model.requires_grad_(False)
    model.lm_head.requires_grad_(True)
    rows = audited(world, model, exact=6)
    assert len(rows) == len(presets()) * sum(
        len({row["class"] for row in rows if row["column"] == column}) for column in ("group", "length")
    )
    for row in rows:
        assert row["largest_difference"] == pytest.approx(0.0, abs=1e-12)
        assert [row[name] for name in ("norm_pearson", "norm_spearman", "cosine", "cosines_pearson")] == pytest.approx(
            [1.0] * 4
        )


def test_shares_of_whole_gradients_add_up_to_one_and_the_cheap_ones_are_near(world) -> None:
    rows = audited(world, world.model(), exact=8)
    for reduction in {row["reduction"] for row in rows}:
        for column in ("group", "length"):
            of_column = [row for row in rows if (row["reduction"], row["column"]) == (reduction, column)]
            assert sum(row["utterances"] for row in of_column) == 8
            for kind in ("cheap", "exact"):
                for name in ("gradient_norm_share", "gradient_share"):
                    assert sum(row[f"{name}_{kind}"] for row in of_column) == pytest.approx(1.0)
    assert rows[0]["norm_pearson"] > 0.9
    assert 0 < rows[0]["cosine"] < 1


def test_the_exact_share_of_a_group_is_its_part_of_the_gradient_of_a_training_step(world) -> None:
    rows = {
        row["class"]: row
        for row in audited(world, world.model(), exact=12)
        if (row["reduction"], row["column"]) == ("mean", "group")
    }
    trainer = world.trainer("mean")

    def gradient(chosen: list[int]) -> torch.Tensor:
        trainer.model.zero_grad()
        batch = world.train.micro_batch(chosen, world.features, chosen)
        trainer.training_step(trainer.model, Share(world.train.update(range(12)), [batch], 1.0, 0.0))
        return torch.cat([w.grad.flatten() for w in trainer.network.parameters() if w.grad is not None]).double()

    whole = gradient(list(range(12)))
    for name, row in rows.items():
        part = gradient([one for one in range(12) if world.train.columns["group"][one] == name])
        assert row["gradient_share_exact"] == pytest.approx(float(part @ whole / (whole @ whole)), abs=1e-4)


def test_an_utterance_without_a_finite_loss_is_left_out_of_the_comparison(world) -> None:
    model = world.model().eval()

    def loss(number: int) -> torch.Tensor:
        return loss_of(world, model, number) * (float("inf") if number == 2 else 1.0)

    found = exact_gradients.measure(model, loss, len(SAMPLE))
    assert found.places.tolist() == [0, 1, 3, 4, 5]
    assert np.isfinite(found.exact_NN).all()
    classes = Classes.of("kind", ["a", "b", "a", "b", "a", "b"])
    weights = Weights.of([parse("mean")], world.train.update(SAMPLE), np.ones(6, dtype=bool))
    labels = np.array([len(world.train.labels[one]) for one in SAMPLE])
    rows = exact_gradients.exact_rows(found, weights, [classes], labels)
    assert [row["utterances"] for row in rows] == [2, 3]
    assert sum(row["gradient_share_exact"] for row in rows) == pytest.approx(1.0)


def test_too_few_utterances_give_no_correlation(world) -> None:
    rows = audited(world, world.model(), exact=2)
    assert rows[0]["norm_pearson"] is None
    assert rows[0]["cosine"] is not None
