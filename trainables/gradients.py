"""What is measured of gradients and steps while training: norms by group, running norm, relative change of the weights.

B utterances, T frames, V vocabulary, H hidden size, G groups, K output layers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
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


def output_layers(model: Any) -> tuple[nn.Linear, ...]:
    """Return the layers that write labels: one, or in the order of their numbers one for each task."""
    return tuple(model.lm_heads) if hasattr(model, "lm_heads") else (model.lm_head,)


class GroupGradients:
    """The gradient of each group's mean loss at the output layers, exact, from one more backward to the logits.

    The gradient at the output layers stands for that at all weights: for single utterances their norms correlate by more
    than 0.99 (measured on a small wav2vec2; the audit can check it on any model). Several output layers, one for each
    task, are further weights: their squared norms add up.

    Args:
        model: with the output layer `lm_head`, or several, `lm_heads`.
        groups: names of the groups.
    """

    def __init__(self, model: Any, groups: Sequence[str]) -> None:
        self.heads, self.count = output_layers(model), len(groups)
        self._hidden: dict[int, torch.Tensor] = {}
        self.begin()
        for number, head in enumerate(self.heads):
            head.register_forward_pre_hook(partial(self._keep_hidden, number))

    def begin(self) -> None:
        """Start an update with no gradient of any group."""
        self._hidden.clear()
        weight_VH = self.heads[0].weight
        shape, device = (len(self.heads), self.count, *weight_VH.shape), weight_VH.device
        self._sum_KGVH = torch.zeros(shape, device=device)
        self._bias_KGV = torch.zeros(shape[:3], device=device)

    def _keep_hidden(self, number: int, module: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        if module.training:
            self._hidden[number] = inputs[0].detach()

    def add(
        self, loss_B: torch.Tensor, logits_BTV: torch.Tensor, group_B: np.ndarray, task_B: torch.Tensor | None = None
    ) -> None:
        """Add the utterances of a micro-batch; called between its forward and its backward.

        Args:
            loss_B: its losses.
            logits_BTV: what the model gave.
            group_B: group of each utterance; one below 0 is left out.
            task_B: number of the output layer that served each utterance; None: the only one did.
        """
        if not self._hidden:
            raise RuntimeError(
                "no hidden states: the model did not run in training mode before its gradients were asked"
            )
        (gradient_BTV,) = torch.autograd.grad(loss_B.sum(), logits_BTV, retain_graph=True)
        group = torch.as_tensor(group_B, device=gradient_BTV.device)
        for number, hidden_BTH in self._hidden.items():
            served = torch.ones_like(group, dtype=torch.bool) if task_B is None else (task_B == number).to(group.device)
            counts = group[served] >= 0
            row_gradient_BTV, rows = gradient_BTV[served][counts].float(), group[served][counts]
            by_utterance_BVH = torch.einsum("btv,bth->bvh", row_gradient_BTV, hidden_BTH[counts].float())
            self._sum_KGVH[number].index_add_(0, rows, by_utterance_BVH)
            self._bias_KGV[number].index_add_(0, rows, row_gradient_BTV.sum(dim=1))
        self._hidden = {}

    def norms(self, utterances_G: np.ndarray) -> np.ndarray:
        """Return the norm of the gradient of each group's mean loss over the whole update, and begin anew.

        Args:
            utterances_G: utterances of each group in the update, over all workers.
        """
        distributed.add_in_place(self._sum_KGVH)
        distributed.add_in_place(self._bias_KGV)
        square_G = self._sum_KGVH.double().pow(2).sum(dim=(0, 2, 3)) + self._bias_KGV.double().pow(2).sum(dim=(0, 2))
        self.begin()
        return square_G.sqrt().cpu().numpy() / np.maximum(utterances_G, 1)


def copy_weights(model: nn.Module) -> list[torch.Tensor]:
    """Copy the trained weights before an optimizer step."""
    return [parameter.detach().clone() for parameter in model.parameters() if parameter.requires_grad]


def relative_change(model: nn.Module, before: Sequence[torch.Tensor]) -> float:
    """Return the norm of the last step over the norm of the weights before it."""
    now = [parameter.detach() for parameter in model.parameters() if parameter.requires_grad]
    step = torch.nn.utils.get_total_norm([one - other for one, other in zip(now, before)])
    return float(step / torch.nn.utils.get_total_norm(before))
