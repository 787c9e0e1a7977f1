"""Keeps trials off nodes that may not run them while trials are scheduled: those of the start, and those that join later."""

from __future__ import annotations

import json
import secrets
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from launcher import preflight
from launcher.cluster import DRIVER, Cluster, Sizing
from launcher.config import ConfigurationError
from launcher.findings import FAULT, OK, Finding
from launcher.masking import without_passwords
from launcher.places import Place
from launcher.preflight import Node, Seen
from launcher.retries import StorageError, at_length, first_line

POLL_SECONDS = 2.0
_MOST_REFUSED = 3
"""Machines refused while none is fit: further ones would be like them, and are paid for."""
_LONG_WAIT_TURNS = 450
_WHY_NONE_COMES = "on the head, tail -n 50 /tmp/ray/session_latest/logs/monitor* says why none comes (quota, capacity, image); what is up goes on to cost"

Say = Callable[[str], None]


class Unreachable(StorageError):
    """The storage of the study was away for minutes before a trial began; the same command goes on."""

    exit_code = 130


class Guard:
    """Knows which nodes are refused; looks at those that join.

    Args:
        there: the cluster.
        place: the study.
        job: of one of the trials; its data are looked for.
        say: shows a line to the person who gave the command.
    """

    def __init__(self, there: Cluster, place: Place, job: Mapping[str, Any], say: Say) -> None:
        self._there, self._place, self._job, self._say = there, place, job, say
        self._seen: dict[str, Seen] = {}
        self._lock, self._over = threading.Lock(), threading.Event()
        self._wanted: Callable[[], float] = lambda: 0.0
        self._device, self._shown, self._complaint = "CPU", "", ""
        self._same_turns = 0
        self._drives = False
        self._asked: dict[str, Any] = {}
        self._launch: dict[str, Any] = {}
        self._give_up: Say | None = None

    @property
    def told(self) -> Mapping[str, Any] | None:
        """What workers are told, to look at their own node; None: nothing is to be looked at."""
        return {"asked": {**self._asked, "answers": False}, "launch": self._launch} if self._asked else None

    @property
    def refused(self) -> list[str]:
        """Ids of the nodes that may not run trials."""
        with self._lock:
            return [one.node.id for one in self._seen.values() if not one.is_fit]

    @contextmanager
    def watching(self) -> Iterator[Cluster]:
        """Look at all nodes, then at those that join for the time of the block.

        Yields:
            the cluster without the nodes that are refused.

        Raises:
            ConfigurationError: no node may run trials, or their drivers.
            Unreachable: the storage of the study is away for minutes.
        """
        if self._there.address is None:
            yield self._there
            return
        key = self._place.folder / f".preflight-{secrets.token_hex(8)}"
        thread = threading.Thread(target=self._follow, name="preflight", daemon=True)
        try:
            self._begin(key)
            left = self._left()
            thread.start()
            yield left
        finally:
            self._over.set()
            if thread.is_alive():
                thread.join(POLL_SECONDS)
            for path in (key, *self._place.folder.glob(f"{key.name}-*")):
                self._place.tidy(path)

    def wants(self, sizing: Sizing, unfinished: Callable[[], int], *, backend: str) -> None:
        """Hear what trials want, to say when machines are waited for, and to know when none may come.

        Args:
            sizing: what each gets.
            unfinished: returns how many trials are not done.
            backend: "train": each has a driver beside its workers.
        """
        self._drives = backend == "train"
        each = sizing.workers * (sizing.gpus_per_worker if sizing.use_gpu else sizing.cpus_per_worker)
        self._device = "GPU" if sizing.use_gpu else "CPU"
        self._wanted = lambda: min(sizing.max_concurrent, unfinished()) * each

    def gives_up(self, tell: Say) -> None:
        """Hear whom to tell when no node is fit and more of the kind would be refused; nodes may have been refused already."""
        self._give_up = tell
        self._decide()

    def refuse(self, node_id: str, why: str) -> None:
        """Note that a worker found its own node unfit."""
        with self._lock:
            known = self._seen.get(node_id)
        if known is not None and not known.is_fit:
            return
        name = known.node if known else next((one for one in preflight.alive() if one.id == node_id), None)
        found = Finding(FAULT, "trial", why, "then give the launch again")
        self._note([Seen(name or Node(node_id, "a node", "gone", {}), [found], known.facts if known else {})])

    def _begin(self, key: Path) -> None:
        try:
            self._ask(key)
            self._say("looking at the nodes ...")
            self._note(self._inspect(preflight.alive()))
        except StorageError as error:
            if not error.may_pass:
                raise
            told = f"{first_line(error)}; no trial has begun. The same command goes on once that works again"
            raise Unreachable(told) from error

    def _ask(self, key: Path) -> None:
        secret, store = secrets.token_hex(16), Path(self._job["store"])
        key.write_text(secret, encoding="utf-8")
        at_length(lambda: self._place.send(key))
        # What lies inside of a study on another file system is copied to each node by the trials themselves.
        travels = self._place.uri is not None and store.is_relative_to(self._place.folder.resolve())
        self._asked = {
            "out": self._place.uri or str(self._place.folder.resolve()), "key": key.name, "secret": secret, "answers": True,
            "store": None if travels else str(store),
            "fingerprint": json.loads((store / "store.json").read_text(encoding="utf-8"))["fingerprint"],
        }  # fmt: skip
        self._launch = {**preflight.look_here(self._asked, works=False), "code": self._there.code}

    def _inspect(self, nodes: Sequence[Node]) -> list[Seen]:
        """Look at nodes; those that miss the storage of the study again, once the launch reaches it.

        Raises:
            StorageError: the launch does not reach it either, for minutes: that is no fault of these nodes.
        """
        found = preflight.inspect(nodes, self._asked, self._launch)
        if missing := [one.node for one in found if one.misses_storage]:
            self._say(
                f"{len(missing)} node(s) do not reach the storage of the study; they are looked at again when it answers"
            )
            preflight.look_here(self._asked, works=False)
            again = preflight.inspect(missing, self._asked, self._launch)
            found = [*(one for one in found if not one.misses_storage), *again]
        for one in found:
            if "answer" in (one.facts.get("out") or {}):
                self._place.tidy(self._place.folder / one.facts["out"]["answer"])
        return found

    def _note(self, found: Sequence[Seen]) -> None:
        with self._lock:
            new = [one for one in found if one != self._seen.get(one.node.id)]  # one that is gone may be met again
            self._seen.update({one.node.id: one for one in found})
            seen = list(self._seen.values())
        preflight.write(self._place.folder, self._launch, seen)
        for line in (line for one in new for line in lines(one)):
            self._say(line)
        self._decide()

    def _decide(self) -> None:
        """Tell that trials would wait for ever: for a node that drives or trains, where all were refused and more would be."""
        if self._give_up is None:
            return
        with self._lock:
            seen = list(self._seen.values())
        fit = [one.node for one in seen if one.is_fit]
        bad = [one for one in seen if not one.is_fit and not one.gone]
        driving = [one for one in bad if one.node.resources.get(DRIVER)]
        if self._drives and driving and not any(one.resources.get(DRIVER) for one in fit):
            last = driving[-1]
            self._give_up(f"no node may hold the drivers of trials: {last.node} was refused: {_why(last)}")
        training = [one for one in bad if self._may_train(one.node)]
        enough = _MOST_REFUSED if self._there.most else 1  # nobody is to come where a cluster does not grow
        if len(training) >= enough and not any(self._may_train(one) for one in fit):
            last = training[-1]
            self._give_up(f"no node may run trials: {len(training)} were refused, last {last.node}: {_why(last)}")

    def _may_train(self, one: Node) -> bool:
        return one.gpus >= 1 if self._device == "GPU" else one.works

    def _left(self) -> Cluster:
        fit = [one.node for one in self._seen.values() if one.is_fit]
        driving = [one for one in fit if one.resources.get(DRIVER) or not self._there.has_driver_resource]
        bad = [one for one in self._seen.values() if not one.is_fit]
        # In the place of one that is gone another may come.
        refused = [one.node.resources for one in bad if not one.gone]
        taken = {name: sum(one.get(name, 0.0) for one in refused) for name in self._there.most}
        most = {name: value - taken[name] for name, value in self._there.most.items()}
        if not driving or not (any(one.works for one in fit) or max(most.values(), default=0) > 0):
            role = "run trials" if driving else "hold the drivers of trials"
            told = "".join(f"\n  {line}" for one in bad for line in lines(one))
            raise ConfigurationError(f"no node of the cluster at {self._there.address} may {role}:{told}")
        total = {name: sum(one.resources.get(name, 0.0) for one in fit) for name in ("CPU", "GPU", "memory")}
        return replace(
            self._there, nodes=len(fit), cpus=total["CPU"], gpus=total["GPU"], memory_bytes=total["memory"], most=most,
            node_resources=tuple(one.resources for one in fit), refused=frozenset(one.node.id for one in bad),
        )  # fmt: skip

    def _follow(self) -> None:
        while not self._over.wait(POLL_SECONDS):
            try:
                nodes = preflight.alive()
                if new := [one for one in nodes if one.id not in self._seen or self._seen[one.id].gone]:
                    self._note(self._inspect(new))
                if self._there.most:
                    self._wait_for(nodes)
            # Ray's server restarts, or the folder is full for a while: trials meet the same and decide; this asks again.
            except Exception as error:
                if first_line(error) != self._complaint:
                    self._complaint = first_line(error)
                    print(f"cannot look at the nodes, trying again: {without_passwords(str(error))}", file=sys.stderr)

    def _wait_for(self, nodes: Sequence[Node]) -> None:
        refused, wanted = set(self.refused), self._wanted()
        there = sum(one.resources.get(self._device, 0.0) for one in nodes if one.id not in refused)
        text = f"waiting for machines: {there:g} of {wanted:g} {self._device}s are there" if there < wanted else ""
        if text and text != self._shown:
            self._say(text)
        self._same_turns = self._same_turns + 1 if text == self._shown else 0
        if text and self._same_turns == _LONG_WAIT_TURNS:
            self._say(f"{text}, as for {_LONG_WAIT_TURNS * POLL_SECONDS / 60:.0f} minutes now; {_WHY_NONE_COMES}")
        self._shown = text


def lines(seen: Seen) -> Iterator[str]:
    """Say what is not well with a node: a line for each finding, then what to do about it."""
    for one in seen.findings:
        if one.level != OK:
            advice = f" -> {one.advice}" if one.advice else ""
            yield f"{'NOT USED' if one.level == FAULT else 'warning'}: node {seen.node}: {one.text}{advice}"


def _why(seen: Seen) -> str:
    return "; ".join(one.text for one in seen.findings if one.level == FAULT)
