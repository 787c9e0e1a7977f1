"""A model with branches is the model it was made from, until its branches are trained apart."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_worlds import VOCABULARY, audio, checkpoint, config, frames
from torch.nn import functional
from transformers import Wav2Vec2ForCTC, Wav2Vec2ForPreTraining

from trainables.branches import MultitaskForCTC
from trainables.errors import DataError
from trainables.model_options import ModelOptions
from trainables.models import base, multitask, multitask_aux, tiny

TASKS = ("dysarthric", "l2", "control")
WAVEFORM_BS, MASK_BS = audio(9_000, 16_000, 12_000, 9_000, 14_000)
TASK_B = torch.tensor([2, 0, 2, 1, 0])


def options(**fields: Any) -> ModelOptions:
    return ModelOptions(tasks=TASKS, **{"branch_layers": 2, **fields})


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in module.state_dict().items()}


def equal(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("stable", [True, False])
@pytest.mark.parametrize("layers", [0, 2, 3])
def test_copied_branches_and_heads_give_the_logits_of_base(tmp_path: Path, stable: bool, layers: int) -> None:
    name = checkpoint(tmp_path, stable)
    inputs = {"attention_mask": MASK_BS} if stable else {}
    with torch.no_grad():
        expected_BTV = base.build(VOCABULARY, {}, name).eval()(WAVEFORM_BS, **inputs).logits
        branched = multitask.build(VOCABULARY, {}, name, options(branch_layers=layers)).eval()
        together_BTV = branched(WAVEFORM_BS, task=torch.ones(5, dtype=torch.long), **inputs).logits
        mixed_BTV = branched(WAVEFORM_BS, task=TASK_B, **inputs).logits
    assert torch.equal(together_BTV, expected_BTV)
    torch.testing.assert_close(mixed_BTV, expected_BTV, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("stable", [True, False])
def test_every_utterance_goes_through_its_own_branch_and_head_in_the_order_of_the_rows(
    tmp_path: Path, stable: bool
) -> None:
    model = multitask.build(VOCABULARY, {}, checkpoint(tmp_path, stable), options(reinitialized_layers=2)).eval()
    with torch.no_grad():
        for number, head in enumerate(model.lm_heads):
            head.bias.fill_(float(number))
        together_BTV = model(WAVEFORM_BS, attention_mask=MASK_BS, task=TASK_B).logits
        for row, task in enumerate(TASK_B.tolist()):
            audio_1S, mask_1S = WAVEFORM_BS[row : row + 1], MASK_BS[row : row + 1]
            alone_1TV = model(audio_1S, attention_mask=mask_1S, task=torch.tensor([task])).logits
            torch.testing.assert_close(together_BTV[row : row + 1], alone_1TV, rtol=1e-5, atol=1e-5)
            other_1TV = model(audio_1S, attention_mask=mask_1S, task=torch.tensor([(task + 1) % 3])).logits
            assert not torch.allclose(alone_1TV, other_1TV, atol=0.1)


def test_the_attention_mask_reaches_the_branches_so_that_padding_changes_nothing(tmp_path: Path) -> None:
    model = multitask.build(VOCABULARY, {}, checkpoint(tmp_path), options()).eval()
    short_1S, mask_1S = WAVEFORM_BS[:1, :9_000], MASK_BS[:1, :9_000]
    with torch.no_grad():
        alone_1TV = model(short_1S, attention_mask=mask_1S, task=TASK_B[:1]).logits
        padded_1S, padded_mask_1S = functional.pad(short_1S, (0, 20_000)), functional.pad(mask_1S, (0, 20_000))
        padded_1TV = model(padded_1S, attention_mask=padded_mask_1S, task=TASK_B[:1]).logits
        together_BTV = model(WAVEFORM_BS, attention_mask=MASK_BS, task=TASK_B).logits
    torch.testing.assert_close(padded_1TV[:, : frames(9_000)], alone_1TV, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(together_BTV[:1, : frames(9_000)], alone_1TV, rtol=1e-4, atol=1e-5)


def test_the_last_layer_norm_belongs_to_the_branches_where_it_stands_at_the_end(tmp_path: Path) -> None:
    stable = multitask.build(VOCABULARY, {}, checkpoint(tmp_path / "stable", True), options())
    post = multitask.build(VOCABULARY, {}, checkpoint(tmp_path / "post", False), options())
    assert {name for name, _ in stable.named_parameters() if "encoder.layer_norm" in name} == set()
    assert {name for name, _ in stable.named_parameters() if name.startswith("branches.1.layer_norm")} != set()
    assert {name for name, _ in post.named_parameters() if "encoder.layer_norm" in name} != set()
    assert {name for name, _ in post.named_parameters() if name.startswith("branches.1.layer_norm")} == set()
    for model in (stable, post):
        assert [len(model.wav2vec2.encoder.layers), *(len(branch.layers) for branch in model.branches)] == [1, 2, 2, 2]
        assert not any("pos_conv" in name for name, _ in model.branches.named_parameters())


def test_without_branch_layers_the_tasks_have_output_layers_alone_and_the_encoder_stays_whole(tmp_path: Path) -> None:
    model = multitask.build(VOCABULARY, {}, checkpoint(tmp_path), options(branch_layers=0))
    assert (len(model.branches), len(model.lm_heads), len(model.wav2vec2.encoder.layers)) == (0, 3, 3)


def test_fresh_layers_differ_between_branches_and_from_the_checkpoint_and_the_others_are_copies(tmp_path: Path) -> None:
    name = checkpoint(tmp_path)
    source = base.build(VOCABULARY, {}, name)
    torch.manual_seed(1)
    model = multitask.build(VOCABULARY, {}, name, options(reinitialized_layers=1))
    copied, replaced = source.wav2vec2.encoder.layers[1], source.wav2vec2.encoder.layers[2]
    assert all(equal(state(branch.layers[0]), state(copied)) for branch in model.branches)
    fresh = [branch.layers[1].feed_forward.intermediate_dense.weight for branch in model.branches]
    assert not torch.equal(fresh[0], fresh[1])
    assert not torch.equal(fresh[0], replaced.feed_forward.intermediate_dense.weight)
    assert all(equal(state(head), state(source.lm_head)) for head in model.lm_heads)


@pytest.mark.parametrize("kind", ["base", "tiny", "multitask_aux"])
def test_reinitialized_layers_are_the_last_ones_and_are_drawn_as_wav2vec2_draws_them(tmp_path: Path, kind: str) -> None:
    """The standard deviation of a fresh linear layer is `initializer_range`; layer norms start as the identity."""
    module, fields = {"base": base, "tiny": tiny, "multitask_aux": multitask_aux}[kind], {}
    name = checkpoint(tmp_path, hidden_size=64, intermediate_size=256) if kind != "tiny" else None
    if kind == "tiny":
        fields = {"num_hidden_layers": 3}
    given = {"classes": ("a", "b"), "location": "encoder"} if kind == "multitask_aux" else {}
    built = []
    for count in (0, 2):
        torch.manual_seed(3)
        built.append(module.build(VOCABULARY, fields, name, ModelOptions(reinitialized_layers=count, **given)))
    plain, fresh = (model.wav2vec2.encoder.layers for model in built)
    assert equal(state(plain[0]), state(fresh[0]))
    for place in (1, 2):
        weight = fresh[place].feed_forward.intermediate_dense.weight
        assert not torch.equal(weight, plain[place].feed_forward.intermediate_dense.weight)
        assert float(weight.detach().std()) == pytest.approx(0.02, rel=0.05)
        assert float(fresh[place].feed_forward.intermediate_dense.bias.detach().abs().max()) == 0
        assert torch.equal(fresh[place].layer_norm.weight, torch.ones_like(fresh[place].layer_norm.weight))


def test_too_many_layers_are_refused_with_those_there_are(tmp_path: Path) -> None:
    name = checkpoint(tmp_path)
    with pytest.raises(DataError, match=r"branch_layers = 4.* has 3 transformer layers.*from 0 .*to 3"):
        multitask.build(VOCABULARY, {}, name, options(branch_layers=4))
    with pytest.raises(DataError, match="reinitialize_last_n_layers = 2 is more than branch_layers = 1"):
        multitask.build(VOCABULARY, {}, name, options(branch_layers=1, reinitialized_layers=2))
    with pytest.raises(DataError, match=r"reinitialize_last_n_layers = 4.* has 3 transformer layers"):
        base.build(VOCABULARY, {}, name, ModelOptions(reinitialized_layers=4))
    with pytest.raises(DataError, match=r"reinitialize_last_n_layers = 2.* has 1 transformer layers"):
        tiny.build(VOCABULARY, {}, None, ModelOptions(reinitialized_layers=2))


@pytest.mark.parametrize("layers", [0, 2])
@pytest.mark.parametrize("stable", [True, False])
def test_a_saved_model_comes_back_as_it_was_with_its_tasks(tmp_path: Path, layers: int, stable: bool) -> None:
    name = checkpoint(tmp_path / "start", stable)
    model = multitask.build(VOCABULARY, {}, name, options(branch_layers=layers, reinitialized_layers=min(layers, 1)))
    with torch.no_grad():
        for number, head in enumerate(model.lm_heads):
            head.bias.add_(number)
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "model.safetensors").is_file()
    loaded = MultitaskForCTC.from_pretrained(tmp_path / "saved")
    assert equal(state(loaded), state(model))
    assert loaded.config.lossgrid_tasks == list(TASKS)
    with torch.no_grad():
        inputs = {"attention_mask": MASK_BS, "task": TASK_B}
        assert torch.equal(loaded.eval()(WAVEFORM_BS, **inputs).logits, model.eval()(WAVEFORM_BS, **inputs).logits)
    again = multitask.build(VOCABULARY, {}, str(tmp_path / "saved"), options(branch_layers=layers))
    assert equal(state(again), state(model))


def test_a_trained_model_with_other_tasks_or_branches_is_refused(tmp_path: Path) -> None:
    model = multitask.build(VOCABULARY, {}, checkpoint(tmp_path / "start"), options())
    model.save_pretrained(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    with pytest.raises(DataError, match=r"branches for dysarthric, l2, control.* has dysarthric, l2"):
        multitask.build(VOCABULARY, {}, saved, ModelOptions(tasks=TASKS[:2], branch_layers=2))
    with pytest.raises(DataError, match=r"branches of 2 layers.*set branch_layers = 2"):
        multitask.build(VOCABULARY, {}, saved, options(branch_layers=1))
    with pytest.raises(DataError, match="holds a MultitaskForCTC; model_type = base starts from one of"):
        base.build(VOCABULARY, {}, saved)


def test_a_checkpoint_that_was_pretrained_only_can_be_branched(tmp_path: Path) -> None:
    name = checkpoint(tmp_path, architecture=Wav2Vec2ForPreTraining)
    assert multitask.start(name).vocabulary() is None
    model = multitask.build(VOCABULARY, {}, name, options())
    assert len({head.weight.data_ptr() for head in model.lm_heads}) == 3


def test_a_branch_that_an_update_does_not_use_keeps_no_gradient(tmp_path: Path) -> None:
    model = multitask.build(VOCABULARY, {}, checkpoint(tmp_path), options()).train()
    model(WAVEFORM_BS, attention_mask=MASK_BS, task=torch.tensor([0, 2, 2, 0, 0])).logits.sum().backward()
    used = {name: weight.grad is not None for name, weight in model.named_parameters()}
    assert not any(flag for name, flag in used.items() if name.startswith(("branches.1.", "lm_heads.1.")))
    assert all(flag for name, flag in used.items() if name.startswith(("branches.0.", "branches.2.", "lm_heads.2.")))


@pytest.mark.parametrize("task", [None, torch.tensor([0, 1, 2, 3, 0]), torch.tensor([0, 1, -1, 0, 0])])
def test_an_utterance_without_a_task_is_an_error(tmp_path: Path, task: torch.Tensor | None) -> None:
    model = multitask.build(VOCABULARY, {}, checkpoint(tmp_path), options())
    with pytest.raises(ValueError, match=r"give each utterance a number from 0 to 2"):
        model(WAVEFORM_BS, task=task)


def test_layers_of_a_branch_are_dropped_in_training_only(tmp_path: Path) -> None:
    name = checkpoint(tmp_path)
    model = multitask.build(VOCABULARY, {"layerdrop": 1.0}, name, options(branch_layers=3))
    whole = multitask.build(VOCABULARY, {}, name, options(branch_layers=3))
    with torch.no_grad():
        given = {"attention_mask": MASK_BS, "task": TASK_B}
        assert torch.equal(model.eval()(WAVEFORM_BS, **given).logits, whole.eval()(WAVEFORM_BS, **given).logits)
        dropped_BTV = model.train()(WAVEFORM_BS, **given).logits
        for layer in (layer for branch in model.branches for layer in branch.layers):
            for weight in layer.parameters():
                weight.fill_(float("nan"))
        assert torch.equal(model(WAVEFORM_BS, **given).logits, dropped_BTV)


def test_masked_frames_are_masked_as_in_base(tmp_path: Path) -> None:
    name = checkpoint(tmp_path, mask_time_prob=0.1)
    masked_BT = torch.zeros(5, frames(16_000), dtype=torch.bool)
    masked_BT[:, 3:9] = True
    given = {"attention_mask": MASK_BS, "mask_time_indices": masked_BT}
    with torch.no_grad():
        expected_BTV = base.build(VOCABULARY, {}, name).eval()(WAVEFORM_BS, **given).logits
        branched = multitask.build(VOCABULARY, {}, name, options()).eval()
        logits_BTV = branched(WAVEFORM_BS, **given, task=TASK_B).logits
        unmasked_BTV = branched(WAVEFORM_BS, attention_mask=MASK_BS, task=TASK_B).logits
    torch.testing.assert_close(logits_BTV, expected_BTV, rtol=1e-5, atol=1e-6)
    assert not torch.allclose(logits_BTV, unmasked_BTV, atol=1e-3)


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    name, gradients = checkpoint(tmp_path), []
    for checkpointing in (False, True):
        model = multitask.build(VOCABULARY, {}, name, options()).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
            assert all(layer.gradient_checkpointing for branch in model.branches for layer in branch.layers)
        logits_BTV = model(WAVEFORM_BS, attention_mask=MASK_BS, task=TASK_B).logits
        logits_BTV.pow(2).mean().backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-8)


def test_an_adapter_behind_the_encoder_is_refused(tmp_path: Path) -> None:
    source = Wav2Vec2ForCTC(config(add_adapter=True))
    with pytest.raises(DataError, match="add_adapter"):
        MultitaskForCTC.from_ctc(source, TASKS, 1, 0)
