"""Where `prepare` makes a store: in its folder, or, for one on another file system, in a folder of this machine that is sent."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from launcher import places
from launcher.copies import cache_folder
from launcher.lease import Lease
from launcher.masking import without_passwords
from launcher.mirror import Mirror
from launcher.places import Place
from launcher.results import ResultsError
from launcher.retries import StorageError

_STORE = "store.json"


@contextmanager
def made(location: str | Path) -> Iterator[Place]:
    """Have a folder to make a store in; on another file system it is sent once it is whole, what says so last.

    No copy stays here once a store is there: it holds speech. Before, what is made is kept, for the same command to go on.

    Raises:
        ResultsError: another store is there, another process makes one, or it cannot be written to.
    """
    where = places.of(location)
    if isinstance(where, Path):
        yield Place(where)
        return
    with places.alone(cache_folder(where) / "made") as cache:
        if cache is None:
            raise ResultsError(
                f"{without_passwords(where)} is being prepared by another process of this machine; wait for it"
            )
        folder = cache.resolve() / "store"
        only = Lease(Mirror(where, folder))
        with only.held():
            place = Place(folder, where, lease=only)
            there = place.mirror.read(_STORE)
            yield place
            is_another = there not in (None, (folder / _STORE).read_bytes())
            if there is None:
                _send_made(place)
            _remove_made(place)
            if is_another:
                raise ResultsError(f"{place.shown()} holds another store; give another --out, or remove that one first")


def _send_made(place: Place) -> None:
    try:
        place.send()
    except StorageError as error:
        told = f"{error}; what is prepared stays in {place.folder} until the same command has sent it"
        raise type(error)(told) from error


def _remove_made(place: Place) -> None:
    try:
        # With what another preparation, which was interrupted, had decoded; the lock beside them is a file.
        for folder in [path for path in place.folder.parent.iterdir() if path.is_dir()]:
            shutil.rmtree(folder)
    except OSError as error:
        raise ResultsError(
            f"{place.shown()} holds the store, but its copy in {place.folder} cannot be removed ({error.strerror}); it holds "
            "speech, so remove it yourself"
        ) from error
