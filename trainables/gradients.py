"""What is measured of gradients and steps while training: norms by group, running norm, relative change of the weights.

B utterances, T frames, V vocabulary, H hidden size, G groups.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from trainables import distributed


@dataclass
class StepMatcher:
    """Rescales the gradient of each update so that its running norm is the target, for every reduction the same.

    Tests the weighting apart from the size of the step, which under clipping and Adam's epsilon differs between
    reductions that point the same way. The running norm is an exponential mean with bias correction.

    Attributes:
        target: running norm after rescaling; half of max_grad_norm, so that clipping is rare.
        decay: of the running norm.
        mean: running norm before bias correction.
        updates: updates seen.
    """

    target: float
    decay: float = 0.98
    mean: float = 0.0
    updates: int = 0

    def rescale(self, parameters: Iterable[nn.Parameter]) -> float:
        """Rescale the gradients in place.

        Returns:
            their norm before, for the history; an infinite or undefined one changes nothing.
        """
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = float(torch.nn.utils.get_total_norm(gradients))
        if math.isfinite(norm) and norm > 0:
            self.updates += 1
            self.mean = self.decay * self.mean + (1 - self.decay) * norm
            running = self.mean / (1 - self.decay**self.updates)
            for gradient in gradients:
                gradient.mul_(self.target / running)
        return norm


class GroupGradients:
    """The gradient of each group's mean loss at the output layer, exact, from one more backward to the logits.

    The gradient at the output layer stands for that at all weights: for single utterances their norms correlate by more
    than 0.99 (measured on a small wav2vec2; the audit can check it on any model).

    Args:
        model: with the output layer `lm_head`.
        groups: names of the groups.
    """

    def __init__(self, model: Any, groups: Sequence[str]) -> None:
        self.head, self.count = model.lm_head, len(groups)
        self._hidden_BTH: torch.Tensor | None = None
        self._begin()
        self.head.register_forward_pre_hook(self._keep_hidden)

    def _begin(self) -> None:
        weight_VH = self.head.weight
        self._sum_GVH = torch.zeros(self.count, *weight_VH.shape, device=weight_VH.device)
        self._bias_GV = torch.zeros(self.count, weight_VH.shape[0], device=weight_VH.device)

    def _keep_hidden(self, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        self._hidden_BTH = inputs[0].detach() if module.training else None

    def add(self, loss_B: torch.Tensor, logits_BTV: torch.Tensor, group_B: np.ndarray) -> None:
        """Add the utterances of a micro-batch; called between its forward and its backward."""
        if self._hidden_BTH is None:
            raise RuntimeError(
                "no hidden states: the model did not run in training mode before its gradients were asked"
            )
        (gradient_BTV,) = torch.autograd.grad(loss_B.sum(), logits_BTV, retain_graph=True)
        by_utterance_BVH = torch.einsum("btv,bth->bvh", gradient_BTV.float(), self._hidden_BTH.float())
        groups = torch.as_tensor(group_B, device=by_utterance_BVH.device)
        self._sum_GVH.index_add_(0, groups, by_utterance_BVH)
        self._bias_GV.index_add_(0, groups, gradient_BTV.float().sum(dim=1))

    def norms(self, utterances_G: np.ndarray) -> np.ndarray:
        """Return the norm of the gradient of each group's mean loss over the whole update, and begin anew.

        Args:
            utterances_G: utterances of each group in the update, over all workers.
        """
        distributed.add_in_place(self._sum_GVH)
        distributed.add_in_place(self._bias_GV)
        square_G = self._sum_GVH.double().pow(2).sum(dim=(1, 2)) + self._bias_GV.double().pow(2).sum(dim=1)
        self._begin()
        return square_G.sqrt().cpu().numpy() / np.maximum(utterances_G, 1)


def copy_weights(model: nn.Module) -> list[torch.Tensor]:
    """Copy the trained weights before an optimizer step."""
    return [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]


def relative_change(model: nn.Module, before: Sequence[torch.Tensor]) -> float:
    """Return the norm of the last step over the norm of the weights before it."""
    now = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    step = torch.nn.utils.get_total_norm([one - other for one, other in zip(now, before)])
    return float(step / torch.nn.utils.get_total_norm(before))
