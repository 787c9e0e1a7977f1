"""What looks like a secret is written as ***: one rule for all that is kept, shown or sent. Pure.

Workers have the part of it that they need in `trainables.masking`; a test says that both are the same.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from typing import Any

_HIDDEN = "***"
_SECRET_NAME = r"(?:token|passwd|password|passphrase|secret|credentials?|signature|(?<![a-z])sig|(?:access|account|api|storage)_?key(?:_?id)?|(?<![a-z])(?:key|pwd|sas|auth(?:orization)?))"
_ASSIGNED = re.compile(rf"^(.*{_SECRET_NAME}\s*=).+$", re.IGNORECASE | re.DOTALL)
_NAMED = re.compile(rf"{_SECRET_NAME}$", re.IGNORECASE)
_OPTION = re.compile(rf"^--?[\w-]*{_SECRET_NAME}$", re.IGNORECASE)
# Addresses may hold a password (scheme://user:password@host) or a signed query (?token=...). One that was not encoded may
# hold a slash, a space or an @ itself, so the last @ counts; a port and what a text says behind it are none.
_IN_ADDRESS = re.compile(r"(://[^/@\s:\"']*:)(?:[^\s\"']+|(?!\d{1,5}(?:[/?\s,;)]|$))[^\n\"']+)(?=@)")
_IN_QUERY = re.compile(rf"([?&;][^=&;\s\"']*{_SECRET_NAME}=)[^&\s\"']+", re.IGNORECASE)


def without_secrets(command: str) -> str:
    """Replace by *** what looks like a secret: `hub_token=...`, `--api-key ...`, `s3://user:password@...`."""
    try:
        words = shlex.split(command)
    except ValueError:  # not written by a shell: a quote that nothing closes
        words = command.split()
    kept = []
    for before, word in zip(["", *words], words, strict=False):
        kept.append(_HIDDEN if _OPTION.match(before) else _masked(word))
    return shlex.join(kept)


def without_passwords(text: str) -> str:
    """Replace by *** the passwords and signatures in the addresses of a text."""
    return _IN_QUERY.sub(rf"\1{_HIDDEN}", _IN_ADDRESS.sub(rf"\1{_HIDDEN}", text))


def of_key(name: str, value: Any) -> Any:
    """Return the value of a key without its secrets: all of it where the key is named like one, else in its addresses."""
    if value not in (None, "") and _NAMED.search(name):
        return _HIDDEN
    if isinstance(value, str):
        return without_passwords(value)
    if isinstance(value, Mapping):
        return {key: of_key(str(key), one) for key, one in value.items()}
    return [of_key("", one) for one in value] if isinstance(value, (list, tuple)) else value


def _masked(word: str) -> str:
    assigned = _ASSIGNED.match(word)
    return assigned[1] + _HIDDEN if assigned and "://" not in assigned[1] else without_passwords(word)
