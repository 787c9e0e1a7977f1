"""An audit changes nothing, loses nothing, and writes what it measured."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet
import pytest
import torch
from audits import CPU, DIGITS, POSITIONS, REDUCTIONS, auditor, close, measured
from worlds import World

from trainables.audit import Audit
from trainables.errors import DataError
from trainables.evaluation import Evaluator
from trainables.frozen import digest
from trainables.reductions import parse
from trainables.sampling import by_choice, sample


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def found(world: World) -> tuple[Audit, list[dict[str, Any]]]:
    return measured(world)


def test_batch_mates_and_padding_do_not_matter(world, found) -> None:
    for changed in ({"max_utterances": 1}, {"exact_lengths": True}, {"budget_seconds": 1e9, "max_utterances": 12}):
        audit, rows = measured(world, **changed)
        assert close(audit.shares, found[0].shares)
        assert close(rows, found[1])


def test_blocks_of_any_size_give_the_same_rows_in_the_same_order(world, found, monkeypatch) -> None:
    monkeypatch.setattr("trainables.audit._BLOCK", 5)
    audit, rows = measured(world)
    assert close(rows, found[1])
    assert close(audit.shares, found[0].shares)


def test_a_frozen_model_keeps_its_weights_gradients_modes_and_the_random_numbers_behind_it(world) -> None:
    torch.manual_seed(3)
    model = world.model()
    model.train()
    model.wav2vec2.feature_extractor.eval()
    modes = [module.training for module in model.modules()]
    before, random = digest(model), torch.get_rng_state()
    audit, _ = measured(world, model, exact=3)
    assert digest(model) == before == audit.summary["weights"]
    assert torch.equal(torch.get_rng_state(), random)
    assert all(weight.grad is None for weight in model.parameters())
    assert [module.training for module in model.modules()] == modes
    assert not model.lm_head._forward_pre_hooks


def test_dropout_and_specaugment_are_off(world, found) -> None:
    noisy = world.model()
    noisy.config.mask_time_prob, noisy.config.layerdrop = 0.5, 0.9
    for module in noisy.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.5
    noisy.train()
    assert close(measured(world, noisy)[1], found[1])


def test_a_model_that_changes_under_measurement_is_an_error(world) -> None:
    model = world.model()
    model.register_buffer("calls", torch.zeros(1))

    def count(*_: Any) -> None:
        model.calls.add_(1)

    model.lm_head.register_forward_hook(count)
    with pytest.raises(RuntimeError, match="the weights changed"):
        measured(world, model)


def test_an_utterance_without_alignment_keeps_its_row_and_enters_no_sum(world) -> None:
    frames = list(world.train.frames)
    frames[1] = 3
    audit, rows = measured(with_frames(world, frames))
    without, others = measured(world, positions=tuple(one for one in POSITIONS if one != 1))
    assert (rows[1]["loss"], rows[1]["feasible"], rows[1]["grad_norm"]) == (float("inf"), False, None)
    assert audit.summary["excluded"] == 1
    assert close(rows[:1] + rows[2:], others)
    of_columns = [[row for row in one.shares if row["column"] != "length"] for one in (audit, without)]
    assert close(*of_columns)


@pytest.mark.parametrize("most", [1, 5])
def test_scoring_finds_the_gradient_norms_of_an_audit_and_the_losses_that_it_finds_without(world, found, most) -> None:
    model = world.model()
    model.train()
    evaluator = Evaluator(world.train, world.vocabulary, world.features, ("group",), 60.0, most)
    plain = evaluator.evaluate(model, CPU, contextlib.nullcontext)
    rows = evaluator.evaluate(model, CPU, contextlib.nullcontext, gradients=True)
    assert [{name: value for name, value in row.items() if name != "grad_norm"} for row in rows] == plain
    audited = {row["utt_id"]: row["grad_norm"] for row in found[1]}
    assert {row["utt_id"]: row["grad_norm"] for row in rows} == pytest.approx(audited, rel=DIGITS)
    assert model.training
    assert all(weight.grad is None for weight in model.parameters())
    assert not model.lm_head._forward_pre_hooks


def test_an_utterance_without_alignment_has_no_gradient_norm(world) -> None:
    frames = list(world.train.frames)
    frames[1] = 3
    evaluator = Evaluator(with_frames(world, frames).train, world.vocabulary, world.features, ("group",), 60.0, 8)
    rows = evaluator.evaluate(world.model(), CPU, contextlib.nullcontext, gradients=True)
    lost = world.train.columns["utt_id"][1]
    assert [row["utt_id"] for row in rows if row["grad_norm"] is None] == [lost]
    assert [row["loss"] for row in rows if row["utt_id"] == lost] == [float("inf")]


def with_frames(world: World, frames: list[int]) -> Any:
    changed = object.__new__(World)
    vars(changed).update(vars(world))
    changed.train = dataclasses.replace(world.train, frames=frames)
    return changed


def test_a_loss_that_is_infinite_without_a_reason_is_left_out_too(world, found) -> None:
    model, longest = world.model(), max(world.train.frames)

    def break_the_longest(module: Any, inputs: Any, logits: torch.Tensor) -> torch.Tensor:
        return logits * float("nan") if logits.shape[1] == longest else logits

    model.lm_head.register_forward_hook(break_the_longest)
    audit, rows = measured(world, model, max_utterances=1)
    broken = [row["utt_id"] for row in rows if not row["feasible"]]
    assert 0 < len(broken) < 12
    assert audit.summary["excluded"] == len(broken)
    kept = [row for row in rows if row["feasible"]]
    assert close(kept, [row for row in found[1] if row["utt_id"] not in broken])
    assert all(np.isfinite(row["gradient_share"]) for row in audit.shares if row["gradient_share"] is not None)


def test_files_hold_what_was_measured_and_nothing_is_left_of_a_failed_audit(world, found, tmp_path: Path) -> None:
    auditor(world, exact=4).write(world.model(), CPU, contextlib.nullcontext, tmp_path / "whole")
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names == {"audit.parquet", "shares.parquet", "cosines.parquet", "exact.parquet", "audit.json"}
    table = {
        name: pyarrow.parquet.read_table(tmp_path / "whole" / f"{name}.parquet").to_pylist()
        for name in ("audit", "shares")
    }
    assert table["audit"] == found[1]
    assert table["shares"] == found[0].shares
    assert json.loads((tmp_path / "whole" / "audit.json").read_text())["utterances"] == 12
    broken = world.model()
    broken.lm_head.register_forward_pre_hook(fail_on_the_third_call())
    with pytest.raises(ZeroDivisionError):
        auditor(world).write(broken, CPU, contextlib.nullcontext, tmp_path / "torn")
    assert not list((tmp_path / "torn").iterdir())


def fail_on_the_third_call() -> Any:
    calls = []

    def hook(*_: Any) -> None:
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError

    return hook


def test_the_key_of_an_audit_follows_from_all_that_decides_it(world) -> None:
    key = auditor(world).key(world.model())
    assert key == auditor(world, budget_seconds=3.0, max_utterances=2).key(world.model())
    others = {
        auditor(world).key(world.model(seed=1)),
        auditor(world).key(world.model(), "bf16"),
        auditor(world, positions=POSITIONS[1:]).key(world.model()),
        auditor(world, columns=("group",)).key(world.model()),
        auditor(world, reductions=REDUCTIONS[1:]).key(world.model()),
        auditor(world, exact=2).key(world.model()),
        auditor(world, chunk_size=2).key(world.model()),
        auditor(world, update_size=8).key(world.model()),
        auditor(world, split=dataclasses.replace(world.train, training_count_G=np.array([3, 9]))).key(world.model()),
    }
    assert len(others - {key}) == 9


def test_what_is_trained_decides_an_audit_of_whole_gradients_alone(world) -> None:
    part = world.model()
    part.freeze_feature_encoder()
    assert auditor(world).key(part) == auditor(world).key(world.model())
    assert auditor(world, exact=2).key(part) != auditor(world, exact=2).key(world.model())


def test_samples_are_nested_hold_every_group_and_go_by_name(world) -> None:
    samples = [sample(world.train, count) for count in range(1, 13)]
    assert [len(one) for one in samples] == list(range(1, 13))
    assert all(set(small) <= set(large) for small, large in itertools.pairwise(samples))
    assert {world.train.group_code[one] for one in samples[1]} == {0, 1}
    few = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]
    fewer = dataclasses.replace(
        world.train, columns={"utt_id": [f"u{one}" for one in few]}, row=few, group_code=[0] * 9 + [1] * 2
    )
    halves = sample(fewer, 6)
    assert sum(fewer.group_code[one] for one in halves) == 1
    assert by_choice(world.train)[:5] != [0, 1, 2, 3, 4]
    with pytest.raises(DataError, match="audit_utterances is 0"):
        sample(world.train, 0)


def test_requests_that_cannot_be_met_say_why(world, monkeypatch) -> None:
    with pytest.raises(DataError, match="'length' has the name of the audit's own bins"):
        auditor(world, columns=("length",))
    with pytest.raises(DataError, match="none of the 12 audited utterances"):
        auditor(with_frames(world, [1] * 12))
    monkeypatch.setattr("trainables.shares._LARGEST_SUMS_BYTES", 10_000)
    with pytest.raises(DataError, match=r"'speaker': 3.*leave the column of most classes out"):
        measured(world)
    with pytest.raises(DataError, match="must name the groups"):
        measured(world, reductions=(parse("dataset_weighted(word=1)"),))


def test_half_precision_moves_shares_by_its_rounding_alone(world, found) -> None:
    model, device = world.model(), CPU
    audit = auditor(world, exact=3).measure(model, device, lambda: torch.autocast("cpu", torch.bfloat16))
    one, other = ([row["gradient_share"] for row in each.shares] for each in (audit, found[0]))
    assert one != other
    assert one == pytest.approx(other, abs=0.03)
    assert audit.exact


@pytest.mark.gpu
def test_a_gpu_finds_what_the_cpu_finds(world, found) -> None:
    rows: list[dict[str, Any]] = []
    device = torch.device("cuda")
    auditing = auditor(world, exact=4)
    audit = auditing.measure(world.model().to(device), device, contextlib.nullcontext, rows.extend)
    assert close(rows, found[1], tolerance=1e-3)
    assert close(audit.shares, found[0].shares, tolerance=1e-3)
    assert close(audit.exact, auditing.measure(world.model(), CPU, contextlib.nullcontext).exact, tolerance=1e-3)
