"""The one exception of `trainables` that somebody catches: the request cannot be carried out as it stands."""

from __future__ import annotations


class DataError(ValueError):
    """What the user gave (manifest, audio, checkpoint) cannot be used; the message says what to do.

    The launcher shows such a message without a traceback and exits with code 2. It may not import this package,
    so it recognises the class by the attribute below.
    """

    is_request_error = True
