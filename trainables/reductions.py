"""The studied thing: how the losses of utterances become the loss of an update.

**L = (1/Z) sum_i w_i l_i** over the N utterances of a whole update, whatever micro-batches and workers it is cut into.
l_i is the CTC negative log-likelihood of utterance i in nats. A reduction is one pure function `update -> (w, Z)`; add
one by writing it and putting it into `_FAMILY`. It sees only what is known before the first forward, so Z needs no
communication. numpy only: plans and analyses read this module without torch.

N utterances of an update.
"""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from trainables.errors import DataError


@dataclass(frozen=True)
class Update:
    """The utterances of one update, as far as they are known before the forward.

    Attributes:
        label_count_N: labels (characters) per utterance, U_i.
        frame_count_N: frames per utterance, T_i, without padding.
    """

    label_count_N: np.ndarray
    frame_count_N: np.ndarray

    def __len__(self) -> int:
        return len(self.label_count_N)


Weighting = tuple[np.ndarray, float]
"""(weight_N, Z): multiply each loss by its weight, add over all workers, divide once by Z."""


def sum(update: Update) -> Weighting:
    """Add the losses: w = 1, Z = 1. Long and hard utterances dominate, and the step grows with the update.

    Reference: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891; default of transformers' wav2vec2.
    """
    return np.ones(len(update)), 1.0


def utterance_mean(update: Update) -> Weighting:
    """Average over utterances: w = 1, Z = N. Same direction as `sum`, whatever the size of the update.

    Reference: fairseq's `sentence_avg`, ESPnet, NeMo's `mean_batch`.
    """
    return np.ones(len(update)), float(len(update))


def token_mean(update: Update) -> Weighting:
    """Average over labels: w = 1, Z = sum of U. Same direction as `sum`; the usual choice of language models.

    Reference: fairseq's CTC criterion with `sentence_avg` off.
    """
    return np.ones(len(update)), float(np.maximum(update.label_count_N, 1).sum())


def mean(update: Update) -> Weighting:
    """Average each utterance over its labels, then over utterances: w = 1 / max(U, 1), Z = N.

    A label of a short utterance weighs more: single words gain over sentences.

    Reference: `torch.nn.functional.ctc_loss(reduction="mean")`, on the whole update.
    """
    return 1.0 / np.maximum(update.label_count_N, 1), float(len(update))


_FAMILY: tuple[Callable[..., Weighting], ...] = (sum, mean, utterance_mean, token_mean)
REDUCTIONS: Mapping[str, Callable[..., Weighting]] = {function.__name__: function for function in _FAMILY}

_SPELLING = re.compile(r"^(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<arguments>.*)\))?$")


@dataclass(frozen=True)
class Reduction:
    """A member of the family with its parameters, for example `power(alpha=0.25)`."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, update: Update) -> Weighting:
        """Weigh an update."""
        return REDUCTIONS[self.name](update, **self.parameters)

    def __str__(self) -> str:
        arguments = ", ".join(f"{key}={value:g}" for key, value in self.parameters.items())
        return f"{self.name}({arguments})" if arguments else self.name


def parse(text: str) -> Reduction:
    """Read a reduction as it is written in configurations, on the command line and in tables.

    Args:
        text: a name, with `(parameter=number, ...)` behind it where it has parameters.

    Raises:
        DataError: unknown name or parameter, a value that is no number, a parameter left out.
    """
    match = _SPELLING.match(text.strip())
    name = match["name"] if match else text.strip()
    if match is None or name not in REDUCTIONS:
        near = difflib.get_close_matches(name, REDUCTIONS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(f"unknown reduction {text!r}{hint}; choose one of: {', '.join(REDUCTIONS)}")
    allowed = list(inspect.signature(REDUCTIONS[name]).parameters.values())[1:]
    parameters: dict[str, float] = {}
    for argument in filter(None, (part.strip() for part in (match["arguments"] or "").split(","))):
        key, _, value = (part.strip() for part in argument.partition("="))
        if key not in {parameter.name for parameter in allowed}:
            takes = ", ".join(parameter.name for parameter in allowed) or "no parameters"
            raise DataError(f"reduction {text!r}: unknown parameter {key!r}; {name} takes {takes}")
        try:
            parameters[key] = float(value)
        except ValueError as error:
            raise DataError(f"reduction {text!r}: {key} must be a number, got {value!r}") from error
    for parameter in allowed:
        if parameter.name not in parameters:
            if parameter.default is inspect.Parameter.empty:
                raise DataError(f"reduction {text!r} needs {parameter.name}, as in {name}({parameter.name}=0.5)")
            parameters[parameter.name] = float(parameter.default)
    return Reduction(name, {parameter.name: parameters[parameter.name] for parameter in allowed})
