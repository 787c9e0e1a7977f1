"""Text of somebody else on a terminal: a name or an error may hold codes that recolour it, rewrite lines or type commands."""

from __future__ import annotations

import re

# C0 and C1 controls, and the marks that reverse the order of what follows; right-to-left letters need none of them.
_HARMFUL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def lines(text: object) -> str:
    """Return text in which control characters other than line feed and tab are written as hexadecimal codes."""
    return _HARMFUL.sub(_shown, str(text))


def line(text: object) -> str:
    """Return text as one line: line feeds and tabs are shown too."""
    return lines(text).replace("\n", "\\n").replace("\t", "\\t")


def _shown(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
