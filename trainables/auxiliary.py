"""`AuxiliaryForCTC`: a wav2vec2-CTC with a classifier of utterances on one of its layers.

Dimension key: B utterances, T frames, H hidden size, P size of the classifier, C classes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import Wav2Vec2Config, Wav2Vec2Model, Wav2Vec2PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, strength: float) -> torch.Tensor:  # type: ignore[override]
        ctx.strength = strength
        return values.view_as(values)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:  # type: ignore[override]
        return gradient * -ctx.strength, None


def reverse_gradient(values: torch.Tensor, strength: float) -> torch.Tensor:
    """Return the values; the gradient that comes back is multiplied by -strength.

    Reference: Ganin et al. 2016, Domain-Adversarial Training of Neural Networks, https://arxiv.org/abs/1505.07818.
    """
    return _Reversal.apply(values, strength)  # type: ignore[no-any-return]


class Classifier(nn.Module):
    """Linear, mean over the true frames, linear.

    Args:
        size: of what it sees.
        inner: P.
        classes: C.
    """

    def __init__(self, size: int, inner: int, classes: int) -> None:
        super().__init__()
        self.project, self.output = nn.Linear(size, inner), nn.Linear(inner, classes)

    def forward(self, hidden_BTH: torch.Tensor, frame_count_B: torch.Tensor) -> torch.Tensor:
        """Return class_logits_BC.

        Args:
            hidden_BTH: output of a layer; what lies behind an utterance's frames does not count.
            frame_count_B: frames of each utterance, at least 1.
        """
        projected_BTP = self.project(hidden_BTH)
        padding_BT = torch.arange(hidden_BTH.shape[1], device=hidden_BTH.device) >= frame_count_B[:, None]
        sum_BP = projected_BTP.masked_fill(padding_BT[:, :, None], 0.0).sum(dim=1)
        return self.output(sum_BP / frame_count_B[:, None].to(sum_BP))


@dataclass
class AuxiliaryOutput(CausalLMOutput):
    """Logits of the labels and, where frame counts were given, `class_logits` of shape (B, C)."""

    class_logits: torch.Tensor | None = None


class AuxiliaryForCTC(Wav2Vec2PreTrainedModel):
    """A wav2vec2-CTC with a classifier; call it without labels: the losses are computed elsewhere.

    Its `config` names the classes (`lossgrid_classes`, in the order of their numbers) and what the classifier sees
    (`lossgrid_location`): "extractor", the features before their projection; "encoder", the output of the last
    transformer layer; a number from 1, the output of that layer; "final", what the output layer sees.

    Attributes:
        reversal: strength of the gradient reversal before the classifier; None: none. The Trainer sets it.
    """

    def __init__(self, config: Wav2Vec2Config) -> None:
        super().__init__(config)
        own: Any = config
        hidden_size = own.output_hidden_size if config.add_adapter else config.hidden_size
        sizes = {"extractor": config.conv_dim[-1], "final": hidden_size}
        self.wav2vec2 = Wav2Vec2Model(config)
        self.dropout = nn.Dropout(config.final_dropout)
        self.lm_head = nn.Linear(hidden_size, own.vocab_size)
        self.classifier = Classifier(
            sizes.get(own.lossgrid_location, config.hidden_size),
            config.classifier_proj_size,
            len(own.lossgrid_classes),
        )
        self.reversal: float | None = None
        self._seen_BTH: torch.Tensor | None = None
        if own.lossgrid_location not in sizes:
            self._watch(config.num_hidden_layers if own.lossgrid_location == "encoder" else own.lossgrid_location)
        self.post_init()

    def _watch(self, layer: int) -> None:
        """Keep the output of a transformer layer. LayerDrop may leave it out: then what it would have been given."""
        encoder: Any = self.wav2vec2.encoder
        for module in (encoder.dropout, *encoder.layers[:layer]):
            module.register_forward_hook(self._keep)

    def _keep(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self._seen_BTH = output[0] if isinstance(output, tuple) else output

    def forward(
        self,
        input_values: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        mask_time_indices: torch.Tensor | None = None,
        frame_count: torch.Tensor | None = None,
        **_: Any,
    ) -> AuxiliaryOutput:
        """Write text and tell classes.

        Args:
            input_values: waveform_BS.
            attention_mask: 1 for samples, 0 for padding; for models that were trained with one.
            mask_time_indices: masked_BT of SpecAugment.
            frame_count: frames of each utterance without padding; None: classes are not asked for.
        """
        output = self.wav2vec2(input_values, attention_mask=attention_mask, mask_time_indices=mask_time_indices)
        hidden_BTH = self.dropout(output.last_hidden_state)
        seen_BTH, self._seen_BTH = self._seen_BTH, None
        class_logits_BC = None
        if frame_count is not None:
            location = self.config.lossgrid_location
            seen_BTH = {"extractor": output.extract_features, "final": hidden_BTH}.get(location, seen_BTH)
            if self.reversal is not None:
                seen_BTH = reverse_gradient(seen_BTH, self.reversal)
            class_logits_BC = self.classifier(seen_BTH, frame_count)
        return AuxiliaryOutput(logits=self.lm_head(hidden_BTH), class_logits=class_logits_BC)
