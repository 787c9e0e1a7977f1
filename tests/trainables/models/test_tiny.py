"""The tiny model keeps its promises: frames, size, refusals, independence from padding, and it learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import Wav2Vec2ForCTC

from trainables.errors import DataError
from trainables.models.tiny import build, start
from trainables.vocabulary import Vocabulary

VOCABULARY = Vocabulary(("<pad>", "<unk>", "|", *"ABCDEFGHIJKLMNOPQRSTUVWXYZ'-"))


@pytest.fixture
def model() -> Wav2Vec2ForCTC:
    torch.manual_seed(1)
    return build(VOCABULARY, {})


def ctc_loss(logits_BTV: Tensor, target_BL: Tensor) -> Tensor:
    log_probs_TBV = logits_BTV.float().log_softmax(-1).transpose(0, 1)
    frame_length_B = torch.full((len(target_BL),), logits_BTV.shape[1])
    target_length_B = torch.full((len(target_BL),), target_BL.shape[1])
    return F.ctc_loss(log_probs_TBV, target_BL, frame_length_B, target_length_B, reduction="mean")


def test_one_second_gives_about_fifty_frames_of_the_whole_vocabulary(model: Wav2Vec2ForCTC) -> None:
    assert model(torch.randn(2, 16_000)).logits.shape == (2, 49, len(VOCABULARY))


@pytest.mark.parametrize("num_samples", [640, 3_760, 16_000, 51_337])
def test_one_more_frame_costs_320_samples(model: Wav2Vec2ForCTC, num_samples: int) -> None:
    frames = model(torch.randn(1, num_samples)).logits.shape[1]
    assert model(torch.randn(1, num_samples + 320)).logits.shape[1] == frames + 1


def test_the_model_has_between_0_3_and_1_2_million_weights(model: Wav2Vec2ForCTC) -> None:
    assert 300_000 <= sum(weight.numel() for weight in model.parameters()) <= 1_200_000


def test_equal_seeds_give_equal_weights_and_other_seeds_do_not() -> None:
    def head(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return build(VOCABULARY, {}).lm_head.weight

    assert torch.equal(head(1), head(1))
    assert not torch.equal(head(1), head(2))


def test_logits_do_not_depend_on_padding_and_batch_mates_even_in_training(model: Wav2Vec2ForCTC) -> None:
    model.train()
    short_1S, long_1S = torch.randn(1, 8_000), torch.randn(1, 20_000)
    alone_1TV = model(short_1S, attention_mask=torch.ones_like(short_1S, dtype=torch.long)).logits
    batch_BS = torch.cat([F.pad(short_1S, (0, 12_000)), long_1S])
    mask_BS = torch.ones_like(batch_BS, dtype=torch.long)
    mask_BS[0, 8_000:] = 0
    together_BTV = model(batch_BS, attention_mask=mask_BS).logits
    torch.testing.assert_close(together_BTV[:1, : alone_1TV.shape[1]], alone_1TV, rtol=1e-4, atol=1e-4)


def test_every_weight_that_the_loss_can_reach_gets_a_gradient(model: Wav2Vec2ForCTC) -> None:
    model.train()
    ctc_loss(model(torch.randn(2, 8_000)).logits, torch.randint(5, 30, (2, 4))).backward()
    without = {name for name, weight in model.named_parameters() if weight.grad is None}
    assert without <= {"wav2vec2.masked_spec_embed"}


def test_overrides_win_over_the_defaults() -> None:
    model = build(VOCABULARY, {"num_hidden_layers": 2, "hidden_dropout": 0.1})
    assert (model.config.num_hidden_layers, model.config.hidden_dropout, model.config.pad_token_id) == (2, 0.1, 0)


@pytest.mark.parametrize("conv_dim", [[30, 40], [2, 40]])
def test_filter_counts_that_four_phases_do_not_divide_still_build(conv_dim: list[int]) -> None:
    model = build(VOCABULARY, {"conv_dim": conv_dim})
    assert model(torch.randn(1, 16_000)).logits.isfinite().all()


def test_an_unknown_override_is_refused_by_name_with_the_nearest_field() -> None:
    with pytest.raises(ValueError, match=r"'hiden_size'.*'hidden_size'"):
        build(VOCABULARY, {"hiden_size": 64})


@pytest.mark.parametrize("name", ["vocab_size", "pad_token_id"])
def test_what_the_vocabulary_decides_cannot_be_overridden(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}'.*vocabulary"):
        build(VOCABULARY, {name: 7})


def test_fifteen_updates_on_four_clips_halve_the_loss(model: Wav2Vec2ForCTC) -> None:
    model.train()
    waveform_BS, target_BL = torch.randn(4, 16_000), torch.randint(5, 30, (4, 5))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(15):
        loss = ctc_loss(model(waveform_BS).logits, target_BL)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2


def test_the_frames_are_known_before_the_model_is_built(model: Wav2Vec2ForCTC) -> None:
    for samples in (640, 641, 16_000, 51_337):
        frames = samples
        for kernel, stride in start(None).convolutions():
            frames = (frames - kernel) // stride + 1
        assert model(torch.randn(1, samples)).logits.shape[1] == frames


def test_a_checkpoint_cannot_be_named_for_a_model_that_starts_from_scratch() -> None:
    with pytest.raises(DataError, match="model_type = base"):
        start("facebook/wav2vec2-base")


def test_a_trained_tiny_can_be_loaded_and_another_checkpoint_cannot(model: Wav2Vec2ForCTC, tmp_path: Path) -> None:
    model.save_pretrained(tmp_path)
    (tmp_path / "vocab.json").write_text(VOCABULARY.as_json())
    assert start(str(tmp_path)).vocabulary() == VOCABULARY
    loaded = build(VOCABULARY, {}, str(tmp_path))
    assert all(torch.equal(tensor, model.state_dict()[name]) for name, tensor in loaded.state_dict().items())
    (tmp_path / "config.json").write_text('{"model_type": "wav2vec2"}')
    with pytest.raises(DataError, match="is no folder of one; set model_type = base"):
        start(str(tmp_path))
