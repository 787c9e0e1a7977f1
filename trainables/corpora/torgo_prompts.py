"""What the prompts of TORGO say: words to be read aloud, or pictures, instructions and exercises without words."""

from __future__ import annotations

import re
import unicodedata

_IMAGE = re.compile(r"\.(jpe?g|png|bmp|gif)\b", re.IGNORECASE)
_MARKED = re.compile(r"\bx{3,}\b", re.IGNORECASE)
_BRACKET = re.compile(r"\[[^\]]*(\]|$)")
# Exercises of the assessment: sustained vowels and repeated syllables, with and without hyphens.
_NON_SPEECH = re.compile(
    r"\bah[- ]?p[- ]?ee+\b|\bpah[- ]?tah[- ]?kah\b|\bee+[- ]?p[- ]?ah\b|\be{3,}\b|\bfor 5 seconds\b|\bsay ['\"‘“]?oa\b"
    r"|\brelax your mouth\b",
    re.IGNORECASE,
)
# Cursor keys pressed while a prompt was typed left ESC [ A to D behind, or, where ESC and [ were lost, runs of these letters.
_CURSOR_KEYS = re.compile(r"([A-D])\1{3,}")


def spoken(prompt: str) -> tuple[str, str]:
    """Return (transcript, "") for a prompt that is read aloud, else ("", reason).

    A bracket behind words explains them (`tear [as in tear up that paper]`) and is left out; apostrophes and punctuation
    stay. Reasons: empty_transcript, damaged_prompt, image_prompt, marked_xxx, instruction, non_speech.
    """
    text = " ".join(prompt.split())
    words = " ".join(_BRACKET.sub(" ", text).split())
    if not text:
        return "", "empty_transcript"
    if any(unicodedata.category(character) == "Cc" for character in text) or _CURSOR_KEYS.search(text):
        return "", "damaged_prompt"
    if _IMAGE.search(text):
        return "", "image_prompt"
    if _MARKED.search(text):
        return "", "marked_xxx"
    if not any(character.isalnum() for character in words):
        return "", "instruction" if words != text else "empty_transcript"
    return ("", "non_speech") if _NON_SPEECH.search(words) else (words, "")


def decoded(content: bytes) -> str | None:
    """Return the text of a prompt file: UTF-8, else Windows-1252 (typographic apostrophes); None when it is neither."""
    for encoding in ("utf-8-sig", "cp1252"):
        try:
            return content.decode(encoding)
        except UnicodeDecodeError:
            continue
    return None
