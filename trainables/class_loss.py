"""The loss of the auxiliary classifier, normalised over the whole update as the CTC loss is.

L = w_ctc L_reduction + w_class (1/N) sum_i a_c(i) CE_i over the N utterances of the update that have a class, with
a_c = N_train / (C n_c): every class has the same weight over the training set.

B utterances of a micro-batch, N of an update, C classes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from trainables.errors import DataError

EVEN = (0.5, 0.5)
SCHEDULES = ("constant", "dann")


@dataclass(frozen=True)
class ClassLoss:
    """How the classifier is trained.

    Attributes:
        weight_C: a_c of each class.
        ctc_weight: w_ctc.
        class_weight: w_class.
        reversal_lambda: strength of the gradient reversal before the classifier; None: the encoder helps it.
        schedule: "constant", or "dann": the strength grows from 0 to lambda with the progress of training.
    """

    weight_C: tuple[float, ...]
    ctc_weight: float
    class_weight: float
    reversal_lambda: float | None = None
    schedule: str = "constant"

    @classmethod
    def of(cls, settings: Mapping[str, Any], classes: Sequence[str], training_code: Sequence[int]) -> ClassLoss:
        """Read [Model Configuration].

        Args:
            settings: [Model Configuration] of a trial.
            classes: their names.
            training_code: class of each training utterance, -1 where it has none.

        Raises:
            DataError: a schedule that there is not, or a class without training utterances.
        """
        counts_C = np.bincount([code for code in training_code if code >= 0], minlength=len(classes))
        if not counts_C.all():
            empty = [name for name, count in zip(classes, counts_C) if not count]
            raise DataError(
                f"the classes {', '.join(empty)} have no training utterance; choose another column in classes"
            )
        ctc_weight, class_weight = settings.get("task_weight") or EVEN
        schedule = settings.get("gradient_reversal_schedule") or "constant"
        if schedule not in SCHEDULES:
            raise DataError(f"gradient_reversal_schedule = {schedule!r}: choose one of {', '.join(SCHEDULES)}")
        given = settings.get("gradient_reversal_lambda")
        return cls(
            weight_C=tuple((counts_C.sum() / (len(classes) * counts_C)).tolist()),
            ctc_weight=float(ctc_weight),
            class_weight=float(class_weight),
            reversal_lambda=(1.0 if given is None else float(given)) if settings.get("gradient_reversal") else None,
            schedule=schedule,
        )

    def reversal(self, progress: float) -> float | None:
        """Return the strength of the gradient reversal; None: there is none.

        Args:
            progress: of training, in [0, 1].

        Reference: lambda_p = 2 / (1 + exp(-10 p)) - 1 of Ganin et al. 2016, https://arxiv.org/abs/1505.07818.
        """
        if self.reversal_lambda is None or self.schedule == "constant":
            return self.reversal_lambda
        return self.reversal_lambda * (2 / (1 + math.exp(-10 * progress)) - 1)

    def share(self, class_logits_BC: torch.Tensor, class_B: np.ndarray, utterances: int) -> tuple[torch.Tensor, int]:
        """Compute what a micro-batch adds to the loss of the update, before w_class.

        Args:
            class_logits_BC: output of the classifier, in any precision.
            class_B: class of each utterance; -1: it does not count.
            utterances: N, those of the whole update that have a class.

        Returns:
            a scalar, and how many classes the classifier got right.
        """
        code_B = torch.as_tensor(class_B, device=class_logits_BC.device)
        logits_BC, code_B = class_logits_BC.float()[code_B >= 0], code_B[code_B >= 0]
        weight_C = torch.tensor(self.weight_C, device=logits_BC.device)
        entropy_B = functional.cross_entropy(logits_BC, code_B, reduction="none")
        correct = int((logits_BC.argmax(dim=-1) == code_B).sum())
        return (weight_C[code_B] * entropy_B).sum() / max(1, utterances), correct
