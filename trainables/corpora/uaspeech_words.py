"""Names of UA-Speech recordings and the words that belong to them.

`<speaker>_<block>_<code>_<microphone>`: the codes D0-D9 (digits), LA-LZ (letters), C1-C19 (commands) and CW1-CW100 (common
words) mean the same word in every block, UW1-UW100 (uncommon words) another one in each. The words come from the label
files of the release (`mlf/`), else from its spreadsheet (`doc/speaker_wordlist`) saved as .xlsx or .csv.
"""

from __future__ import annotations

import csv
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from trainables.corpora import importing, spreadsheets
from trainables.errors import DataError
from trainables.vocabulary import normalise

SPEAKER = re.compile(r"C?[FM]\d\d")
_NAME = re.compile(r"(C?[FM]\d\d)_(B[123])_(D\d|L[A-Z]|CW\d{1,3}|UW\d{1,3}|C\d{1,2})_(M[2-8])")
_CLASSES = {"D": "digit", "L": "letter", "C": "command", "CW": "common", "UW": "uncommon"}
_WORD, _FILE = "WORD", "FILE NAME"
# An aligned label: start and end in units of 100 ns before the word, perhaps a score behind it.
_TIMES = re.compile(r"^\d+\s+\d+\s+|\s+-?\d+\.\d+$")


@dataclass(frozen=True, order=True)
class Utterance:
    """One word that one speaker said in one block, at all microphones."""

    speaker: str
    block: str
    code: str

    @property
    def name(self) -> str:
        """The file name without the microphone."""
        return f"{self.speaker}_{self.block}_{self.code}"

    @property
    def prompt_id(self) -> str:
        """What names the same word for every speaker."""
        return f"{self.block}_{self.code}" if self.word_class == "uncommon" else self.code

    @property
    def word_class(self) -> str:
        """One of digit, letter, command, common, uncommon."""
        return _CLASSES[self.code[:2] if self.code[:2] in _CLASSES else self.code[0]]


def parse(stem: str) -> tuple[Utterance, str] | None:
    """Return the utterance and the microphone that a file name says, None when it is no such name."""
    match = _NAME.fullmatch(stem)
    return None if match is None else (Utterance(match[1], match[2], match[3]), match[4])


@dataclass(frozen=True)
class WordList:
    """The words of the corpus.

    Attributes:
        by_file: file name without suffix -> word, from the label files.
        by_prompt: prompt_id -> word.
        listed: speaker -> utterance -> microphones, for speakers with a label file.
        notes: where the sources disagree.
    """

    by_file: Mapping[str, str]
    by_prompt: Mapping[str, str]
    listed: Mapping[str, Mapping[Utterance, frozenset[str]]]
    notes: tuple[str, ...] = ()

    def word(self, utterance: Utterance, microphone: str) -> str:
        """Return the word of a recording, "" when none is known."""
        return self.by_file.get(f"{utterance.name}_{microphone}") or self.by_prompt.get(utterance.prompt_id, "")


def read(root: Path) -> WordList:
    """Read the label files, and the spreadsheet where it can be read.

    Raises:
        DataError: there is neither, or one of them cannot be understood.
    """
    by_file = {stem: word for path in _label_files(root) for stem, word in _labels(path)}
    named = {stem: name for stem in by_file if (name := parse(stem)) is not None}
    labels: dict[str, Counter[str]] = {}
    listed: dict[str, dict[Utterance, frozenset[str]]] = {}
    for stem, (utterance, microphone) in named.items():
        labels.setdefault(utterance.prompt_id, Counter())[by_file[stem]] += 1
        of_speaker = listed.setdefault(utterance.speaker, {})
        of_speaker[utterance] = of_speaker.get(utterance, frozenset()) | {microphone}
    # Label files of different speakers may spell a word differently: the most frequent spelling, then the alphabet.
    by_prompt = {prompt: min(words, key=lambda word: (-words[word], word)) for prompt, words in labels.items()}
    table = _spreadsheet(root)
    if not by_prompt and not table:
        raise DataError(_nothing_found(root))
    differ = sorted(p for p in by_prompt if p in table and normalise(table[p]) != normalise(by_prompt[p]))
    several = sorted(p for p, words in labels.items() if len({normalise(word) for word in words}) > 1)
    notes = (
        [f"label files disagree about the word of {', '.join(several)}; each recording has its own"] if several else []
    )
    if differ:
        notes.append(f"the spreadsheet has other words than the label files, which count, for {', '.join(differ)}")
    return WordList(by_file, {**table, **by_prompt}, listed, tuple(notes))


def _label_files(root: Path) -> list[Path]:
    if not importing.is_folder(root / "mlf"):
        return []
    found = (
        folder / f"{name}_word.mlf"
        for name, folder in importing.folders(root / "mlf").items()
        if SPEAKER.fullmatch(name)
    )
    return [path for path in found if importing.is_file(path)]


def _labels(path: Path) -> Iterator[tuple[str, str]]:
    """Read an HTK master label file: a quoted name, lines of labels (with or without times), a full stop."""
    lines = _text(path).splitlines()
    if not lines or lines[0].strip() != "#!MLF!#":
        raise DataError(f"{path} does not begin with '#!MLF!#'; it is no label file of UA-Speech: copy it again")
    name, words = "", []
    for line in lines[1:]:
        line = line.strip()
        if line.startswith('"'):
            name, words = line.strip('"').replace("\\", "/").rsplit("/", 1)[-1].removesuffix(".lab"), []
        elif line == ".":
            yield name, " ".join(words)
        elif line:
            words.append(_TIMES.sub("", line))


def _spreadsheet(root: Path) -> dict[str, str]:
    """Return prompt_id -> word of doc/speaker_wordlist.csv or .xlsx, empty when there is none that can be read."""
    for path in _word_list_files(root):
        if path.suffix.lower() == ".csv":
            return _words_of(csv.reader(_text(path).splitlines()), path)
        if path.suffix.lower() == ".xlsx":
            return _words_of(spreadsheets.rows(path, {_WORD, _FILE}), path)
    return {}


def _word_list_files(root: Path) -> list[Path]:
    """Return speaker_wordlist.* beside the audio, .csv before .xls and .xlsx."""
    places = [folder for folder in (root / "doc", root) if importing.is_folder(folder)]
    return [
        path
        for folder in places
        for suffix in (".csv", ".xlsx", ".xls")
        for stem, path in importing.files(folder, suffix).items()
        if stem.lower().replace(" ", "_") == "speaker_wordlist"
    ]


def _words_of(rows: Iterable[list[str]], path: Path) -> dict[str, str]:
    header: list[str] = []
    words: dict[str, str] = {}
    for row in rows:
        if not header:
            header = [cell.strip().upper() for cell in row]
            if {_WORD, _FILE} - set(header):
                raise DataError(f"{path}: the first row is {row!r}; expected the columns {_WORD} and {_FILE}")
        elif len(row) > max(header.index(_WORD), header.index(_FILE)) and (code := row[header.index(_FILE)].strip()):
            words[code.upper()] = row[header.index(_WORD)].strip()
    return words


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path} cannot be read as UTF-8 text ({error}); copy or export it again") from error


def _nothing_found(root: Path) -> str:
    old = next((path for path in _word_list_files(root) if path.suffix.lower() == ".xls"), None)
    do = f"open {old} and save its sheet Word_filename beside it as .csv or .xlsx" if old else "copy one of them there"
    return (
        f"no words for the recordings in {root}: expected mlf/<SPEAKER>/<SPEAKER>_word.mlf, or doc/speaker_wordlist.csv or "
        f".xlsx with the columns {_WORD} and {_FILE}; {do}"
    )
