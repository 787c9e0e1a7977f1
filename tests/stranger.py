"""What somebody in the network can do to a cluster without its token; run on a host of the tests, prints JSON or one line.

python tests/stranger.py listening            # ports of this host that are open to others: [[port, process], ...]
python tests/stranger.py knock HOST PORT ...  # what each port answers: {port: answer}
python tests/stranger.py init|state|job HOST  # what Ray's own clients get
"""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable

import grpc

REFUSED, TOKEN, METRICS, SSH, SILENT = "refused", "token", "metrics", "ssh", "silent"
"""Nobody listens; nothing without the token; the counters of Prometheus; a greeting of SSH; no protocol of Ray's."""
_SECONDS = 5.0
_PATHS = ("/", "/metrics", "/api/jobs/", "/api/job_agent/jobs/", "/nodes?view=summary", "/logs")
# One call for each kind of server: it would tell of the cluster, run code, end a process or hand out an object.
_CALLS = (
    "NodeInfoGcsService/GetAllNodeInfo", "InternalKVGcsService/InternalKVKeys", "NodeManagerService/GetNodeStats",
    "ObjectManagerService/Pull", "CoreWorkerService/PushTask", "CoreWorkerService/Exit", "LogService/ListLogs",
    "ReporterService/GetTraceback", "RayletDriver/ClusterInfo", "RayletDriver/Schedule",
)  # fmt: skip
_NOT_HERE, _CLOSED = grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.UNAUTHENTICATED


def listening() -> list[tuple[int, str]]:
    """List the TCP ports of this host that are open to others, with the process behind each."""
    shown = subprocess.run(["ss", "-ltnpH"], capture_output=True, text=True, check=True).stdout
    found = []
    for line in shown.splitlines():
        address, _, port = line.split()[3].rpartition(":")
        process = re.search(r'users:\(\("([^"]+)"', line)
        if address not in ("127.0.0.1", "[::1]"):
            found.append((int(port), process.group(1) if process else "unknown"))
    return found


def knock(host: str, port: int) -> str:
    """Say how a port answers somebody without a token.

    Returns:
        one of the words above, or what was given away.
    """
    try:
        with socket.create_connection((host, port), _SECONDS) as connection:
            connection.settimeout(1.0)
            try:
                greeting = connection.recv(40)
            except TimeoutError:
                greeting = b""
    except ConnectionRefusedError:
        return REFUSED
    if greeting.startswith(b"SSH-"):
        return SSH
    return _asked_by_http(host, port) or _asked_by_grpc(host, port)


def _asked_by_http(host: str, port: int) -> str:
    answers = set()
    for path in _PATHS:
        connection = http.client.HTTPConnection(host, port, timeout=_SECONDS)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read().decode(errors="replace")
        except (OSError, http.client.HTTPException):
            return ""  # it speaks something else
        finally:
            connection.close()
        counters = answer.status == 200 and body.startswith("# HELP")
        secret = re.search(
            r"/shared/st|launch\.py|utterance|transcript", body
        )  # paths, command lines, data of the study
        if counters and secret is None:
            answers.add(METRICS)
        elif answer.status == 401:
            answers.add(TOKEN)
        else:
            answers.add(f"GET {path}: {answer.status} {body[:200]!r} {secret}")
    return " ".join(sorted(answers))


def _asked_by_grpc(host: str, port: int) -> str:
    codes = {}
    with grpc.insecure_channel(f"{host}:{port}") as channel:
        for call in _CALLS:
            try:
                answer = channel.unary_unary(f"/ray.rpc.{call}")(b"", timeout=_SECONDS)
            except grpc.RpcError as error:
                codes[call] = error.code()  # type: ignore[attr-defined]
                if codes[call] in (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE):
                    return SILENT
            else:
                return f"{call}: {answer[:200]!r}"
    if _CLOSED in codes.values() and set(codes.values()) <= {_NOT_HERE, _CLOSED}:
        return TOKEN
    return json.dumps({call: code.name for call, code in codes.items()})


def by_init(host: str) -> None:
    """Join the cluster as a driver."""
    import ray

    ray.init(address=f"{host}:6379", log_to_driver=False)


def by_state(host: str) -> None:
    """Ask for the list of nodes."""
    from ray.util.state import list_nodes

    print(list_nodes(address=f"{host}:6379"))


def by_job(host: str) -> None:
    """Give the agents of the host a job; the dashboard is tried by `knock`."""
    request = urllib.request.Request(
        f"http://{host}:52365/api/job_agent/jobs/", data=json.dumps({"entrypoint": "id"}).encode(), method="POST"
    )
    with urllib.request.urlopen(request, timeout=_SECONDS) as answer:
        print(answer.read())


_CLIENTS: dict[str, Callable[[str], None]] = {"init": by_init, "state": by_state, "job": by_job}


def main(words: list[str]) -> None:
    """Do what the first word says."""
    what, *rest = words
    if what == "listening":
        print(json.dumps(listening()))
    elif what == "knock":
        print(json.dumps({port: knock(rest[0], int(port)) for port in rest[1:]}))
    else:
        try:
            _CLIENTS[what](rest[0])
        except (Exception, SystemExit) as error:
            print(f"turned away: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
        else:
            print("let in")


if __name__ == "__main__":
    main(sys.argv[1:])
