"""Who speaks: the share of each class of utterances in the value and in the gradient of every reduction.

The audited utterances have the loss L = sum_i c_i l_i with c_i = w_i f_i / Z, on average over the updates that training may
put them in (`trainables.expected_weights`). Of the gradients only the sum of c_i g_i within each class is kept, so memory does
not grow with utterances; every share follows from the inner products of these sums. One direction, one sum.

N audited utterances, B of them at a time, R reductions, D directions, K classes of a column, P numbers of a gradient.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from trainables import distributed
from trainables.errors import DataError
from trainables.expected_weights import mean_weights
from trainables.reductions import REDUCTIONS, Reduction, Update, Weighting, parse
from trainables.tables import LENGTH

MISSING = "(none)"
"""Class of the utterances whose entry in a column is empty."""

_SAME_DIRECTION = 1e-12
_LARGEST_SUMS_BYTES = 4 * 2**30
_MOST_WAITING = 2**20  # numbers of gradients, per output layer: some tens of utterances or more
# Members without defaults need parameters; weights by group only the user can give.
_CHOSEN = {"power": ("power(alpha=0.25)", "power(alpha=0.5)"), "capped": ("capped(limit=3)",), "dataset_weighted": ()}


def presets(own: Sequence[str] = ()) -> tuple[Reduction, ...]:
    """Return every member of the family, then those of the study that are not among them.

    Args:
        own: spellings of the study's reductions.
    """
    family = [spelling for name in REDUCTIONS for spelling in _CHOSEN.get(name, (name,))]
    return tuple({str(reduction): reduction for reduction in map(parse, (*family, *own))}.values())


@dataclass(frozen=True)
class Classes:
    """The classes of one column.

    Attributes:
        column: its name.
        names: of the classes, in the order of the tables.
        code_N: class of each utterance, as a place in `names`.
    """

    column: str
    names: tuple[str, ...]
    code_N: np.ndarray

    @classmethod
    def of(cls, column: str, values_N: Sequence[Any]) -> Classes:
        """Take the classes of a manifest column, by name in alphabetical order."""
        text_N = [MISSING if value is None or value == "" else str(value) for value in values_N]
        names = tuple(sorted(set(text_N)))
        code = {name: place for place, name in enumerate(names)}
        return cls(column, names, np.array([code[text] for text in text_N], dtype=np.int64))

    @classmethod
    def of_lengths(cls, label_count_N: np.ndarray) -> Classes:
        """Cut utterances into quarters by their labels, shortest first; each bin is named for the labels it holds.

        Utterances of equally many labels stay together, so there may be fewer than four bins.
        """
        edges = np.unique(np.quantile(label_count_N, (0.25, 0.5, 0.75), method="lower"))
        used, code_N = np.unique(np.searchsorted(edges, label_count_N, side="left"), return_inverse=True)
        bins = [label_count_N[code_N == place] for place in range(len(used))]
        return cls(LENGTH, tuple(_range_name(int(one.min()), int(one.max())) for one in bins), code_N)

    def taken(self, places: Sequence[int]) -> Classes:
        """Return the same classes of some of the utterances."""
        return Classes(self.column, self.names, self.code_N[list(places)])


@dataclass(frozen=True)
class InTraining:
    """How training deals the audited utterances into updates.

    Attributes:
        population: utterances that share updates, described as one update; first the audited ones, in order.
        update_size: utterances of an update.
        rows: utterances of an epoch.
    """

    population: Update
    update_size: int
    rows: int


@dataclass(frozen=True)
class Weights:
    """What each reduction makes of the audited utterances before any loss is known.

    Attributes:
        reductions: in the order of the tables.
        direction_R: place of each reduction's direction.
        weight_DN: what w_i / Z is in proportion to along each direction, the largest 1; 0 for utterances that do not count.
        rescale_D: the reduction that multiplies by a factor of the loss; None: none does.
        together_RN: w_i / Z where all that count are one update.
        update_size: utterances of the updates that the directions are averaged over; None: of one update of all.
    """

    reductions: tuple[Reduction, ...]
    direction_R: np.ndarray
    weight_DN: np.ndarray
    rescale_D: tuple[Reduction | None, ...]
    together_RN: np.ndarray
    update_size: int | None = None

    @classmethod
    def of(
        cls, reductions: Sequence[Reduction], update: Update, counted_N: np.ndarray, dealt: InTraining | None = None
    ) -> Weights:
        """Weigh the utterances that count, every reduction with memory in its initial state.

        Args:
            reductions: any.
            update: the utterances that count, in order, described as one update.
            counted_N: which utterances these are, bool.
            dealt: how training deals them into updates; None: all are one update.

        Raises:
            DataError: the groups do not fit a reduction.
        """
        _, counts_G = update.require_groups()
        states = [reduction.initial_state(update.groups, counts_G) for reduction in reductions]
        together_RN = np.zeros((len(reductions), len(counted_N)))
        together_RN[:, counted_N] = [_over_z(one(update, state)) for one, state in zip(reductions, states)]
        weight_RN = together_RN
        if dealt is not None:
            # Whoever is dealt into a smaller stock micro-batch is so by chance: there is one size for all.
            even = replace(update, chunk_N=np.zeros(len(update), dtype=int))
            weight_RN = np.zeros_like(together_RN)
            weight_RN[:, counted_N] = [_over_z(one(even, state)) for one, state in zip(reductions, states)]
            by_mates = [place for place, one in enumerate(reductions) if one.depends_on_mates]
            of_mates = [reductions[place] for place in by_mates]
            mean_RM = mean_weights(of_mates, dealt.population, dealt.update_size, dealt.rows)
            for place, mean_M in zip(by_mates, mean_RM):
                weight_RN[place, counted_N] = mean_M[: len(update)]
        directions: list[np.ndarray] = []
        rescales: list[Reduction | None] = []
        direction_R = []
        for reduction, weight_N in zip(reductions, weight_RN):
            rescale = reduction if reduction.depends_on_loss else None
            place = _find(weight_N / weight_N.max(), rescale, directions, rescales)
            if place == len(directions):
                directions.append(weight_N / weight_N.max())
                rescales.append(rescale)
            direction_R.append(place)
        size = None if dealt is None else dealt.update_size
        return cls(tuple(reductions), np.array(direction_R), np.array(directions), tuple(rescales), together_RN, size)

    def taken(self, places: Sequence[int]) -> Weights:
        """Return the weights of some of the utterances, as they are among all."""
        chosen = list(places)
        return replace(self, weight_DN=self.weight_DN[:, chosen], together_RN=self.together_RN[:, chosen])

    def coefficients(self, places: Sequence[int], loss_B: np.ndarray, label_count_B: np.ndarray) -> np.ndarray:
        """Return c_DB, the factor of each loss along each direction, for finite losses in nats."""
        coefficient_DB = self.weight_DN[:, list(places)]
        for coefficient_B, reduction in zip(coefficient_DB, self.rescale_D):
            if reduction is not None:
                coefficient_B *= reduction.rescale(loss_B, label_count_B)
        return coefficient_DB

    def values(self, places: Sequence[int], loss_B: np.ndarray, label_count_B: np.ndarray) -> np.ndarray:
        """Return value_R, what these utterances add to each reduction of all as one update."""
        factor_RB = np.array([one.rescale(loss_B, label_count_B) for one in self.reductions])
        return (self.together_RN[:, list(places)] * factor_RB) @ loss_B


@dataclass
class ClassSums:
    """What is added up over the utterances of each class of each column, in float64.

    Attributes:
        classes: the columns.
        directions: D.
        reductions: R.
        size: P.
        device: where the gradients are; float64 is kept on the CPU where the device has none.
    """

    classes: Sequence[Classes]
    directions: int
    reductions: int
    size: int
    device: torch.device
    gradient_KDP: list[torch.Tensor] = field(init=False)
    plain_K: list[np.ndarray] = field(init=False)
    weighted_loss_KD: list[np.ndarray] = field(init=False)
    value_R: np.ndarray = field(init=False)
    _waiting: dict[int, list[tuple[np.ndarray, np.ndarray, torch.Tensor]]] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        """Begin at zero.

        Raises:
            DataError: the sums would not fit into memory.
        """
        counts = {one.column: len(one.names) for one in self.classes}
        needed = 8 * self.directions * self.size * sum(counts.values())
        if needed > _LARGEST_SUMS_BYTES:
            raise DataError(
                f"the audit of the columns {counts} (classes of each) would need {needed / 2**30:.1f} GiB, and may "
                f"take {_LARGEST_SUMS_BYTES / 2**30:.0f}; leave the column of most classes out of groups, or set audit = False"
            )
        home = torch.device("cpu") if self.device.type == "mps" else self.device
        shape = (self.directions, self.size)
        self.gradient_KDP = [torch.zeros(n, *shape, dtype=torch.float64, device=home) for n in counts.values()]
        self.plain_K = [np.zeros((n, 4)) for n in counts.values()]
        self.weighted_loss_KD = [np.zeros((n, self.directions)) for n in counts.values()]
        self.value_R = np.zeros(self.reductions)

    def add(
        self,
        places: np.ndarray,
        *,
        coefficient_DB: np.ndarray,
        value_R: np.ndarray,
        plain_B: np.ndarray,
        gradient_BQ: torch.Tensor,
        first: int = 0,
    ) -> None:
        """Add some utterances.

        Args:
            places: which they are.
            coefficient_DB: from `Weights.coefficients`.
            value_R: from `Weights.values`.
            plain_B: loss (nats), 1, labels and seconds of each, shape (B, 4).
            gradient_BQ: the Q numbers of their gradients that are not 0.
            first: place of the first of these among all P.
        """
        self.value_R += value_R
        for column, one in enumerate(self.classes):
            code_B = one.code_N[places]
            np.add.at(self.plain_K[column], code_B, plain_B)
            np.add.at(self.weighted_loss_KD[column], code_B, (coefficient_DB * plain_B[:, 0]).T)
        waiting = self._waiting.setdefault(first, [])
        waiting.append((places, coefficient_DB, gradient_BQ.to(self.gradient_KDP[0].device)))
        if sum(gradient.numel() for *_, gradient in waiting) >= _MOST_WAITING:
            self._add_waiting(first)

    def _add_waiting(self, first: int) -> None:
        """Add the gradients that wait: all sums are read and written for it, so it pays to have many at once."""
        places, coefficients, gradients = zip(*self._waiting.pop(first))
        place_B, coefficient_DB = np.concatenate(places), np.concatenate(coefficients, axis=1)
        wide_BQ = torch.cat(gradients).double()
        wide_DB = torch.as_tensor(coefficient_DB).to(wide_BQ.device)
        for column, one in enumerate(self.classes):
            code_B = one.code_N[place_B]
            for code in np.unique(code_B):
                chosen = torch.from_numpy(np.flatnonzero(code_B == code)).to(wide_BQ.device)
                own_DQ = self.gradient_KDP[column][code, :, first : first + wide_BQ.shape[1]]
                own_DQ.addmm_(wide_DB[:, chosen], wide_BQ[chosen])

    def add_up_workers(self) -> None:
        """Replace every sum by that over all workers; called when all utterances are in."""
        for first in list(self._waiting):
            self._add_waiting(first)
        self.value_R = np.array(distributed.add(self.value_R.tolist(), self.device))
        for column, tensor in enumerate(self.gradient_KDP):
            distributed.add_in_place(tensor)
            for sums in (self.plain_K, self.weighted_loss_KD):
                total = distributed.add(sums[column].ravel().tolist(), self.device)
                sums[column] = np.array(total).reshape(sums[column].shape)

    def gram_DKK(self, column: int) -> np.ndarray:
        """Return the inner products of the classes' gradients along each direction."""
        gradient_DKP = self.gradient_KDP[column].transpose(0, 1)
        return torch.stack([one_KP @ one_KP.T for one_KP in gradient_DKP]).cpu().numpy()


def _over_z(weighting: Weighting) -> np.ndarray:
    weight_N, normaliser = weighting
    return weight_N / normaliser


def _find(weight_N: np.ndarray, rescale: Reduction | None, known: list[np.ndarray], rescales: list) -> int:
    """Return the place of a direction among the known ones, or behind them."""
    for place, (direction_N, other) in enumerate(zip(known, rescales)):
        if rescale is None and other is None and np.allclose(weight_N, direction_N, rtol=_SAME_DIRECTION, atol=0.0):
            return place
    return len(known)


def _range_name(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}-{high}"
