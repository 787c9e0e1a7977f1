"""How a command ends: its exit code, and one message that also a full disk under stdout or stderr cannot turn into another end."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import click

EXIT_DONE, EXIT_BAD_REQUEST, EXIT_INTERRUPTED = 0, 2, 130


def run(command: Callable[[], int | None]) -> NoReturn:
    """Run a command and exit; a request that cannot be carried out is one message and exit code 2."""
    try:
        code = command() or EXIT_DONE
        sys.stdout.flush()
    except click.exceptions.Exit as finished:
        _end(finished.exit_code)
    except click.ClickException as error:
        _end(EXIT_BAD_REQUEST, error.show)
    except (KeyboardInterrupt, click.Abort):
        _end(EXIT_INTERRUPTED, "interrupted; the same command goes on where this one stopped")
    except PermissionError as error:
        told = f"{error.filename or error}: {error.strerror or 'no permission'}"
        _end(EXIT_BAD_REQUEST, f"Error: {told}; ask for the right to read and write there, or use another place")
    except OSError as error:
        from launcher import storage

        if not storage.concerns(error):
            raise
        told = f"{error.filename or 'what is written here'}: {error.strerror or error}"
        _end(EXIT_INTERRUPTED, f"Error: {told}; mend that or make room, then give the same command again")
    except ValueError as error:
        if not getattr(error, "is_request_error", False):
            raise
        from launcher import masking, printable

        told = printable.lines(masking.without_passwords(str(error)))  # it may quote a file of somebody else
        _end(getattr(error, "exit_code", EXIT_BAD_REQUEST), f"Error: {told}")
    _end(code)


def _end(code: int, told: str | Callable[[], None] = "") -> NoReturn:
    """Exit; where what is told cannot be written the code alone tells."""
    with suppress(OSError):
        if callable(told):
            told()
        elif told:
            click.echo(told, err=True)
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:  # Python would try again what waits there, and exit with 120 for that
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(code)
