"""Reductions that weigh the groups of the training set against each other, always in the same way.

N utterances of an update, G groups of the training set.
"""

from __future__ import annotations

import numpy as np

from trainables.reduction_parameters import Positive, PositiveOrInfinite
from trainables.reduction_types import Update, Weighting


def group_balanced(update: Update) -> Weighting:
    """Give every group the same total weight over the training set: w = N_train / (G n_g), Z = N.

    n_g counts the training set, so a group's weight does not hang on who shares its update; rare groups gain, and the
    fewer they are the noisier the gradient. The mean weight over the training set is 1.

    Reference: King and Zeng 2001, https://doi.org/10.1093/oxfordjournals.pan.a004868 (inverse-frequency weights).
    """
    return group_temperature(update, temperature=np.inf)


def group_temperature(update: Update, *, temperature: PositiveOrInfinite = 5.0) -> Weighting:
    """Move groups towards equal weight: w in proportion to (n_g / N_train)^(1/temperature - 1), Z = N.

    Scaled so that the mean weight over the training set is 1. Temperature 1 is utterance_mean, inf is group_balanced;
    the higher, the more rare groups gain. The same expectation as sampling groups at that temperature, with more
    variance but without repeats.

    Reference: Arivazhagan et al. 2019, https://arxiv.org/abs/1907.05019 (temperature 5).
    """
    group_N, count_G = update.require_groups()
    share_G = count_G / count_G.sum()
    log_G = (1.0 / temperature - 1.0) * np.log(share_G)
    weight_G = np.exp(log_G - log_G.max())
    return (weight_G / (share_G @ weight_G))[group_N], float(len(update))


def dataset_weighted(update: Update, /, **weights: Positive) -> Weighting:
    """Weigh each group by a number given for it: w = a_g / U, Z = N.

    `dataset_weighted(word=1.3, sentence=0.7)` names every group of the training set. Groups of high numbers gain, and
    short transcripts as in `mean`. Not normalised: the numbers also scale the step.

    Reference: `dataset_loss_weighting` of https://github.com/hasteinmetz/transfer-learning-for-dysarthria.
    """
    group_N, _ = update.require_groups()
    weight_G = np.array([weights[group] for group in update.groups])
    return weight_G[group_N] * (1.0 / np.maximum(update.label_count_N, 1)), float(len(update))


BY_GROUP = (group_balanced, group_temperature, dataset_weighted)
"""What this file holds."""
