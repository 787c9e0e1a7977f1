"""The cluster of `clusters/lab.yaml` on the hosts of `tests/hosts.py`, with studies as its jobs; steps as in docs/clusters.md."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hosts import Host, Hosts, until

ROOT = Path(__file__).resolve().parents[1]
HEAD, WORKERS, LAPTOP, STRANGER, STORAGE = "head", ("worker1", "worker2"), "laptop", "stranger", "storage"
CHECKOUT = "/shared/lossgrid"
SHORT, LONG, LONGEST = (1, 2), 90, 220
"""Epochs. Two trials are done soon, one is long enough for a fault to hit it in its middle (45 s on two quiet cores), one is
still not done when Ray gives a host up that does not answer (65 s)."""
START_SECONDS, STUDY_SECONDS = 300.0, 480.0
_S3_PORT = 9000
_MAKE_BUCKET = (
    "from urllib.request import Request, urlopen; urlopen(Request({address!r} + '/speech', method='PUT'), timeout=5)"
)
_SUBMITTED = re.compile(r"Job '(raysubmit_\w+)' submitted")


@dataclass
class Job:
    """A study on the cluster, and the client that follows it."""

    name: str
    client: subprocess.Popen[str]
    log: Path

    @property
    def number(self) -> str:
        """What Ray calls it; "": it has not been submitted yet."""
        found = _SUBMITTED.search(self.log.read_text())
        return found.group(1) if found else ""


@dataclass
class Lab:
    """Brings the cluster up from a laptop and gives it studies.

    Attributes:
        hosts: the machines.
        shared: what the machines see as /shared.
        scratch: for logs; `transcript.md` holds what was typed, `faults.json` what the faults did.
    """

    hosts: Hosts
    shared: Path
    scratch: Path
    faults: list[dict[str, Any]] = field(default_factory=list)

    def write_file(self) -> None:
        """Write `clusters/lab.yaml` with addresses, user and key of these hosts into the home of the laptop."""
        cluster = yaml.safe_load((ROOT / "clusters" / "lab.yaml").read_text(encoding="utf-8"))
        assert cluster["auth"].keys() == {"ssh_user", "ssh_private_key"}
        addresses = {"head_ip": self.hosts[HEAD].address, "worker_ips": [self.hosts[name].address for name in WORKERS]}
        cluster["provider"].update(addresses)
        cluster["auth"] = {"ssh_user": "root", "ssh_private_key": "~/.ssh/id_ed25519"}
        home = self.hosts[LAPTOP].folder / "home"
        (home / ".ssh").mkdir(mode=0o700)
        shutil.copy(self.hosts.key, home / ".ssh" / "id_ed25519")
        (home / "lab.yaml").write_text(yaml.safe_dump(cluster, sort_keys=False), encoding="utf-8")

    def laptop(self, line: str, *, seconds: float = START_SECONDS, check: bool = True) -> str:
        """Type a line on the laptop, in the checkout; returns what was printed."""
        began = time.monotonic()
        done = self.hosts[LAPTOP].run(f"{_prelude()} ({line}) 2>&1", seconds=seconds, check=check)
        with (self.scratch / "transcript.md").open("a") as transcript:
            took = f"[{time.monotonic() - began:.0f} s, exit code {done.returncode}]"
            transcript.write(f"laptop$ {line}\n{_trimmed(done.stdout)}\n{took}\n\n")
        return done.stdout

    def up(self) -> None:
        """Bring the cluster up and wait for all of its machines."""
        self.laptop("ray up -y ~/lab.yaml", seconds=START_SECONDS)
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until the cluster has head and workers again, none of them twice."""
        asked = "import ray; ray.init(address='auto', log_to_driver=False, logging_level='ERROR'); "
        asked += "print(*sorted(node['NodeManagerAddress'] for node in ray.nodes() if node['Alive']))"
        line = f"RAY_AUTH_MODE=token {CHECKOUT}/.venv/bin/python -c {shlex.quote(asked)}"
        all_of_them = sorted(self.hosts[name].address for name in (HEAD, *WORKERS))
        until("all machines", lambda: self.hosts[HEAD].run(line).stdout.split() == all_of_them, START_SECONDS)
        self.laptop("ray exec ~/lab.yaml 'ray status'")

    def folder(self, name: str) -> Path:
        """Return the folder of a study."""
        return self.shared / "studies" / name

    def submit(
        self, name: str, *words: str, longest: int = LONG, out: str = "", variables: Mapping[str, str] | None = None
    ) -> Job:
        """Give a study to the cluster, as step 5 says; returns once the job is accepted.

        Args:
            name: of the study.
            words: of the command.
            longest: epochs of its longest trial.
            out: where it lies; "": in the shared folder, by its name.
            variables: what all processes of the job find in their environment.
        """
        self._open_tunnel()
        study = launch(name, (*SHORT, longest), *words, out=out)
        more = f" --runtime-env-json {shlex.quote(json.dumps({'env_vars': dict(variables)}))}" if variables else ""
        line = f"ray job submit --address http://127.0.0.1:8265 --working-dir .{more} -- {study}"
        log = self.scratch / f"{name}-{time.monotonic_ns()}.log"
        job = Job(name, self.hosts[LAPTOP].start(f"{_prelude()} exec {line}", log), log)
        until("a job", lambda: job.number or job.client.poll() is not None, START_SECONDS)
        assert job.number, log.read_text()
        with (self.scratch / "transcript.md").open("a") as transcript:
            transcript.write(f"laptop$ {line}\n... Job '{job.number}' submitted successfully\n\n")
        return job

    def close_the_laptop(self, job: Job) -> None:
        """Kill the client, and take the laptop off the network."""
        laptop = self.hosts[LAPTOP]
        clients = processes(laptop, r"\S*python\S* \S*/ray job submit")
        assert clients, job.log.read_text()
        laptop.run(f"kill -9 {' '.join(map(str, clients))}")
        laptop.cut_off()

    def finish(self, job: Job) -> str:
        """Wait for the end of a job; returns how Ray says that it ended."""
        until(f"the end of {job.name}", lambda: self.status(job) in ("SUCCEEDED", "FAILED", "STOPPED"), STUDY_SECONDS)
        return self.status(job)

    def status(self, job: Job) -> str:
        """Ask the head how a job is; the client may be gone."""
        asked = "from ray.job_submission import JobSubmissionClient as C; "
        asked += f"print(C('http://127.0.0.1:8265').get_job_status('{job.number}').value)"
        line = f"RAY_AUTH_MODE=token {CHECKOUT}/.venv/bin/python -c {shlex.quote(asked)}"
        return self.hosts[HEAD].run(line).stdout.strip()

    def trial(self, name: str) -> Path:
        """Return the folder of the longest trial of a study."""
        trials = self.folder(name).glob("trials/*/trial.conf")
        return max((path.parent for path in trials), key=_epochs)

    def wait_for_the_middle(self, name: str, look: Callable[[], object] = lambda: None) -> Path:
        """Wait until a trial is done and the long one is behind a checkpoint; returns the folder of the long one.

        Args:
            name: of the study.
            look: copies what is new of a study that does not lie in the shared folder.
        """

        def is_midway() -> bool:
            look()
            results = list(self.folder(name).glob("trials/*/result.json"))
            if not results:
                return False
            assert self.trial(name) / "result.json" not in results, "the long trial was too short"
            return any(self.trial(name).glob("checkpoints/*/sealed.json"))

        until(f"the middle of {name}", is_midway, STUDY_SECONDS)
        return self.trial(name)

    def host_of(self, trial: Path) -> Host:
        """Return the host on which a trial runs: a process there has opened its lock."""
        line = f"ls -l /proc/[0-9]*/fd 2>/dev/null | grep -F {trial.name}/.lock"
        (host,) = [self.hosts[name] for name in WORKERS if self.hosts[name].run(line, check=False).stdout]
        return host

    def note(self, fault: str, **said: Any) -> None:
        """Write down what a fault did."""
        self.faults.append({"fault": fault, **said})
        (self.scratch / "faults.json").write_text(json.dumps(self.faults, indent=1))
        print(self.faults[-1], file=sys.stderr)

    def serve_a_bucket(self) -> Bucket:
        """Start a server of S3 on a machine of its own, with one bucket; all others have the keys to it."""
        server = self.hosts[STORAGE]
        address = f"http://{server.address}:{_S3_PORT}"
        command = f"{ROOT}/.venv/bin/python -m moto.server --host {server.address} --port {_S3_PORT}"
        server.start(f"exec {command}", self.scratch / "s3.log")
        ask = f"{ROOT}/.venv/bin/python -c {shlex.quote(_MAKE_BUCKET.format(address=address))}"
        until("a server of S3", lambda: server.run(ask, check=False).returncode == 0, START_SECONDS)
        for name in (HEAD, *WORKERS, LAPTOP):
            keys = self.hosts[name].folder / "home" / ".aws" / "credentials"
            keys.parent.mkdir(mode=0o700)
            keys.write_text("[default]\naws_access_key_id = test\naws_secret_access_key = test\n")
        return Bucket(self, {"AWS_ENDPOINT_URL": address, "AWS_EC2_METADATA_DISABLED": "true"})

    def _open_tunnel(self) -> None:
        laptop = self.hosts[LAPTOP]

        def is_open() -> bool:
            return laptop.run("exec 3<>/dev/tcp/127.0.0.1/8265", check=False).returncode == 0

        if is_open():
            return
        laptop.start(f"{_prelude()} exec ray dashboard ~/lab.yaml", self.scratch / "tunnel.log")
        until("the tunnel", is_open, START_SECONDS)


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


def launch(name: str, epochs: Sequence[int], *words: str, out: str = "") -> str:
    """Return the command of a study with trials of so many epochs; by its name, it lies in the shared folder."""
    axis = ",".join(map(str, epochs))
    study = (
        f"--grid smoke --set reduction=mean --set num_train_epochs={axis} --set save_strategy=steps --set save_steps=10"
    )
    return " ".join(
        ["python launch.py", study, "--max-concurrent 2", *words, f"--out {out or f'/shared/studies/{name}'}"]
    )


def _epochs(trial: Path) -> float:
    found = re.search(r"^num_train_epochs = (.+)$", (trial / "trial.conf").read_text(), flags=re.MULTILINE)
    assert found is not None
    return float(found.group(1))


def attempts(trial: Path) -> dict[str, Any]:
    """Read how often a trial was begun; a host may just write it."""
    with suppress(FileNotFoundError):
        return json.loads((trial / "attempts.json").read_text())
    return {"attempts": 0, "ended": []}


def checkpoint(trial: Path) -> int:
    """Return the update of the newest whole checkpoint of a trial; 0: there is none."""
    sealed = trial.glob("checkpoints/checkpoint-*/sealed.json")
    return max((int(path.parent.name.partition("-")[2]) for path in sealed), default=0)


def processes(host: Host, like: str) -> Sequence[int]:
    """Return the numbers of the processes of a host whose command lines match."""
    lines = [line.strip().partition(" ") for line in host.run("ps -eo pid,args").stdout.splitlines()[1:]]
    return [int(number) for number, _, words in lines if re.match(like, words.strip())]


def _prelude() -> str:
    return f"cd {ROOT} && export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 PATH={ROOT}/.venv/bin:$PATH &&"


def _trimmed(text: str) -> str:
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    noise = re.compile(r"VINFO|command_runner|WARNING working_dir|INFO packaging|^(sent|total) ")
    lines = [line for line in plain.splitlines() if line.strip() and not noise.search(line)]
    return "\n".join(lines if len(lines) < 40 else [*lines[:15], "...", *lines[-20:]])
