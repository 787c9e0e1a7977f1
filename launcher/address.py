"""Which Ray a study runs on: the one that was asked for, the cluster that this machine belongs to, or one of its own."""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from launcher import doors
from launcher.config import ConfigurationError

_MEETING_SECONDS, _LOOK_SECONDS = 20.0, 2.0
_FILE = "ray_current_cluster"
_VERSIONS = re.compile(r"Ray: (\S+)\s+Python: (\S+)\s.*Ray: (\S+)\s+Python: (\S+)", re.DOTALL)


@dataclass(frozen=True)
class Choice:
    """Where a study runs.

    Attributes:
        address: of the cluster; None: Ray is started for the study.
        told: a line that says so.
        was_found: nobody named it: where it does not take this machine's token, Ray is started for the study.
    """

    address: str | None
    told: str
    was_found: bool = False


def choose(asked: str | None) -> Choice:
    """Choose by --address, then RAY_ADDRESS, then what `ray start` left on this machine.

    The Ray that a study starts for itself leaves nothing there, so that no other study joins it.

    Args:
        asked: as --address; "local": Ray is to be started for this study.
    """
    if (named := asked or os.environ.get("RAY_ADDRESS")) == "local":
        return Choice(None, "starting Ray ...")
    if named:
        return Choice(named, f"connecting to {named} ({'--address' if asked else 'RAY_ADDRESS'}) ...")
    there = _current()
    if there is None:
        return Choice(None, "starting Ray ...")
    if not _listens(there, _LOOK_SECONDS):
        return Choice(None, f"starting Ray: the cluster at {there} that this machine was part of does not answer")
    if not _has_token():
        text = (
            f"starting Ray: this machine is part of a cluster at {there}, for which it has no token (~/.ray/auth_token)"
        )
        return Choice(None, text)
    return Choice(there, f"using the Ray cluster at {there}; --address local starts one for this study alone", True)


def meet(address: str) -> None:
    """Look whether anybody listens at host:port; Ray itself asks a host that is gone for minutes.

    Raises:
        ConfigurationError: nobody does, or this is no address of a cluster.
    """
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    if not host or "/" in address or not port.isdecimal():
        raise ConfigurationError(
            f"--address (or RAY_ADDRESS) {address!r}: give host:port of the cluster's head, as in 10.0.0.1:6379, or auto, "
            "or local for a Ray of this study alone (ray:// is Ray Client, by which no study runs: submit a job, docs/clusters.md)"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _MEETING_SECONDS).close()
    except OSError as error:
        raise no_answer(address, error) from error


def is_open(address: str) -> bool:
    """Meet a cluster, and look whether it lets in whoever reaches its ports.

    Raises:
        ConfigurationError: nobody listens; or it does, and nothing says that this is meant.
    """
    meet(address)
    if not doors.is_open((_current() or address) if address == "auto" else address):
        return False
    if os.environ.get("RAY_AUTH_MODE") == "disabled":
        return True
    raise ConfigurationError(
        f"the cluster at {address} asks for no token: whoever reaches its ports runs code as its user, and reads your data. Start "
        "Ray with RAY_AUTH_MODE=token on every node (docs/clusters.md); or, where nobody else reaches these ports, export "
        "RAY_AUTH_MODE=disabled to run there all the same; or --address local for a Ray of this study alone"
    )


def no_answer(address: str | None, error: Exception) -> ConfigurationError:
    """Say that no cluster answers."""
    return ConfigurationError(
        f"no Ray cluster answers at --address {address!r} ({error}); check `ray status` there and that "
        "RAY_AUTH_TOKEN or ~/.ray/auth_token holds its token"
    )


def not_let_in(address: str) -> ConfigurationError:
    """Say that a cluster does not take the token of this machine, or that there is none."""
    return ConfigurationError(
        f"the cluster at --address {address!r} asks for its token: put it into ~/.ray/auth_token or RAY_AUTH_TOKEN"
    )


def other_versions(address: str, error: Exception) -> ConfigurationError | None:
    """Say that a cluster runs another Ray or Python than the launch; None: the error is another one."""
    found = _VERSIONS.search(str(error))
    if not str(error).startswith("Version mismatch") or found is None:
        return None
    return ConfigurationError(
        f"the cluster at {address} runs Ray {found[1]} with Python {found[2]}, this launch Ray {found[3]} with Python "
        f"{found[4]}, and Ray asks for the same of both; give the command on the cluster (ray job submit --working-dir . "
        "-- python launch.py ...), or with an environment of the cluster's versions"
    )


def _current() -> str | None:
    """Read which cluster `ray start` made this machine a part of; not one on the loopback, which is nobody else's."""
    path = Path(os.environ.get("RAY_TMPDIR") or os.environ.get("TMPDIR") or "/tmp", "ray", _FILE)
    try:
        address = path.read_text(encoding="utf-8").strip()
    except OSError:
        return None
    host, colon, port = address.rpartition(":")
    return address if colon and port.isdecimal() and not _is_loopback(host.strip("[]")) else None


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _listens(address: str, seconds: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), seconds).close()
    except OSError:
        return False
    return True


def _has_token() -> bool:
    named = os.environ.get("RAY_AUTH_TOKEN_PATH")
    return bool(os.environ.get("RAY_AUTH_TOKEN")) or Path(named or Path.home() / ".ray" / "auth_token").is_file()
