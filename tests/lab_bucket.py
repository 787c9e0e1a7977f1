"""A bucket on a machine of its own, for studies of the lab of `tests/lab.py` that share no folder."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from hosts import until
from lab import HEAD, LAPTOP, ROOT, START_SECONDS, STORAGE, WORKERS, Lab

_S3_PORT = 9000
_MAKE_BUCKET = (
    "from urllib.request import Request, urlopen; urlopen(Request({address!r} + '/speech', method='PUT'), timeout=5)"
)


@dataclass
class Bucket:
    """Studies in a bucket that only the hosts reach.

    Attributes:
        lab: the hosts.
        variables: by which programs find its server.
    """

    lab: Lab
    variables: Mapping[str, str]

    def uri(self, name: str) -> str:
        """Return where a study lies."""
        return f"s3://speech/studies/{name}"

    def look(self, name: str) -> None:
        """Copy what is new of a study to where those in the shared folder lie."""
        folders = f"Path('/shared/studies/{name}'), Path('/shared/copied-{name}.json')"
        copy = f"Mirror({self.uri(name)!r}, {folders}).pull('', is_light)"
        script = f"from pathlib import Path; from launcher.mirror import Mirror; from launcher.places import is_light; {copy}"
        self.lab.hosts[LAPTOP].run(f"cd {ROOT} && {self.told} .venv/bin/python -c {shlex.quote(script)}")

    @property
    def told(self) -> str:
        """The variables before a command."""
        return " ".join(f"{name}={value}" for name, value in self.variables.items())


def serve(lab: Lab) -> Bucket:
    """Start a server of S3 on a machine of its own, with one bucket; all others have the keys to it."""
    server = lab.hosts[STORAGE]
    address = f"http://{server.address}:{_S3_PORT}"
    command = f"{ROOT}/.venv/bin/python -m moto.server --host {server.address} --port {_S3_PORT}"
    server.start(f"exec {command}", lab.scratch / "s3.log")
    ask = f"{ROOT}/.venv/bin/python -c {shlex.quote(_MAKE_BUCKET.format(address=address))}"
    until("a server of S3", lambda: server.run(ask, check=False).returncode == 0, START_SECONDS)
    for name in (HEAD, *WORKERS, LAPTOP):
        keys = lab.hosts[name].folder / "home" / ".aws" / "credentials"
        keys.parent.mkdir(mode=0o700)
        keys.write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
    return Bucket(lab, {"AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true"})
