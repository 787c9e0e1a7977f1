"""Whom the column of speakers names: nobody, where it is not known who speaks, and two people where two corpora use one name.

Pure.
"""

from __future__ import annotations

import pandas as pd

from launcher.stats import NO_GROUP

NAMELESS = frozenset({"", "unknown", NO_GROUP.casefold()})
"""What stands in the column of speakers where it is not known who speaks: nobody's name."""


def is_nameless(name: str) -> bool:
    """Tell whether what stands in the column of speakers names nobody."""
    return name.strip().casefold() in NAMELESS


def told_apart(speaker: pd.Series, corpus: pd.Series) -> pd.Series:
    """Put its corpus before the name of a speaker that several corpora have: they are as many speakers.

    Args:
        speaker: names, as text.
        corpus: of each, as text; what is empty or `NO_GROUP` is no corpus.
    """
    pairs = pd.DataFrame({"speaker": speaker, "corpus": corpus}).drop_duplicates()
    pairs = pairs[~pairs["corpus"].isin(["", NO_GROUP]) & ~pairs["speaker"].map(is_nameless).astype(bool)]
    shared = pairs[pairs["speaker"].duplicated(keep=False)]
    if shared.empty:
        return speaker
    apart_N = speaker.isin(shared["speaker"]) & corpus.isin(shared["corpus"])
    return speaker.where(~apart_N, corpus + "/" + speaker)
