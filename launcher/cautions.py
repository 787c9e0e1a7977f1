"""What a comparison of two variants does not show, in plain words. Pure."""

from __future__ import annotations

import numpy as np

from launcher.pairing import Difference, Pairs
from launcher.significance import LEVEL, freedom_of_units, smallest_p
from launcher.stats import MIN_SEEDS, MIN_SPEAKERS


def caution(pairs: Pairs, found: Difference | None, p_seeds: float) -> str:
    """Say in plain words what a comparison does not show; empty if there is nothing to say."""
    if not pairs.num_seeds:
        return "No seed finished in both variants with utterances to compare: there is no difference."
    parts = []
    if found is None:
        parts.append("There are no reference words on both sides: there is no difference to report.")
    if pairs.num_seeds < MIN_SEEDS:
        parts.append(
            f"{pairs.num_seeds} paired seed{'s' * (pairs.num_seeds != 1)} (fewer than {MIN_SEEDS}): "
            "it cannot be claimed that the difference holds for other seeds; the interval takes these as given."
        )
    if not pairs.speakers_known:
        parts.append(
            "Speakers are not known: utterances count as independent, so that the interval and p_interval are too narrow."
        )
    elif pairs.num_speakers < MIN_SPEAKERS:
        few = f"{pairs.num_speakers} speaker{'s' * (pairs.num_speakers != 1)} (fewer than {MIN_SPEAKERS}): it cannot be claimed that it holds for other speakers"
        least = smallest_p(pairs.num_speakers)
        parts.append(few + (f", and no test over so few can give p below {least:.3g}." if least > LEVEL else "."))
    elif found is not None and (alike := _speakers_alike(found)) < min(MIN_SPEAKERS, pairs.num_speakers / 2):
        half = int(np.searchsorted(np.cumsum(np.sort(found.share_P)[::-1]), 0.5 - 1e-9)) + 1
        parts.append(
            f"{half} of {pairs.num_speakers} speakers {'has' if half == 1 else 'have'} half of the words or more: of other "
            f"speakers this says as much as {alike:.0f} speakers with equally many words would (fewer than {MIN_SPEAKERS})."
        )
    if (
        found is not None
        and pairs.num_seeds > 1
        and not (found.difference_K > 0).all()
        and not (found.difference_K < 0).all()
    ):
        agree = int((np.sign(found.difference_K) == np.sign(found.mean)).sum())
        if p_seeds > LEVEL:
            parts.append(f"The seeds disagree: {agree} of {pairs.num_seeds} have a difference of this sign.")
    if pairs.speakers_known and pairs.num_nameless:
        named = "utterance has" if pairs.num_nameless == 1 else "utterances have"
        parts.append(f"{pairs.num_nameless:,} {named} no known speaker: together they count as one speaker more.")
    if pairs.num_dropped:
        were = "utterance was" if pairs.num_dropped == 1 else "utterances were"
        parts.append(f"{pairs.num_dropped} {were} not scored by every seed of both and left out.")
    return " ".join(parts)


def _speakers_alike(found: Difference) -> float:
    """Return how many speakers with equally many words would have the degrees of freedom of these."""
    if not found.share_P.max() < 1:
        return 1.0
    return freedom_of_units(found.share_P) + 1
