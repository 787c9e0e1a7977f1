"""Per-utterance CTC losses, outside the model, in float32 and with true frame lengths.

B utterances of a micro-batch, S samples, T frames, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional
from transformers import Wav2Vec2FeatureExtractor, Wav2Vec2PreTrainedModel


@dataclass(frozen=True)
class MicroBatch:
    """What one forward sees.

    Attributes:
        position_B: places of its utterances in the update (or in the evaluated split).
        inputs: keyword arguments of the model: input_values_BS; attention_mask_BS for models trained with one; task_B or
            frame_count_B for models that ask for them; mask_time_indices_BT where there is SpecAugment.
        label_ids: labels of all its utterances, one after the other.
        label_count_B: labels of each.
        frame_count_B: frames of each, without padding.
    """

    position_B: list[int]
    inputs: dict[str, torch.Tensor]
    label_ids: torch.Tensor
    label_count_B: torch.Tensor
    frame_count_B: torch.Tensor

    @property
    def frames_when_padded(self) -> int:
        """Frames that the model gives for the padded batch: those of its longest utterance."""
        return int(self.frame_count_B.max())


def assemble(
    position_B: Sequence[int],
    samples_B: Sequence[np.ndarray],
    labels_B: Sequence[Sequence[int]],
    frame_count_B: Sequence[int],
    features: Wav2Vec2FeatureExtractor,
) -> MicroBatch:
    """Put utterances into one padded batch.

    Args:
        position_B: their places in the update.
        samples_B: 16 kHz mono int16 audio of each.
        labels_B: label ids of each.
        frame_count_B: frames of each.
        features: decides on normalisation (zero mean, unit variance of each utterance, without its padding) and on the
            attention mask.
    """
    waveforms = [samples.astype(np.float32) / 32_768.0 for samples in samples_B]
    # With its mask the extractor leaves the padding out of mean and variance; a model without one is not given it. So each
    # utterance is what stock preprocessing makes of it, alone, before the collator pads.
    batch = features(
        waveforms, sampling_rate=features.sampling_rate, padding=True, return_attention_mask=True, return_tensors="pt"
    )
    if not features.return_attention_mask:
        del batch["attention_mask"]
    return MicroBatch(
        position_B=list(position_B),
        inputs={name: batch[name] for name in ("input_values", "attention_mask") if name in batch},
        label_ids=torch.tensor([label for labels in labels_B for label in labels], dtype=torch.long),
        label_count_B=torch.tensor([len(labels) for labels in labels_B], dtype=torch.long),
        frame_count_B=torch.tensor(list(frame_count_B), dtype=torch.long),
    )


def halves(batch: MicroBatch) -> list[MicroBatch]:
    """Cut a micro-batch of two or more utterances in two; the padding stays, so that the model sees the same."""
    middle, labels = len(batch.position_B) // 2, int(batch.label_count_B[: len(batch.position_B) // 2].sum())
    return [
        MicroBatch(
            position_B=batch.position_B[part],
            inputs={name: tensor[part] for name, tensor in batch.inputs.items()},
            label_ids=label_ids,
            label_count_B=batch.label_count_B[part],
            frame_count_B=batch.frame_count_B[part],
        )
        for part, label_ids in (
            (slice(None, middle), batch.label_ids[:labels]),
            (slice(middle, None), batch.label_ids[labels:]),
        )
    ]


def losses(logits_BTV: torch.Tensor, batch: MicroBatch, blank: int, zero_infinity: bool = False) -> torch.Tensor:
    """Compute the CTC negative log-likelihood of each utterance.

    cuDNN's kernel is switched off: it wants every utterance to be as long as the padded batch.

    Args:
        logits_BTV: output of the model, in any precision; the loss is computed in float32.
        batch: labels and true lengths.
        blank: label id of the CTC blank.
        zero_infinity: give 0 with gradient 0 in place of an infinite loss.

    Returns:
        loss_B in nats, float32, unreduced.

    Reference: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891
    """
    log_probabilities_TBV = functional.log_softmax(logits_BTV.float(), dim=-1).transpose(0, 1)
    # The backward of CTC on CUDA has no deterministic form and refuses to run under full_determinism.
    on_cpu = torch.are_deterministic_algorithms_enabled() and logits_BTV.is_cuda
    device = torch.device("cpu") if on_cpu else logits_BTV.device
    with torch.backends.cudnn.flags(enabled=False):
        loss_B = functional.ctc_loss(
            log_probabilities_TBV.to(device),
            batch.label_ids.to(device),
            batch.frame_count_B.to(device),
            batch.label_count_B.to(device),
            blank=blank,
            reduction="none",
            zero_infinity=zero_infinity,
        )
    return loss_B.to(logits_BTV.device)


def finite_losses(
    logits_BTV: torch.Tensor, batch: MicroBatch, blank: int, *, zero_infinity: bool
) -> tuple[torch.Tensor, int]:
    """Compute the losses of a micro-batch; infinite ones become 0, and are counted, where that is asked for.

    Returns:
        loss_B in nats, and how many were infinite.
    """
    loss_B = losses(logits_BTV, batch, blank)
    infinite = int(torch.isinf(loss_B).sum()) if zero_infinity else 0
    return (losses(logits_BTV, batch, blank, zero_infinity=True) if infinite else loss_B), infinite


def frame_counts(model: Wav2Vec2PreTrainedModel, sample_counts: Sequence[int]) -> list[int]:
    """Count the frames that a model gives for so many samples, as the model itself does."""
    lengths = model._get_feat_extract_output_lengths(torch.tensor(list(sample_counts), dtype=torch.long))  # type: ignore[arg-type]
    return torch.as_tensor(lengths).tolist()
