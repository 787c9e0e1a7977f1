"""Sends what one attempt at a trial writes to the file system of its study, in an order that is whole at any moment."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from launcher import draining, retries
from launcher.mirror import Mirror, rank
from launcher.retries import StorageError

HERE = ".here"
"""In the folder of an attempt: all that it goes on from is copied. Says what."""
SENT = ".sent"
"""Says what of the folder of a living attempt was sent; of one that was killed the rest is sent later."""
UNSENT = ".unsent"
"""Marks the folder of an attempt that could not send all: somebody may want what is in it. Says what was sent."""
_SEAL = "/sealed.json"
_CHECKPOINT = re.compile(r"^(trials/[^/]+/checkpoints/[^/]+)/")
_SENT = ("trials", "audits", "tensorboard")
_NOT_SENT = ("/prune", "/trial.json", "/trial.conf")
_OLD_ENDS = ("/failure.json", "/pruned.json", f"/{draining.FILE}")
"""What an attempt removes before it says that it has begun: of the one before it."""


class Superseded(StorageError):
    """Another attempt at this trial has begun: this one was given up for dead, and sends nothing any more."""

    may_pass = False


class Emptied(StorageError):
    """The folder of a living attempt is gone: what is missing there says nothing of what is to be removed."""

    may_pass = False


class Sender:
    """Sends what the worker of a trial has written, and brings it the wish to stop."""

    def __init__(self, trial_id: str, near: Mapping[str, Any], mirror: Mirror) -> None:
        self._trial, self._near, self._mirror = f"trials/{trial_id}", near, mirror
        self._sending, self._attempts = mirror.folder / ".sending", f"{self._trial}/attempts.json"
        self._superseded: Superseded | None = None

    def turn(self) -> None:
        """Send once, and look for wishes."""
        if self._superseded is not None:
            return
        wishes = [Path(self._near["stop_file"]), Path(self._near["folder"]) / "prune"]
        try:
            take_wishes(self._mirror, wishes)
            self._send()
        except Superseded as superseded:
            self._superseded = superseded
            wishes[0].touch()  # its work is for nothing

    def last(self) -> None:
        """Send what is left; a study of a week is not lost to a network that is gone for some minutes.

        Raises:
            StorageError: it cannot be sent.
            Superseded: nothing may be sent any more.
        """
        if self._superseded is not None:
            raise self._superseded
        try:
            retries.at_length(self._send)
        except Superseded:
            raise
        except (StorageError, OSError) as error:
            told = f"{retries.first_line(error)}; what this attempt made stays in {self._mirror.folder}"
            try:
                self._mirror.keep(self._mirror.folder / UNSENT)
            except OSError as also:
                told += f" until another attempt begins there ({retries.first_line(also)})"
            raise StorageError(told) from error

    def take_over(self) -> bool:
        """Send what an attempt that ended long ago could not, unless another one has begun since.

        Returns:
            whether there was anything.

        Raises:
            StorageError: it cannot be sent.
            Superseded: another one has.
        """
        if self._was_begun_again():
            raise Superseded(
                f"{self._trial}: what an earlier attempt could not send is of trials that were begun again"
            )
        there, here = self._begun(there=True), self._begun()
        # What the launch has said of its end since is not undone.
        is_told = there.get("attempts") == here.get("attempts") and not there.get("open")
        return self._send(without={self._attempts} if is_told else set())

    def _send(self, without: Set[str] = frozenset()) -> bool:
        """Send what changed, in the order that makes what is there whole at any moment; then drop what is gone."""
        mirror, held = self._mirror, self._held()
        changed = set(mirror.changed(whole(mirror))) - without
        gone = [name for name in mirror.gone() if name not in held and self._is_mine(name)]
        if gone and not (mirror.folder / HERE).is_file():
            raise Emptied(f"{mirror.folder} was emptied by somebody else; {mirror.shown} keeps what was sent")
        gone = self._removable(gone, held, changed)
        if held or changed or gone:
            self._check()
            # In the order in which they went here: an attempt must not show the end of the one before it.
            self._remove(name for name in gone if name.endswith(_OLD_ENDS))
            # That an attempt was begun is told before what it made: without it, the next one would not count this one.
            begun = changed & {self._attempts}
            mirror.push(begun)
            self._push(held, self._sending)
            self._push(changed - begun)
            self._remove(name for name in gone if not name.endswith(_OLD_ENDS))
        shutil.rmtree(self._sending, ignore_errors=True)
        return bool(held or changed or gone)

    def _push(self, names: Iterable[str], source: Path | None = None) -> None:
        """Send files; one that makes others count only as long as no other attempt has begun: the others may take minutes."""
        for name in sorted(names, key=lambda name: (rank(name), name)):
            if rank(name):
                self._check()
            self._mirror.push([name], source)

    def _remove(self, names: Iterable[str]) -> None:
        """Remove files there, what makes others count first, and that only as long as no other attempt has begun."""
        for name in sorted(names, key=rank, reverse=True):
            if rank(name):
                self._check()
            self._mirror.remove([name])

    def _held(self) -> list[str]:
        """Hold the sealed checkpoints that are to be sent by links: training drops them, perhaps sooner than they are sent."""
        names = []
        shutil.rmtree(self._sending, ignore_errors=True)  # of a turn that failed
        for seal in self._mirror.changed(name for name in self._mirror.files("trials") if name.endswith(_SEAL)):
            files = self._mirror.files(str(checkpoint(seal)))
            try:
                for name in files:
                    (self._sending / name).parent.mkdir(parents=True, exist_ok=True)
                    _hold(self._mirror.folder / name, self._sending / name)
                wanted = json.loads((self._sending / seal).read_text(encoding="utf-8"))["files"]
            except FileNotFoundError:
                continue  # it was dropped just now; a newer one comes at the next turn
            if {f"{checkpoint(seal)}/{name}" for name in wanted} <= set(files):
                names += files
        return names

    def _removable(self, gone: list[str], held: list[str], changed: Set[str]) -> list[str]:
        """Choose what may be removed there now: of checkpoints nothing while the newest one is to be gone on from there.

        What made them go here is a newer one, which may not have been held, or sealed behind the look for what is to be held.
        """
        result = f"{self._trial}/result.json"
        if result in changed or not self._mirror.changed([result]):
            return gone  # nobody goes on from them
        # Looked for behind what is gone: a checkpoint is sealed before older ones are dropped.
        here = [name for name in self._mirror.files(f"{self._trial}/checkpoints") if name.endswith(_SEAL)]
        newest = max(here, key=_update, default="")
        will_be_there = bool(newest) and (newest in held or not self._mirror.changed([newest]))
        if will_be_there and all(_update(name) < _update(newest) for name in gone if name.endswith(_SEAL)):
            return gone
        return [name for name in gone if checkpoint(name) is None]

    def _is_mine(self, name: str) -> bool:
        """Tell whether this worker may remove a file there: audits are those of others too."""
        return name.startswith(f"{self._trial}/") and not name.endswith(_NOT_SENT)

    def _check(self) -> None:
        """Look whether a later attempt has begun: this one may have been cut off from all but the storage.

        Raises:
            Superseded: it has.
        """
        mine = self._begun()
        if mine and _is_another(self._begun(there=True), mine):
            raise Superseded(f"{self._trial}: another attempt has begun since; nothing more of this one is kept")

    def _begun(self, *, there: bool = False) -> Mapping[str, Any]:
        """Read which attempts have been begun."""
        return self._json(self._attempts, there=there)

    def _was_begun_again(self) -> bool:
        """Tell whether the folder of the trial was set aside since (--fresh), with what this attempt went on from."""
        here, there = (self._json(f"{self._trial}/trial.json", there=away) for away in (False, True))
        if "folder_id" in here:
            return here["folder_id"] != there.get("folder_id")
        # Of an older version: a launch is not handed a trial twice, and one that did not come to begin it is forgotten.
        launches, known = (
            {json.dumps(one.get("started")) for one in told.get("launches", ())} for told in (here, there)
        )
        return not launches <= known

    def _json(self, name: str, *, there: bool) -> Mapping[str, Any]:
        here = self._mirror.folder / name
        content = self._mirror.read(name) if there else here.read_bytes() if here.is_file() else None
        return json.loads(content or b"{}")


def _is_another(there: Mapping[str, Any], mine: Mapping[str, Any]) -> bool:
    """Tell whether the attempt that is known there began behind mine, or beside it: neither knew of the other."""
    if there.get("attempts", 0) != mine["attempts"]:
        return there.get("attempts", 0) > mine["attempts"]
    return bool(there.get("name")) and bool(mine.get("name")) and there["name"] != mine["name"]


def checkpoint(name: str) -> str | None:
    """Return the checkpoint that a file belongs to; None: it is of none."""
    match = _CHECKPOINT.match(name)
    return match.group(1) if match else None


def _update(seal: str) -> int:
    """Return the update behind which a checkpoint was made."""
    return int(seal.removesuffix(_SEAL).rpartition("-")[2])


def whole(mirror: Mirror) -> list[str]:
    """Name the files of a trial, its audits and its curves that may be sent as they are now.

    Checkpoints are held, and what the launch says of a trial is not for its worker to say.
    """

    def is_whole(name: str) -> bool:
        if name.startswith("audits/"):
            return (mirror.folder / name).with_name("audit.json").is_file()
        return checkpoint(name) is None and not name.endswith(_NOT_SENT)

    return [name for part in _SENT for name in mirror.files(part) if is_whole(name)]


def take_wishes(mirror: Mirror, paths: list[Path]) -> None:
    """Make here the files that are there."""
    names = {path.relative_to(mirror.folder).as_posix(): path for path in paths}
    for name in mirror.stamps(names):
        names[name].parent.mkdir(parents=True, exist_ok=True)
        names[name].touch()


def _hold(path: Path, link: Path) -> None:
    """Keep the content of a file although it may be removed: by a link, or a copy where the file system has none."""
    try:
        os.link(path, link)
    except FileNotFoundError:
        raise
    except OSError:
        shutil.copyfile(path, link)
