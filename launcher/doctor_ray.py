"""Ray as `doctor` looks at it: what is set, what runs already, and a cluster started or met as a study does it."""

from __future__ import annotations

import logging
import os
import platform
import socket
import stat
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib import metadata
from pathlib import Path

import psutil

from launcher import cluster, doctor_machine, node, preflight
from launcher.findings import FAULT, OK, WARNING, Check, Finding, carry_out
from launcher.quantities import size

PORTS = {6379: "`ray start --head`", 8265: "Ray's dashboard", 10001: "Ray Client"}
_SECONDS_FOR_TASK, _SECONDS_FOR_STATE, _SECONDS_FOR_DASHBOARD = 120, 30, 30
_NAMES = ("raylet", "gcs_server")


def settings() -> Iterator[Finding]:
    """Look at the environment variables that decide how Ray is met."""
    mode = os.environ.get("RAY_AUTH_MODE")
    if mode not in (None, "token"):
        text = f"RAY_AUTH_MODE = {mode}: whoever reaches a port of a Ray that you start runs code as you, and studies join clusters that are open so"
        yield Finding(
            WARNING, "token", text, "unset RAY_AUTH_MODE; the Ray that a study starts for itself has a token anyhow"
        )
    if address := os.environ.get("RAY_ADDRESS"):
        yield Finding(OK, "ray", f"RAY_ADDRESS = {address}: studies without --address run there, not on this machine")
    yield from _token()


def _token() -> Iterator[Finding]:
    if os.environ.get("RAY_AUTH_TOKEN"):
        yield Finding(OK, "token", "RAY_AUTH_TOKEN is set")
        return
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    file = Path(named) if named else Path.home() / ".ray" / "auth_token"
    if not file.is_file():
        if named:
            text = f"RAY_AUTH_TOKEN_PATH = {named} is no file"
            yield Finding(FAULT, "token", text, "unset it, or: ray get-auth-token --generate")
        else:
            yield Finding(
                OK, "token", f"no {file}: a local study draws a token of its own, a cluster needs its own here"
            )
        return
    mode = stat.S_IMODE(file.stat().st_mode)
    if not file.read_text(encoding="utf-8").strip():
        yield Finding(WARNING, "token", f"{file} is empty", "copy the cluster's token into it")
    elif mode & 0o077:
        yield Finding(WARNING, "token", f"others may read {file} (mode {mode:04o})", f"chmod 600 {file}")
    else:
        yield Finding(OK, "token", f"{file} is yours alone")


def ports(wanted: Mapping[int, str] = PORTS) -> Iterator[Finding]:
    """Look whether somebody listens where Ray does by default; a local study then takes other ports."""
    taken = [port for port in wanted if not _is_free(port)]
    for port in taken:
        text = f"{port}, where {wanted[port]} listens by default, is taken by {_listener(port)}"
        yield Finding(
            WARNING, "ports", text, "a local study takes another; for `ray start` give another port, or end it"
        )
    if not taken:
        yield Finding(OK, "ports", f"{', '.join(map(str, wanted))} are free on this machine")


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        # A port whose last connection is not quite forgotten is free for a server.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


def _listener(port: int) -> str:
    try:
        listening = [one for one in psutil.net_connections("tcp") if one.status == psutil.CONN_LISTEN]
    except psutil.AccessDenied:  # macOS tells root alone
        listening = []
    owners = [one.pid for one in listening if one.laddr and one.laddr.port == port and one.pid is not None]
    if not owners:
        return "a process that this user may not see"
    try:
        return f"process {owners[0]} ({psutil.Process(owners[0]).name()})"
    except psutil.NoSuchProcess:
        return f"process {owners[0]}, which has just ended"


def left_over() -> list[Finding]:
    """Look for processes of Ray that this user has running; nothing is ended."""
    running: list[psutil.Process] = []
    for process in psutil.process_iter(["name", "uids"]):
        name, uids = process.info["name"] or "", process.info["uids"]
        if uids is not None and uids.real == os.getuid() and (name in _NAMES or name.startswith("ray::")):
            running.append(process)
    if not running:
        return [Finding(OK, "processes", "no Ray of this user runs now")]
    heads = ", ".join(f"{process.info['name']} {process.pid}" for process in running if process.info["name"] in _NAMES)
    text = f"{len(running)} processes of Ray run already ({heads or 'workers whose raylet is gone'})"
    advice = "a study that runs, or left over; `ray stop` ends every Ray of this user, a running study's too"
    return [Finding(WARNING, "processes", text, advice)]


def answers(address: str | None) -> Iterator[Finding]:
    """Start Ray on this machine, or meet a cluster, as a study does; run a task, ask the State API and the dashboard.

    Args:
        address: as `--address`; None: RAY_ADDRESS, else this machine.
    """
    begun = time.monotonic()
    with cluster.connected(address) as there:
        import ray

        took = time.monotonic() - begun
        sizing = cluster.size(there, 10**6, workers=1, backend="train", max_concurrent=None)
        kind = "GPU" if sizing.use_gpu else "CPU"
        yield Finding(
            OK, "ray",
            f"Ray {ray.__version__} {'answers' if there.address else 'starts here'} in {took:.1f} s: {there.nodes} nodes, "
            f"{there.cpus:g} CPUs, {there.gpus:g} GPUs, {size(there.memory_bytes)} for trials: "
            f"{sizing.max_concurrent} trials at a time, one {kind} each",
        )  # fmt: skip
        if not there.has_driver_resource:
            text = f"no node has the resource {cluster.DRIVER!r}: drivers of trials may land on nodes that can go away"
            advice = f"""ray start --head --resources='{{"{cluster.DRIVER}": 1000}}' ... (see cluster.yaml)"""
            yield Finding(WARNING, "ray", text, advice)
        yield from carry_out(
            (
                Check("task", _task, broken=FAULT),
                Check("state api", lambda: _state_api(there.nodes), broken=FAULT),
                Check("dashboard", _dashboard),
                Check("nodes", lambda: _nodes(there)),
            )
        )


def _nodes(there: cluster.Cluster) -> Iterator[Finding]:
    """Look at each node of a cluster as a study does before its first trial; of no folder, as there is no study."""
    if there.address is None:
        return
    nodes = preflight.alive()
    asked = {"out": None, "key": "", "secret": "", "answers": False, "store": None}
    launch = {**node.look(asked, 0, works=False), "code": there.code}
    for seen in preflight.inspect(nodes, asked, launch):
        for one in seen.findings:
            yield replace(one, about="node", text=f"{seen.node}: {one.text}")


def _facts() -> tuple[str, str | None]:
    """Return Python's version, and lossgrid's, where this is called."""
    try:
        return platform.python_version(), metadata.version("lossgrid")
    except metadata.PackageNotFoundError:
        return platform.python_version(), None


def _task() -> Iterator[Finding]:
    import ray

    begun = time.monotonic()
    # Ray hands on a function of a package by its name: a node without lossgrid fails here, as its trials would.
    reference = ray.remote(num_cpus=0)(_facts).remote()
    there = ray.get(reference, timeout=_SECONDS_FOR_TASK)
    yield Finding(OK, "task", f"a task came back after {time.monotonic() - begun:.1f} s")
    if there != _facts():
        text = f"a node has Python and lossgrid {there}, this machine {_facts()}: results may differ"
        yield Finding(WARNING, "task", text, "install the same on every node")


def _state_api(nodes: int) -> Iterator[Finding]:
    """Ask for the nodes: from here, and from a worker without an address, as Ray Train does for every trial."""
    import ray
    from ray.util.state import list_nodes

    own = ray.get_runtime_context().gcs_address
    alive = list_nodes(address=own, filters=[("state", "=", "ALIVE")], timeout=_SECONDS_FOR_STATE)
    if len(alive) != nodes:
        text = f"it knows {len(alive)} nodes, Ray itself {nodes}"
        yield Finding(WARNING, "state api", text, "is a node joining or leaving just now? look again")
    asked = ray.get(ray.remote(num_cpus=0)(_node_ids).remote(_SECONDS_FOR_STATE), timeout=_SECONDS_FOR_TASK)
    if asked == sorted(node["NodeID"] for node in ray.nodes()):
        yield Finding(OK, "state api", "it answers, also to trials: devices of those that are stopped are given back")
        return
    met = asked if isinstance(asked, str) else "another one answers"
    file = doctor_machine.ray_folder() / "ray_current_cluster"
    if file.is_file():
        met += f"; {file} names {file.read_text().strip()}, this Ray is {own}"
        advice = f"where no `ray start` is in use: rm {file}; else end the other Ray, or run on it with --address"
    else:
        advice = "run one Ray at a time on this machine"
    text = f"processes of trials do not find that of their own cluster ({met}): devices of killed trials stay taken"
    yield Finding(WARNING, "state api", text, advice)


def _node_ids(seconds: int) -> list[str] | str:
    """List the nodes that the State API knows where this is called, or say why it does not answer."""
    from ray.util.state import list_nodes

    try:
        return sorted(node.node_id for node in list_nodes(timeout=seconds))  # pyright: ignore
    except Exception as error:  # of many kinds: sent back as text, because some cannot be pickled
        return f"{type(error).__name__}: {error}"


def _dashboard() -> Iterator[Finding]:
    import ray

    url = ray.init(ignore_reinit_error=True, log_to_driver=False, logging_level=logging.ERROR).dashboard_url
    if not url:
        advice = "start the head with its dashboard (ray[default], --include-dashboard=true)"
        yield Finding(FAULT, "dashboard", "Ray has none: devices of stopped trials are never given back", advice)
        return
    code = _status_code(f"http://{url}/api/version", _read_token())
    if code == 200:
        yield Finding(OK, "dashboard", f"it answers at http://{url} (python launch.py dashboard DIR shows a study)")
    else:
        text = f"http://{url} says {code} to this machine's token"
        yield Finding(WARNING, "dashboard", text, "give RAY_AUTH_TOKEN or ~/.ray/auth_token the cluster's token")
    if _status_code(f"http://{url}/api/version", None) == 200:
        text = f"http://{url} answers without a token: whoever reaches it runs code as you"
        yield Finding(WARNING, "dashboard", text, "start Ray with RAY_AUTH_MODE=token on every node")


def _read_token() -> str | None:
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    file = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    return file.read_text(encoding="utf-8").strip() if file.is_file() else None


def _status_code(url: str, token: str | None) -> int:
    """Ask for a page, never through a proxy: the token is for Ray alone."""
    request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"} if token else {})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_SECONDS_FOR_DASHBOARD) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        return error.code
