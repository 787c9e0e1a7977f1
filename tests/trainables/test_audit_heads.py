"""The audit of a model with an output layer for each task: gradients of different layers live in different places."""

from __future__ import annotations

import contextlib
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from worlds import World

from trainables import ctc
from trainables.audit import Auditor
from trainables.branches import MultitaskForCTC
from trainables.dataset import Split
from trainables.shares import presets

POSITIONS = tuple(range(12))
TASKS = ("sentence", "word")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def routed(world: World) -> Split:
    tasks = [TASKS.index(group) for group in world.train.columns["group"]]
    return dataclasses.replace(world.train, model_inputs={"task": tasks})


@pytest.fixture(scope="module")
def model(world: World) -> MultitaskForCTC:
    model = MultitaskForCTC.from_ctc(world.model(), TASKS, 1, 0)
    torch.manual_seed(1)
    torch.nn.init.normal_(model.lm_heads[1].weight, std=0.1)
    return model


def shares(world: World, split: Split, model: MultitaskForCTC, column: str, **bounds: Any) -> list[dict[str, Any]]:
    given = {"budget_seconds": 60.0, "max_utterances": 5, **bounds}
    auditor = Auditor(split, POSITIONS, world.features, world.vocabulary.blank, (column,), presets(), **given)
    audit = auditor.measure(model, torch.device("cpu"), contextlib.nullcontext)
    return [row for row in audit.shares if (row["reduction"], row["column"]) == ("mean", column)]


def test_shares_are_those_of_the_gradients_at_all_output_layers(world, routed, model) -> None:
    model.eval()
    weights = list(model.lm_heads.parameters())
    factor_N = 1 / np.array([len(labels) for labels in routed.labels])
    gradients = []
    for position in POSITIONS:
        batch = routed.micro_batch([position], world.features, [0])
        loss = ctc.losses(model(**batch.inputs).logits, batch, world.vocabulary.blank).sum()
        found = torch.autograd.grad(loss, weights, allow_unused=True)
        flat = [torch.zeros_like(one) if part is None else part for part, one in zip(found, weights)]
        gradients.append(factor_N[position] * torch.cat([part.flatten() for part in flat]).double().numpy())
    speakers, whole = np.array(routed.columns["speaker"]), np.sum(gradients, axis=0)
    for row in shares(world, routed, model, "speaker"):
        part = np.array(gradients)[speakers == row["class"]].sum(axis=0)
        assert row["gradient_share"] == pytest.approx(part @ whole / (whole @ whole), abs=1e-5)
        rest = whole - part
        cosine = part @ rest / np.sqrt((part @ part) * (rest @ rest))
        assert row["cosine_to_rest"] == pytest.approx(cosine, abs=1e-5)


@pytest.mark.parametrize("bound", [1, 12])
def test_tasks_with_output_layers_of_their_own_do_not_pull_at_each_other(world, routed, model, bound: int) -> None:
    rows = shares(world, routed, model, "group", max_utterances=bound)
    square = {row["class"]: row["gradient_norm_share"] ** 2 for row in rows}
    for row in rows:
        assert row["cosine_to_rest"] == 0.0
        assert row["gradient_share"] == pytest.approx(square[row["class"]] / sum(square.values()))


def test_equal_output_layers_and_branches_give_the_losses_of_the_plain_model(world, routed) -> None:
    plain = [row["mean_loss"] for row in shares(world, world.train, world.model(), "group")]
    branched = MultitaskForCTC.from_ctc(world.model(), TASKS, 1, 0)
    assert [row["mean_loss"] for row in shares(world, routed, branched, "group")] == pytest.approx(plain, rel=1e-5)


def test_whole_gradients_of_a_model_with_tasks_are_compared_too(world, routed, model) -> None:
    auditor = Auditor(
        routed, POSITIONS, world.features, world.vocabulary.blank, ("group",), presets(), 60.0, 5, exact=6
    )
    rows = auditor.measure(model, torch.device("cpu"), contextlib.nullcontext).exact
    of_group = [row for row in rows if (row["reduction"], row["column"]) == ("sum", "group")]
    assert sum(row["gradient_share_cheap"] for row in of_group) == pytest.approx(1.0)
    assert sum(row["gradient_share_exact"] for row in of_group) == pytest.approx(1.0)
