"""Characters to label ids and back, in the layout of `Wav2Vec2CTCTokenizer`.

A fresh model gets the characters of its training transcripts; a pretrained one brings its own `vocab.json`.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby, pairwise
from pathlib import Path

from trainables.errors import DataError

BLANK, UNKNOWN, WORD_DELIMITER = "<pad>", "<unk>", "|"
_SPECIAL = frozenset({BLANK, UNKNOWN, "<s>", "</s>"})
_NORMALISATION = (
    "NFKC; typographic apostrophes to '; hyphens and dashes to spaces; .,!?;:\" and brackets removed; upper case; "
    "runs of white space to one space"
)
_APOSTROPHES = str.maketrans({"‘": "'", "’": "'", "ʼ": "'", "`": "'"})
_SPACES = str.maketrans({character: " " for character in "-‐‑‒–—_/"})
_REMOVED = str.maketrans({character: None for character in '.,!?;:"()[]{}“”„«»…'})


def normalise(text: str) -> str:
    """Bring a transcript into the form that is trained on and scored (see `normalisation_rule`)."""
    text = unicodedata.normalize("NFKC", text).translate(_APOSTROPHES).translate(_SPACES).translate(_REMOVED)
    return " ".join(text.upper().split())


def normalisation_rule() -> str:
    """Say in words what `normalise` does; recorded with every store."""
    return _NORMALISATION


@dataclass(frozen=True)
class Vocabulary:
    """The labels of a model: position in `tokens` = label id; `<pad>` is the CTC blank."""

    tokens: tuple[str, ...]

    @classmethod
    def from_transcripts(cls, transcripts: Iterable[str]) -> Vocabulary:
        """Collect the characters of normalised transcripts, sorted, behind the special tokens in transformers' order."""
        characters = sorted(set("".join(transcripts)) - {" ", WORD_DELIMITER})
        return cls((BLANK, "<s>", "</s>", UNKNOWN, WORD_DELIMITER, *characters))

    @classmethod
    def from_file(cls, path: Path) -> Vocabulary:
        """Read the `vocab.json` of a checkpoint.

        Raises:
            DataError: the file is not a mapping of tokens to the ids 0..n-1, or has no blank (`<pad>`).
        """
        added = path.with_name("added_tokens.json")
        try:
            ids: dict[str, int] = json.loads(path.read_text(encoding="utf-8"))
            if added.is_file():
                ids = {**json.loads(added.read_text(encoding="utf-8")), **ids}
            tokens = tuple(sorted(ids, key=lambda token: ids[token]))
            valid = [ids[token] for token in tokens] == list(range(len(tokens))) and BLANK in ids
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not a vocabulary of a CTC checkpoint ({error})") from error
        if not valid:
            raise DataError(f"{path}: needs the ids 0..n-1, each once, and the token {BLANK!r} as CTC blank")
        return cls(tokens)

    def __len__(self) -> int:
        return len(self.tokens)

    @property
    def blank(self) -> int:
        """Label id of the CTC blank."""
        return self.tokens.index(BLANK)

    @property
    def characters(self) -> frozenset[str]:
        """What a normalised transcript may contain."""
        single = {token for token in self.tokens if token not in _SPECIAL and token != WORD_DELIMITER}
        return frozenset(single | ({" "} if WORD_DELIMITER in self.tokens or " " in self.tokens else set()))

    def unknown_characters(self, text: str) -> str:
        """Return the characters of a normalised transcript that have no label, sorted, each once."""
        return "".join(sorted(set(self._cased(text)) - self.characters))

    def _cased(self, text: str) -> str:
        """Write a transcript in the case of the labels: some checkpoints know small letters only."""
        return text if any(character.isupper() for character in self.characters) else text.lower()

    def encode(self, text: str) -> list[int]:
        """Turn a normalised transcript into label ids.

        Raises:
            DataError: a character has no label; such utterances are to be rejected before training.
        """
        if unknown := self.unknown_characters(text):
            raise DataError(f"transcript {text!r} has characters outside the vocabulary: {unknown!r}")
        ids = {token: position for position, token in enumerate(self.tokens)}
        space = ids.get(WORD_DELIMITER, ids.get(" ", -1))
        return [space if character == " " else ids[character] for character in self._cased(text)]

    def decode(self, frame_ids: Sequence[int]) -> str:
        """Turn the best label of each frame into normalised text: repeats merged, blanks and special tokens dropped."""
        merged = (self.tokens[label] for label, _ in groupby(frame_ids))
        text = "".join(" " if token == WORD_DELIMITER else token for token in merged if token not in _SPECIAL)
        return " ".join(text.upper().split())

    def as_json(self) -> str:
        """Write the content of a `vocab.json`."""
        return json.dumps({token: position for position, token in enumerate(self.tokens)}, ensure_ascii=False)


def labels_needed(label_ids: Sequence[int]) -> int:
    """Count the frames without which CTC cannot align these labels: one each, one more between equal neighbours."""
    return len(label_ids) + sum(first == second for first, second in pairwise(label_ids))
