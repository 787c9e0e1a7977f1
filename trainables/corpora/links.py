"""Which utterances belong together: the same text, the same moment at several microphones, the same sound file.

N utterances; columns hold one value per utterance, and may be missing as far as a function says so.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence

from trainables.vocabulary import normalise

Columns = Mapping[str, Sequence[str]]
_SEPARATOR = "\x1f"


def column(columns: Columns, name: str) -> list[str]:
    """Return a column as text, "" throughout where the data do not have it."""
    count = len(columns["utt_id"])
    return [str(value or "") for value in columns[name]] if name in columns else [""] * count


def speaker_keys(columns: Columns) -> list[str]:
    """Name the speaker of each utterance so that equal names of two corpora stay apart."""
    return [_SEPARATOR.join(pair) for pair in zip(column(columns, "corpus"), column(columns, "speaker"))]


def prompt_keys(columns: Columns) -> list[str]:
    """Name the text of each utterance: equal where the corpus gives an equal prompt_id, or the words are equal.

    Words are compared normalised and over all corpora (UA-Speech has six words under two codes, and a word of one corpus
    may be a prompt of another), and both ways in chains. Identical sound files are one text as well.

    Returns:
        key_N: the first of the texts that are linked, in alphabetical order; of a text alone, itself, so that its key
        is the same in every corpus; the prompt_id, or the utt_id, where there is no transcript.
    """
    texts = [normalise(text) for text in column(columns, "transcript")]
    prompts = [
        (corpus, prompt) if prompt else None
        for corpus, prompt in zip(column(columns, "corpus"), column(columns, "prompt_id"))
    ]
    sounds = column(columns, "audio_sha256")
    nodes_N = [
        [
            *([("text", text)] if text else []),
            *([("prompt", *prompt)] if prompt else []),
            *([("sound", sound)] if sound else []),
        ]
        or [("utterance", utt_id)]
        for text, prompt, sound, utt_id in zip(texts, prompts, sounds, column(columns, "utt_id"))
    ]
    return _first_of_linked(nodes_N, {"text": 0, "prompt": 1, "utterance": 2, "sound": 3})


def unit_keys(columns: Columns) -> list[str]:
    """Name the moment that each utterance records: all microphones of it, and copies of a sound file, are one unit.

    Returns:
        key_N: made of corpus, speaker, prompt_id (else the words, else the utt_id), block and session.
    """
    what = [
        prompt or normalise(text) or utt_id
        for prompt, text, utt_id in zip(
            column(columns, "prompt_id"), column(columns, "transcript"), column(columns, "utt_id")
        )
    ]
    moments = zip(speaker_keys(columns), what, column(columns, "block"), column(columns, "session"))
    nodes_N = [
        [("unit", *moment), *([("sound", sound)] if sound else [])]
        for moment, sound in zip(moments, column(columns, "audio_sha256"))
    ]
    return _first_of_linked(nodes_N, {"unit": 0, "sound": 1})


def _first_of_linked(nodes_N: Sequence[Sequence[tuple[str, ...]]], order: Mapping[str, int]) -> list[str]:
    """Return for each utterance the first node of all that are linked to its own, by kind and then alphabet."""
    parent: dict[Hashable, Hashable] = {}

    def root(node: Hashable) -> Hashable:
        while parent.setdefault(node, node) != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for nodes in nodes_N:
        for other in nodes[1:]:
            parent[root(other)] = root(nodes[0])
    first: dict[Hashable, tuple[int, tuple[str, ...]]] = {}
    for node in sorted(_each(nodes_N)):
        rank = (order[node[0]], node)
        first[root(node)] = min(first.get(root(node), rank), rank)
    return [_SEPARATOR.join(first[root(nodes[0])][1][1:]) for nodes in nodes_N]


def _each(nodes_N: Iterable[Iterable[tuple[str, ...]]]) -> set[tuple[str, ...]]:
    return {node for nodes in nodes_N for node in nodes}
