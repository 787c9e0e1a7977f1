"""The studied thing: how the losses of utterances become the loss of an update.

**L = (1/Z) sum_i w_i l_i** over the N utterances of a whole update, whatever micro-batches and workers it is cut into.
l_i is the CTC negative log-likelihood of utterance i in nats, U_i its labels and T_i its frames (both taken as at
least 1), g its group. A reduction is one pure function `update -> (w, Z)`; add one by writing it and putting it into
the tuple of its kind. It sees only what is known before the first forward, so Z needs no communication. Four files hold
kinds that do more: `reduction_groups` weighs the groups of the training set, `reduction_loss` scales each loss by a factor of itself, `reduction_state` weighs by what earlier
updates showed, and `reduction_stock`, for replication, depends on how an update is cut.

Within one update `sum`, `utterance_mean`, `token_mean` and `frame_mean` point the same way: they differ by one number per
update. For `token_mean` and `frame_mean` it is another one in each, so that over many updates they weigh utterances
otherwise than `sum` does: an update of few labels (or frames) counts as much as one of many, and short utterances gain.

numpy only: plans and analyses read this module without torch. N utterances of an update, G groups of the training set.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from trainables import reduction_parameters
from trainables.errors import DataError
from trainables.reduction_groups import BY_GROUP, dataset_weighted
from trainables.reduction_loss import BY_LOSS
from trainables.reduction_parameters import Finite
from trainables.reduction_state import STATEFUL, Stateful
from trainables.reduction_stock import STOCK, stock_mean
from trainables.reduction_types import Observed, State, Update, Weighting

__all__ = ["LENGTH_ONLY", "REDUCTIONS", "Observed", "Reduction", "State", "Update", "Weighting", "parse"]


def sum(update: Update) -> Weighting:
    """Add the losses: w = 1, Z = 1. Long and hard utterances dominate, and the step grows with the update.

    Reference: Graves et al. 2006, https://doi.org/10.1145/1143844.1143891; default of transformers' wav2vec2.
    """
    return np.ones(len(update)), 1.0


def mean(update: Update) -> Weighting:
    """Average each utterance over its labels, then over utterances: w = 1 / U, Z = N.

    A label of a short utterance weighs more: single words gain over sentences.

    Reference: `torch.nn.functional.ctc_loss(reduction="mean")`, on the whole update.
    """
    return 1.0 / np.maximum(update.label_count_N, 1), float(len(update))


def utterance_mean(update: Update) -> Weighting:
    """Average over utterances: w = 1, Z = N. Same direction as `sum`, whatever the size of the update.

    Reference: fairseq's `sentence_avg`, ESPnet, NeMo's `mean_batch`.
    """
    return np.ones(len(update)), float(len(update))


def token_mean(update: Update) -> Weighting:
    """Average over labels: w = 1, Z = sum of U; the usual choice of language models.

    Same direction as `sum` within an update. Over updates, short transcripts gain: those that share an update with few
    labels weigh more. The smaller the update the more: with one utterance it is `mean`, from some hundred on it is `sum`.

    Reference: fairseq's CTC criterion with `sentence_avg` off.
    """
    return np.ones(len(update)), float(np.maximum(update.label_count_N, 1).sum())


def frame_mean(update: Update) -> Weighting:
    """Average over the frames of the update: w = 1, Z = sum of T.

    Same direction as `sum` within an update. Over updates, short recordings gain, as short transcripts do in `token_mean`;
    with one utterance per update it is `utterance_frame_mean`.

    Reference: icefall logs its CTC loss so, https://github.com/k2-fsa/icefall.
    """
    return np.ones(len(update)), float(np.maximum(update.frame_count_N, 1).sum())


def utterance_frame_mean(update: Update) -> Weighting:
    """Average each utterance over its frames, then over utterances: w = 1 / T, Z = N.

    Short recordings gain, however much is said in them; slow speech loses against fast speech.

    Reference: none known to us; `mean` with frames in place of labels.
    """
    return 1.0 / np.maximum(update.frame_count_N, 1), float(len(update))


def power(update: Update, *, alpha: Finite) -> Weighting:
    """Stand between utterance_mean (alpha = 0) and mean (alpha = 1): w = U^-alpha, Z = N.

    The larger alpha, the more short transcripts gain. `power(alpha=0.25)` brought the share of the loss nearest to the
    share of utterances for words beside sentences; `power(alpha=0.5)` is the square root of the length.

    Reference: length normalisation of beam search, https://arxiv.org/abs/1609.08144, used as a weight.
    """
    return np.maximum(update.label_count_N, 1).astype(float) ** -alpha, float(len(update))


# The family, by kind.
_BY_LENGTH = (sum, mean, utterance_mean, token_mean, frame_mean, utterance_frame_mean, power)
# Z follows from who shares the update: these weigh an utterance in company with others otherwise in each.
_BY_MATES = (token_mean, frame_mean)

REDUCTIONS: Mapping[str, Callable[..., Any]] = {
    **{function.__name__: function for function in (*_BY_LENGTH, *BY_GROUP, *BY_LOSS)},
    **STATEFUL,
    **{function.__name__: function for function in STOCK},
}
"""Every member by its name."""

LENGTH_ONLY: tuple[str, ...] = (
    *(function.__name__ for function in _BY_LENGTH if function is not power),
    "power(alpha=0.25)",
    "power(alpha=0.5)",
)
"""Spellings of those that need nothing but lengths: no groups, no state, no losses, no stock micro-batches."""

_SPELLING = re.compile(r"(?P<name>[A-Za-z_]\w*)\s*(?:\((?P<arguments>.*)\))?")


@dataclass(frozen=True)
class Reduction:
    """A member of the family with its parameters, for example `power(alpha=0.25)`."""

    name: str
    parameters: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, update: Update, state: State | None = None) -> Weighting:
        """Weigh an update.

        Args:
            update: the whole update, over all micro-batches and workers.
            state: what this reduction remembers; only where `is_stateful`.

        Returns:
            (weight_N, Z), to be multiplied by `rescale` where `depends_on_loss`.

        Raises:
            DataError: the groups do not fit the reduction.
            ValueError: a state, groups or stock micro-batches are needed and were not given.
        """
        self.check(update.groups)
        if self.depends_on_loss:
            return utterance_mean(update)
        if not self.is_stateful:
            return self._member(update, **self.parameters)
        if state is None or state.groups != tuple(update.groups):
            known = "none" if state is None else f"one of the groups {list(state.groups)}"
            raise ValueError(f"{self} needs a state of the groups {list(update.groups)}, got {known}")
        return self._stateful().weigh(update, state)

    def rescale(self, loss_N: np.ndarray, label_count_N: np.ndarray) -> np.ndarray:
        """Return the factor of each loss, in float64; no gradient flows through it. 1 unless `depends_on_loss`.

        Args:
            loss_N: losses in nats, of any part of an update.
            label_count_N: labels of the same utterances.
        """
        loss_N = np.asarray(loss_N, dtype=float)
        if not self.depends_on_loss:
            return np.ones_like(loss_N)
        return self._member(loss_N, np.asarray(label_count_N), **self.parameters)

    def check(self, groups: Sequence[str]) -> None:
        """Check that the reduction fits the groups of the training set; the preflight calls this.

        Raises:
            DataError: it needs groups and there are none, or the groups that it names are not those.
        """
        if self.needs_groups and not groups:
            raise DataError(f"reduction {str(self)!r} weighs groups, and the training set has none; name their column")
        if self._member is not dataset_weighted:
            return
        unnamed = [group for group in groups if group not in self.parameters]
        unknown = [group for group in self.parameters if group not in groups]
        if unnamed or unknown:
            example = Reduction(self.name, {group: self.parameters.get(group, 1.0) for group in groups})
            raise DataError(
                f"reduction {str(self)!r} must name the groups of the training set; left out: {unnamed}, unknown: "
                f"{unknown}; write for example {example}"
            )

    def initial_state(self, groups: Sequence[str], training_count_G: np.ndarray) -> State:
        """Return what is remembered before the first update; an empty state unless `is_stateful`.

        Raises:
            DataError: the groups do not fit the reduction.
            ValueError: a group has no training utterance; nothing would ever be learnt of it.
        """
        self.check(groups)
        if len(training_count_G) != len(groups) or np.any(np.asarray(training_count_G) < 1):
            counts = np.asarray(training_count_G).tolist()
            raise ValueError(f"{self}: groups {list(groups)} have {counts} training utterances; at least 1 is needed")
        return self._stateful().initial(groups) if self.is_stateful else State()

    def next_state(self, state: State, observed: Observed) -> State:
        """Return what is remembered after an update that showed this; the same state unless `is_stateful`."""
        return self._stateful().step(state, observed) if self.is_stateful else state

    @property
    def depends_on_loss(self) -> bool:
        """Whether each loss is to be multiplied by `rescale`."""
        return self._member in BY_LOSS

    @property
    def is_stateful(self) -> bool:
        """Whether the weights follow from earlier updates."""
        return self.name in STATEFUL

    @property
    def depends_on_mates(self) -> bool:
        """Whether w / Z of an utterance, before any update was observed, follows from the others in an update of one size.

        `stock_mean` is not meant: dealt at random, any utterance is as likely to be in a smaller micro-batch as any other.
        """
        return self._stateful().weighs_by_mates if self.is_stateful else self._member in _BY_MATES

    @property
    def needs_groups(self) -> bool:
        """Whether the update must say to which group each utterance belongs."""
        return self.is_stateful or self._member in BY_GROUP

    @property
    def needs_gradient_norms(self) -> bool:
        """Whether `next_state` wants the gradient norm of each group: one backward per group."""
        return self.is_stateful and self._stateful().needs_gradient_norms

    @property
    def needs_chunks(self) -> bool:
        """Whether the update must say in which stock micro-batch each utterance would be."""
        return self._member is stock_mean

    @property
    def _member(self) -> Callable[..., Any]:
        return REDUCTIONS[self.name]

    def _stateful(self) -> Stateful:
        return STATEFUL[self.name](**self.parameters)

    def __str__(self) -> str:
        return reduction_parameters.write(self.name, self.parameters)


def parse(text: str) -> Reduction:
    """Read a reduction as it is written in configurations, on the command line and in tables.

    Args:
        text: a name, with `(parameter=number, ...)` behind it where it has parameters.

    Raises:
        DataError: unknown name or parameter, a value that is no number or out of range, a parameter left out.
    """
    match = _SPELLING.fullmatch(text.strip())
    name = match["name"] if match else text.strip()
    if match is None or name not in REDUCTIONS:
        near = difflib.get_close_matches(name, REDUCTIONS, n=1)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise DataError(f"unknown reduction {text!r}{hint}; choose one of: {', '.join(REDUCTIONS)}")
    takes = reduction_parameters.signature(REDUCTIONS[name])
    return Reduction(name, reduction_parameters.read(text.strip(), name, match["arguments"] or "", takes))
