"""Before the first trial, and for every node that joins later: which nodes of a cluster may run trials of this launch.

A node that may not is named with the reason and kept free of trials: they are placed by the labels that Ray gives to its
nodes. What each node is stands in `nodes.json` of the study. The Ray that a study starts for itself is not looked at.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from launcher import node, results
from launcher.findings import FAULT, Finding
from launcher.fitness import judge

FILE = "nodes.json"
SECONDS = 180.0
"""For the answer of a node; the first worker there may have to fetch the code of the job."""
_LABEL = "ray.io/node-id"


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
    """What was found out about a node: findings, and facts where it answered."""

    node: Node
    findings: Sequence[Finding]
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_fit(self) -> bool:
        """Whether trials may run there."""
        return all(finding.level != FAULT for finding in self.findings)

    @property
    def row(self) -> dict[str, Any]:
        """What `nodes.json` keeps of it."""
        kept = {name: value for name, value in self.facts.items() if name not in ("out", "store", "time")}
        found = [asdict(finding) for finding in self.findings]
        return {**asdict(self.node), "fit": self.is_fit, "findings": found, **kept}


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
    """
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    cloudpickle.register_pickle_by_value(node)  # type: ignore[attr-defined]
    try:
        remote: Any = ray.remote(num_cpus=0, max_retries=0)
        look = remote(node.look)
        begun = {
            look.options(scheduling_strategy=NodeAffinitySchedulingStrategy(one.id, soft=False)).remote(
                dict(asked), one.gpus, works=one.works
            ): one
            for one in nodes
        }
    finally:
        cloudpickle.unregister_pickle_by_value(node)  # type: ignore[attr-defined]
    seen, waiting, until = [], list(begun), time.monotonic() + seconds
    while waiting:
        (ready, waiting) = ray.wait(waiting, num_returns=1, timeout=max(0.0, until - time.monotonic()))
        came = time.time()
        if not ready:
            break
        seen += [_answer(begun[reference], reference, came, asked, launch) for reference in ready]
    for reference in waiting:
        ray.cancel(reference, force=True)
        advice = "look at `ray status`, and at /tmp/ray/session_latest/logs/raylet.err there"
        late = Finding(FAULT, "node", f"it did not answer within {seconds:.0f} s", advice)
        seen.append(Seen(begun[reference], [late]))
    return seen


def _answer(one: Node, reference: Any, came: float, asked: Mapping[str, Any], launch: Mapping[str, Any]) -> Seen:
    import ray
    from ray.exceptions import RayError

    try:
        facts: Any = ray.get(reference)
    except RayError as error:
        told = " ".join(str(error).split())[-400:]
        return Seen(one, [Finding(FAULT, "node", f"it cannot be looked at: {told}", "look at this error first")])
    if "answer" in (facts["out"] or {}):
        found = node.read(asked["out"], facts["out"]["answer"])
        facts["out"]["seen"] = found == facts["out"]["content"]
    return Seen(one, judge(facts, launch, asked, gpus=one.gpus, skew=facts["time"] - came), facts)


def admit(job: Mapping[str, Any], *, works: bool) -> None:
    """Look at the node of this process before a trial begins here; once for each process.

    Args:
        job: of the trial, with `preflight` as the launch made it (`guard.Guard.told`).
        works: it trains here; else only its driver runs.

    Raises:
        Unfit: it may not.
    """
    if job.get("preflight") is None or (job["launch"], works) in _ADMITTED:
        return
    import ray

    asked, launch = job["preflight"]["asked"], job["preflight"]["launch"]
    facts = node.look({**asked, "answers": False}, 0, works=works)
    gpus = len(ray.get_gpu_ids()) if works else 0
    if gpus:
        import torch  # here, where a trial loads it anyway

        facts["gpu"] = {"sees": torch.cuda.device_count(), "build": torch.version.cuda, "driver": "not asked"}
    if faults := [one.text for one in judge(facts, launch, asked, gpus=gpus) if one.level == FAULT]:
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
