"""The classifier sees what it is said to see, without padding, and reversal turns its gradient around."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from model_worlds import VOCABULARY, audio, checkpoint, frames
from torch.nn import functional

from trainables.auxiliary import AuxiliaryForCTC, Classifier, reverse_gradient
from trainables.errors import DataError
from trainables.model_options import ModelOptions
from trainables.models import base, multitask_aux

LENGTHS = (9_000, 16_000, 12_000)
WAVEFORM_BS, MASK_BS = audio(*LENGTHS)
FRAMES_B = torch.tensor([frames(length) for length in LENGTHS])
CLASS_B = torch.tensor([0, 1, 0])
LOCATIONS = ("extractor", 1, 2, 3, "encoder", "final")


def build(name: str, location: str | int = "final", **overrides: Any) -> AuxiliaryForCTC:
    torch.manual_seed(2)
    return multitask_aux.build(VOCABULARY, overrides, name, ModelOptions(classes=("a", "b"), location=location))


def seen(model: AuxiliaryForCTC) -> torch.Tensor:
    """What the classifier was given."""
    kept = []
    hook = model.classifier.register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0].detach()))
    with torch.no_grad():
        model(WAVEFORM_BS, attention_mask=MASK_BS, frame_count=FRAMES_B)
    hook.remove()
    return kept[0]


@pytest.mark.parametrize("stable", [True, False])
def test_the_classifier_sees_the_layer_that_is_named(tmp_path: Path, stable: bool) -> None:
    """Against the hidden states that transformers itself returns."""
    name = checkpoint(tmp_path, stable)
    plain = base.build(VOCABULARY, {}, name).eval()
    with torch.no_grad():
        output = plain.wav2vec2(WAVEFORM_BS, attention_mask=MASK_BS, output_hidden_states=True)
    expected = {
        "extractor": output.extract_features, 1: output.hidden_states[1], 2: output.hidden_states[2],
        3: output.hidden_states[3], "encoder": output.hidden_states[3], "final": output.last_hidden_state,
    }  # fmt: skip
    for location in LOCATIONS:
        assert torch.equal(seen(build(name, location).eval()), expected[location]), location
    assert torch.equal(expected["encoder"], expected["final"]) != stable


def test_a_layer_that_is_dropped_passes_on_what_it_was_given(tmp_path: Path) -> None:
    name = checkpoint(tmp_path)
    first = build(name, 1).eval().wav2vec2
    with torch.no_grad():
        given = first(WAVEFORM_BS, attention_mask=MASK_BS, output_hidden_states=True).hidden_states[0]
    for location in (1, "encoder"):
        assert torch.equal(seen(build(name, location, layerdrop=1.0).train()), given)


@pytest.mark.parametrize("location", LOCATIONS)
def test_the_classifier_works_where_layers_start_afresh(tmp_path: Path, location: str | int) -> None:
    model = multitask_aux.build(
        VOCABULARY, {}, checkpoint(tmp_path),
        ModelOptions(classes=("a", "b"), location=location, reinitialized_layers=3),
    )  # fmt: skip
    model.train()(WAVEFORM_BS, attention_mask=MASK_BS, frame_count=FRAMES_B).class_logits.pow(2).sum().backward()
    assert float(model.wav2vec2.feature_extractor.conv_layers[0].conv.weight.grad.abs().sum()) > 0


def test_the_text_is_that_of_base_and_classes_are_told_only_when_frames_are_given(tmp_path: Path) -> None:
    name = checkpoint(tmp_path)
    with torch.no_grad():
        expected = base.build(VOCABULARY, {}, name).eval()(WAVEFORM_BS, attention_mask=MASK_BS).logits
        output = build(name, 2).eval()(WAVEFORM_BS, attention_mask=MASK_BS)
    assert torch.equal(output.logits, expected)
    assert output.class_logits is None


@pytest.mark.parametrize("location", LOCATIONS)
def test_class_logits_do_not_depend_on_padding_and_batch_mates(tmp_path: Path, location: str | int) -> None:
    model = build(checkpoint(tmp_path), location).eval()
    with torch.no_grad():
        together_BC = model(WAVEFORM_BS, attention_mask=MASK_BS, frame_count=FRAMES_B).class_logits
        for row, length in enumerate(LENGTHS):
            alone = {"attention_mask": MASK_BS[row : row + 1, :length], "frame_count": FRAMES_B[row : row + 1]}
            alone_1C = model(WAVEFORM_BS[row : row + 1, :length], **alone).class_logits
            torch.testing.assert_close(together_BC[row : row + 1], alone_1C, rtol=1e-4, atol=1e-5)


def test_the_mean_of_the_classifier_is_over_the_true_frames() -> None:
    torch.manual_seed(0)
    classifier, hidden_BTH = Classifier(4, 3, 2), torch.randn(2, 5, 4)
    logits_BC = classifier(hidden_BTH, torch.tensor([3, 5]))
    for row, count in enumerate((3, 5)):
        by_hand = classifier.output(classifier.project(hidden_BTH[row, :count]).mean(dim=0))
        torch.testing.assert_close(logits_BC[row], by_hand)


def test_reversal_keeps_values_and_multiplies_gradients_by_minus_its_strength() -> None:
    values = torch.randn(3, 4, requires_grad=True)
    (0.7 * reverse_gradient(values, 2.5).pow(3)).sum().backward()
    torch.testing.assert_close(values.grad, -2.5 * 0.7 * 3 * values.detach().pow(2))
    assert torch.equal(reverse_gradient(values, 2.5), values)


@pytest.mark.parametrize("location", ["extractor", 2, "final"])
def test_reversal_turns_the_gradient_of_the_encoder_and_not_that_of_the_classifier(tmp_path: Path, location) -> None:
    model, gradients = build(checkpoint(tmp_path), location).train(), []
    for strength in (None, 0.3):
        model.zero_grad()
        model.reversal = strength
        logits_BC = model(WAVEFORM_BS, attention_mask=MASK_BS, frame_count=FRAMES_B).class_logits
        functional.cross_entropy(logits_BC, CLASS_B).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None})
    plain, reversed_ = gradients
    assert plain.keys() == reversed_.keys()
    for name, gradient in plain.items():
        factor = 1.0 if name.startswith("classifier.") else -0.3
        torch.testing.assert_close(reversed_[name], factor * gradient, rtol=1e-4, atol=1e-9)


def test_a_saved_model_comes_back_with_its_classes_and_its_classifier(tmp_path: Path) -> None:
    model = build(checkpoint(tmp_path / "start"), 2)
    model.save_pretrained(tmp_path / "saved")
    saved = str(tmp_path / "saved")
    (tmp_path / "saved" / "vocab.json").write_text(VOCABULARY.as_json(), encoding="utf-8")
    loaded = build(saved, 2)
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    assert AuxiliaryForCTC.from_pretrained(saved).config.lossgrid_classes == ["a", "b"]
    with pytest.raises(DataError, match=r"tells apart a, b.* has b, c"):
        multitask_aux.build(VOCABULARY, {}, saved, ModelOptions(classes=("b", "c"), location=2))
    with pytest.raises(DataError, match="sees 2, and domaincls_loc = 'final'"):
        build(saved, "final")


@pytest.mark.parametrize("location", [0, 4, "middle"])
def test_a_layer_that_there_is_not_is_refused(tmp_path: Path, location: str | int) -> None:
    with pytest.raises(DataError, match=f"domaincls_loc = {location!r}: choose extractor, .* from 1 to 3"):
        build(checkpoint(tmp_path), location)


def test_gradient_checkpointing_changes_no_gradient(tmp_path: Path) -> None:
    name, gradients = checkpoint(tmp_path), []
    for checkpointing in (False, True):
        model = build(name, 2).train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        output = model(WAVEFORM_BS, attention_mask=MASK_BS, frame_count=FRAMES_B)
        (output.logits.pow(2).mean() + output.class_logits.pow(2).mean()).backward()
        gradients.append({name: weight.grad for name, weight in model.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, rtol=1e-5, atol=1e-8)
