"""The gradient of each utterance's loss at the output layer: exact, from one backward to the logits.

The logits are z = W h + b, so the gradient at (W, b) is dz^T (h, 1), summed over frames: it needs the hidden states of
the forward and dz alone, and no backward through the encoder.

B utterances, T frames, V vocabulary, H hidden size (1 more where the layer has a bias), Q = V H.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import nn

from trainables import ctc
from trainables.gradients import output_layers


@dataclass(frozen=True)
class Measured:
    """What one forward showed of its utterances.

    Attributes:
        loss_B: nats, float32; infinite or undefined where there is no alignment.
        gradient_BQ: gradient at the output layer that served the utterance; anything where the loss is not finite.
        head_B: number of that layer.
        logit_norm_B: norm of the gradient at the logits.
    """

    loss_B: torch.Tensor
    gradient_BQ: torch.Tensor
    head_B: torch.Tensor
    logit_norm_B: torch.Tensor


class HeadGradients:
    """Watches the output layers of a model in a `with` block; the model itself is not changed.

    Args:
        model: a CTC model; one with a layer per task routes each utterance by `task` and keeps the order of those of a
            task.
    """

    def __init__(self, model: nn.Module) -> None:
        self.layers = output_layers(model)
        self._hidden: dict[int, torch.Tensor] = {}

    @property
    def layer_size(self) -> int:
        """Q, the weights of one output layer."""
        return sum(weight.numel() for weight in self.layers[0].parameters())

    @property
    def size(self) -> int:
        """Weights of all output layers."""
        return self.layer_size * len(self.layers)

    def __enter__(self) -> HeadGradients:
        self._hooks = [
            layer.register_forward_pre_hook(functools.partial(self._keep, number))
            for number, layer in enumerate(self.layers)
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()
        self._hidden.clear()

    def _keep(self, number: int, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._hidden[number] = inputs[0].detach()

    def measure(self, logits_BTV: torch.Tensor, batch: ctc.MicroBatch, blank: int) -> Measured:
        """Measure the utterances of the last forward.

        Args:
            logits_BTV: what it gave.
            batch: what it was given.
            blank: label id of the CTC blank.
        """
        with torch.enable_grad():
            leaf_BTV = logits_BTV.detach().float().requires_grad_()
            loss_B = ctc.losses(leaf_BTV, batch, blank)
            (dz_BTV,) = torch.autograd.grad(loss_B.sum(), leaf_BTV)
        hidden_BTH, head_B = self._take_hidden(batch)
        if self.layers[0].bias is not None:
            hidden_BTH = torch.cat([hidden_BTH, torch.ones_like(hidden_BTH[..., :1])], dim=-1)
        gradient_BVH = dz_BTV.transpose(1, 2) @ hidden_BTH
        return Measured(loss_B.detach(), gradient_BVH.flatten(1), head_B, dz_BTV.flatten(1).norm(dim=1))

    def _take_hidden(self, batch: ctc.MicroBatch) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what the output layers saw, in the order of the utterances, and which layer saw each."""
        kept, self._hidden = self._hidden, {}
        first = next(iter(kept.values()))
        head_B = torch.zeros(len(batch.position_B), dtype=torch.long)
        if len(self.layers) > 1:
            head_B = batch.inputs["task"].cpu()
        hidden_BTH = torch.empty(len(head_B), *first.shape[1:], device=first.device)
        for number, hidden in kept.items():
            hidden_BTH[(head_B == number).to(first.device)] = hidden.float()
        return hidden_BTH, head_B
