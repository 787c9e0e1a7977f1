"""What looks like a secret in an address is written as ***, in all that a worker keeps, shows or sends. Pure.

The rule is that of `launcher.masking`, which workers do not import; a test says that both are the same.
"""

from __future__ import annotations

import re

_HIDDEN = "***"
_SECRET_NAME = r"(?:token|passwd|password|passphrase|secret|credentials?|signature|(?<![a-z])sig|(?:access|account|api|storage)_?key(?:_?id)?|(?<![a-z])(?:key|pwd|sas|auth(?:orization)?))"
_IN_ADDRESS = re.compile(r"(://[^/@\s:\"']*:)(?:[^\s\"']+|(?!\d{1,5}(?:[/?\s,;)]|$))[^\n\"']+)(?=@)")
_IN_QUERY = re.compile(rf"([?&;][^=&;\s\"']*{_SECRET_NAME}=)[^&\s\"']+", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """Replace by *** the passwords and signatures in the addresses of a text."""
    return _IN_QUERY.sub(rf"\1{_HIDDEN}", _IN_ADDRESS.sub(rf"\1{_HIDDEN}", text))
