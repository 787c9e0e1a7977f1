"""What a person should know of a store before training on it: counts, lengths, rejects, and what its splits share."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainables.corpora import overlap
from trainables.corpora.store import Store

_BINS = 30
_COUNTED = ("corpus", "group", "split", "speaker")
_OF_A_PART = (
    "location", "source", "split", "fingerprint", "utterances", "seconds", "by_split", "left_out", "rejects",
)  # fmt: skip
_QUANTILES = (0.0, 0.05, 0.5, 0.95, 1.0)


def of(store: Store) -> dict[str, Any]:
    """Summarise a store, as plain values.

    Returns:
        path, fingerprint, source, split, utterances, hours, counts (by split and group), by (corpus, group, split and
        speaker: utterances, speakers and seconds of each value), rejects (by reason, and by reason and group), notes,
        channels_left_out, several_channels (files whose channels were averaged), parts (of a store that was selected from
        others: location, source, split, fingerprint, utterances, seconds, by_split, left_out and rejects of each),
        other_characters (transcripts that hold a character beyond A to Z, ' and space), leaks (as `overlap.report`),
        leak_lines, lengths (quantiles and histograms by group, of seconds and of characters).
    """
    description = store.description
    columns = store.columns([name for name in store.table.column_names if name != "transcript_raw"])
    return {
        "path": str(store.path),
        "fingerprint": store.fingerprint,
        "source": description.get("source", ""),
        "split": description.get("split", ""),
        "utterances": description["utterances"],
        "hours": description["hours"],
        "counts": description["counts"],
        "by": {name: _by(columns, name) for name in _COUNTED},
        "rejects": description["rejects"],
        "rejects_by_group": description["rejects_by_group"],
        "notes": list(description.get("notes", ())),
        "channels_left_out": description.get("channels_left_out", {}),
        "several_channels": description.get("several_channels", 0),
        "parts": [{name: part.get(name, "") for name in _OF_A_PART} for part in description.get("selected_from", ())],
        "other_characters": description.get("other_characters", {}),
        "leaks": overlap.report(columns),
        "leak_lines": overlap.lines(columns),
        "lengths": {
            "seconds": _lengths(columns["group"], columns["duration_seconds"]),
            "characters": _lengths(columns["group"], [len(text) for text in columns["transcript"]]),
        },
    }


def _by(columns: Mapping[str, Sequence[Any]], name: str) -> list[dict[str, Any]]:
    places: dict[str, list[int]] = defaultdict(list)
    for place, value in enumerate(columns[name]):
        places[value].append(place)
    return [
        {
            name: value,
            "utterances": len(own),
            "speakers": len({(columns["corpus"][place], columns["speaker"][place]) for place in own}),
            "seconds": round(sum(columns["duration_seconds"][place] for place in own), 3),
        }
        for value, own in sorted(places.items())
    ]


def _lengths(groups: Sequence[str], values: Sequence[float]) -> dict[str, Any]:
    """Return quantiles and a histogram of each group.

    Returns:
        edges: bounds of the bins, the last of which also holds what is longer (the longest per cent); groups: by name
        quantiles (smallest, 5 %, median, 95 %, largest) and counts of each bin.
    """
    value_N = np.asarray(values, dtype=float)
    top = float(np.quantile(value_N, 0.99)) if len(value_N) else 1.0
    edges = np.linspace(0.0, top or 1.0, _BINS + 1)
    group_N = np.asarray(groups)
    found = {}
    for group in sorted(set(groups)):
        own_N = value_N[group_N == group]
        found[group] = {
            "quantiles": [round(float(one), 4) for one in np.quantile(own_N, _QUANTILES)],
            "counts": np.histogram(np.minimum(own_N, edges[-1]), edges)[0].tolist(),
        }
    return {"edges": [round(float(edge), 4) for edge in edges], "groups": found}
