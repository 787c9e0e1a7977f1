"""Before the first trial, and for every node that joins later: which nodes of a cluster may run trials of this launch.

A node that may not is named with the reason and kept free of trials: they are placed by the labels that Ray gives to its
nodes. What each node is stands in `nodes.json` of the study. The Ray that a study starts for itself is not looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher import node, results
from launcher.findings import FAULT, Finding
from launcher.fitness import judge, masked
from launcher.masking import of_key, without_passwords
from launcher.retries import StorageError, at_length

FILE = "nodes.json"
SECONDS = 180.0
"""For the answer of a node; the first worker there may have to fetch the code of the job."""
_LABEL = "ray.io/node-id"
_AT_A_TIME = 16
_LOG = "on the node: tail -n 50 /tmp/ray/session_latest/logs/{}"


@dataclass(frozen=True)
class Node:
    """A node as Ray tells it: id, host, address, resources."""

    id: str
    host: str
    address: str
    resources: Mapping[str, float]

    @property
    def gpus(self) -> float:
        """GPUs that Ray counts there."""
        return self.resources.get("GPU", 0.0)

    @property
    def works(self) -> bool:
        """Whether trials train there, not only their drivers."""
        return self.gpus >= 1 or self.resources.get("CPU", 0.0) >= 1

    def __str__(self) -> str:
        """Name it for a person."""
        return f"{self.host} ({self.address}, node {self.id[:8]})"


@dataclass(frozen=True)
class Seen:
    """What was found out about a node.

    Attributes:
        node: which.
        findings: how it stands; without passwords, whoever wrote their texts.
        facts: what it said of itself; empty: it did not answer.
        gone: it went away while it was looked at, as spot machines do: it may be fit should it still be there.
    """

    node: Node
    findings: Sequence[Finding]
    facts: Mapping[str, Any] = field(default_factory=dict)
    gone: bool = False

    def __post_init__(self) -> None:
        """Mask what is told: Ray's own errors, and those of a node with other code, may hold an address with its key."""
        object.__setattr__(self, "findings", tuple(masked(one) for one in self.findings))

    @property
    def misses_storage(self) -> bool:
        """Whether it could not read or write where the study lies for a reason that may pass, as an outage does."""
        return _misses_storage(self.facts)

    @property
    def is_fit(self) -> bool:
        """Whether trials may run there."""
        return all(finding.level != FAULT for finding in self.findings)

    @property
    def row(self) -> dict[str, Any]:
        """What `nodes.json` keeps of it."""
        kept = {name: value for name, value in self.facts.items() if name not in ("out", "store", "time")}
        found = [asdict(finding) for finding in self.findings]
        return of_key("", {**asdict(self.node), "fit": self.is_fit, "findings": found, **kept})


class Unfit(Exception):
    """Raised on a node that may not run a trial, before the trial begins there; args: id of the node, why."""


def alive() -> list[Node]:
    """List the nodes that Ray knows as alive."""
    import ray

    return [
        Node(one["NodeID"], one["NodeManagerHostname"], one["NodeManagerAddress"], one["Resources"])
        for one in ray.nodes()
        if one["Alive"]
    ]


def selector(refused: Iterable[str]) -> dict[str, str]:
    """Return the labels by which Ray keeps off nodes, by their ids; nothing where there are none."""
    ids = sorted(refused)
    # No space behind the comma: Ray 2.60 takes it for a part of the next value, and keeps off the first node alone.
    return {_LABEL: f"!in({','.join(ids)})"} if ids else {}


def refused_in(out: Path) -> list[str]:
    """Return the ids of the nodes that `nodes.json` of a study names as unfit."""
    path = out / FILE
    if not path.is_file():
        return []
    return [one["id"] for one in json.loads(path.read_text(encoding="utf-8"))["nodes"] if not one["fit"]]


def write(out: Path, launch: Mapping[str, Any], seen: Iterable[Seen]) -> None:
    """Write `nodes.json` of a study: what the launch is, and what each node is."""
    kept = {name: value for name, value in launch.items() if name not in ("out", "store", "time", "gpu")}
    results.write_json(out / FILE, {"launch": kept, "nodes": [one.row for one in seen]})


def inspect(
    nodes: Sequence[Node], asked: Mapping[str, Any], launch: Mapping[str, Any], seconds: float = SECONDS
) -> list[Seen]:
    """Look at nodes, all at the same time, with code that is sent along; see `node.look`.

    Args:
        nodes: alive ones.
        asked: what they are asked.
        launch: what the launch says of itself.
        seconds: how long an answer may take.

    Raises:
        StorageError: what nodes wrote could not be read back.
    """
    import ray
    from ray.exceptions import NodeDiedError, RayError

    begun = _begin(nodes, asked)
    came = _arrivals(list(begun), seconds)
    told: dict[Any, Any] = {}
    for reference in begun:
        try:
            told[reference] = ray.get(reference) if reference in came else None
        except RayError as error:
            told[reference] = error
    at_length(lambda: _read_back([one for one in told.values() if isinstance(one, dict)], asked["out"]))
    there, seen = {one.id for one in alive()}, []
    for reference, one in begun.items():
        facts = told[reference]
        if isinstance(facts, dict):
            skew = facts["time"] - came[reference]
            seen.append(Seen(one, judge(facts, launch, asked, gpus=one.gpus, skew=skew), facts))
            continue
        if facts is None:
            ray.cancel(reference, force=True)
        if one.id not in there or isinstance(facts, NodeDiedError):
            seen.append(Seen(one, [Finding(FAULT, "node", "it went away while it was looked at")], gone=True))
        else:
            seen.append(Seen(one, [_no_answer(facts, seconds)]))
    return seen


def _begin(nodes: Sequence[Node], asked: Mapping[str, Any]) -> dict[Any, Node]:
    """Have each node looked at; return which is asked by which task."""
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cloudpickle.register_pickle_by_value(node)  # type: ignore[attr-defined]
    try:
        remote: Any = ray.remote(num_cpus=0, max_retries=0)
        look = remote(node.look)
        return {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one.id, soft=False)).remote(
                dict(asked), one.gpus, works=one.works
            ): one
            for one in nodes
        }
    finally:
        cloudpickle.unregister_pickle_by_value(node)  # type: ignore[attr-defined]


def _arrivals(waiting: list[Any], seconds: float) -> dict[Any, float]:
    """Wait for answers; return when each came, by this machine's clock: nothing else is done meanwhile that takes time."""
    import ray

    came: dict[Any, float] = {}
    until = time.monotonic() + seconds
    while waiting:
        ready, waiting = ray.wait(waiting, num_returns=1, timeout=max(0.0, until - time.monotonic()))
        if not ready:
            break
        more, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=0) if waiting else ([], [])
        came |= dict.fromkeys([*ready, *more], time.time())
    return came


def _read_back(told: Sequence[dict[str, Any]], out: str) -> None:
    """Note whether the launch finds what nodes wrote; of all at the same time, as each may take half a second in a bucket."""

    def see(answer: dict[str, Any]) -> None:
        answer["seen"] = node.read(out, answer["answer"]) == answer["content"]

    answers = [facts["out"] for facts in told if facts["out"] and "answer" in facts["out"]]
    with ThreadPoolExecutor(_AT_A_TIME) as pool:
        list(pool.map(see, [one for one in answers if "seen" not in one]))


def _no_answer(error: BaseException | None, seconds: float) -> Finding:
    """Say that a node which is there could not be looked at."""
    from ray.exceptions import RuntimeEnvSetupError

    if error is None:
        advice = f"on the head: ray status; {_LOG.format('raylet.err')}"
        return Finding(FAULT, "node", f"it did not answer within {seconds:.0f} s", advice)
    told = without_passwords(" ".join(str(error).split()))[-400:]  # masked first: half an address looks like none
    log = "runtime_env_setup-*.log" if isinstance(error, RuntimeEnvSetupError) else "raylet.err"
    return Finding(FAULT, "node", f"it cannot be looked at: {told}", _LOG.format(log))


def look_here(asked: Mapping[str, Any], *, works: bool) -> dict[str, Any]:
    """Look at the node of this process; while the storage of the study is away it is waited for.

    Args:
        asked: see `node.look`; no answer is written.
        works: trials train here; else only their drivers run.

    Raises:
        StorageError: it is away for minutes, which is no fault of this node.
    """

    def look() -> dict[str, Any]:
        facts = node.look({**asked, "answers": False}, 0, works=works)
        if _misses_storage(facts):
            raise StorageError(facts["out"]["read"].removeprefix(f"{StorageError.__name__}: "))
        return facts

    return at_length(look)


def _misses_storage(facts: Mapping[str, Any]) -> bool:
    return bool((facts.get("out") or {}).get("may_pass"))


def admit(job: Mapping[str, Any], *, works: bool) -> None:
    """Look at the node of this process before a trial begins here; once for each process.

    Args:
        job: of the trial, with `preflight` as the launch made it (`guard.Guard.told`).
        works: it trains here; else only its driver runs.

    Raises:
        Unfit: it may not.
        StorageError: the storage of the study is away for minutes: no other node is better off.
    """
    if job.get("preflight") is None or (job["launch"], works) in _ADMITTED:
        return
    import ray

    asked, launch = job["preflight"]["asked"], job["preflight"]["launch"]
    facts = look_here(asked, works=works)
    gpus = len(ray.get_gpu_ids()) if works else 0
    if gpus:
        import torch  # here, where a trial loads it anyway

        facts["gpu"] = {"sees": torch.cuda.device_count(), "build": torch.version.cuda, "driver": "not asked"}
    found = judge(facts, launch, asked, gpus=gpus)
    if faults := [f"{one.text} -> {one.advice}" for one in found if one.level == FAULT]:
        raise Unfit(ray.get_runtime_context().get_node_id(), "; ".join(faults))
    _ADMITTED.add((job["launch"], works))


_ADMITTED: set[tuple[str, bool]] = set()


def unfit_nodes(error: BaseException | None) -> dict[str, str]:
    """Return which nodes an error of Ray says to be unfit, each with the reason."""
    found: dict[str, str] = {}
    left = [error] if error is not None else []
    while left:
        one = left.pop()
        if isinstance(one, Unfit):
            found[one.args[0]] = one.args[1]
        left += [*getattr(one, "worker_failures", {}).values(), *filter(None, (one.__cause__,))]
    return found
