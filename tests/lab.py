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
SHORT, LONG, LONGEST = (1, 2), 75, 220
"""Epochs. Two trials are done soon, one is long enough for a fault to hit it in its middle (about 40 s on two quiet cores), one is
still not done when Ray gives a host up that does not answer (65 s)."""
START_SECONDS, STUDY_SECONDS, _LOAD_SECONDS = 480.0, 480.0, 120.0
_NODES = """
import time, ray
ray.init(address="auto", log_to_driver=False, logging_level="ERROR")
end = time.monotonic() + {seconds}
while (there := sorted(node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"])) != {wanted}:
    if time.monotonic() > end:
        break
    time.sleep(1)
print("answer:", *there)
"""
_STATUS = """
import time
from ray.job_submission import JobSubmissionClient
client, end = JobSubmissionClient("http://127.0.0.1:8265"), time.monotonic() + {seconds}
while (status := client.get_job_status({number!r}).value) in ("PENDING", "RUNNING") and time.monotonic() < end:
    time.sleep(1)
print("answer:", status)
"""
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
    _reference: subprocess.Popen[str] | None = None

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

    def up(self, *, late: str = "") -> None:
        """Bring the cluster up and wait for all of its machines.

        Args:
            late: the name of a worker on which Ray does not start at first; "": Ray starts on all at once.
        """
        program = f"{CHECKOUT}/.venv/bin/ray"
        if late:
            self.hosts[late].run(f"mount --bind /bin/false {program}")
        self.laptop("ray up -y ~/lab.yaml", seconds=START_SECONDS)
        if late:
            until("another try", lambda: processes(self.hosts[late], "sleep 10$"), START_SECONDS)
            self.hosts[late].run(f"umount {program}")
        self.wait_for_all()

    def wait_for_all(self) -> None:
        """Wait until the cluster has head and workers again, none of them twice."""
        all_of_them = sorted(self.hosts[name].address for name in (HEAD, *WORKERS))
        found = self._asked(_NODES.format(wanted=all_of_them, seconds=START_SECONDS), START_SECONDS)
        assert found.split() == all_of_them, f"found {found} within {START_SECONDS:g} s\n{self._why_not()}"
        self.laptop("ray exec ~/lab.yaml 'ray status'")

    def _asked(self, script: str, seconds: float) -> str:
        """Return the answer of a script on the head that waits for something itself: to load Ray for each question takes a core."""
        line = f"RAY_AUTH_MODE=token {CHECKOUT}/.venv/bin/python -c {shlex.quote(script)}"
        told = self.hosts[HEAD].run(line, seconds=seconds + _LOAD_SECONDS).stdout
        (answer,) = re.findall(r"^answer: (.*)$", told, flags=re.MULTILINE)  # Ray may speak too, of nodes that died
        return answer

    def _why_not(self) -> str:
        """What the autoscaler and the machines say when a worker stays away."""
        lines = {HEAD: "tail -n 60 /tmp/ray/session_latest/logs/monitor.*"}
        lines |= dict.fromkeys(WORKERS, "tail -n 15 /tmp/ray/session_latest/logs/{raylet,gcs_server,dashboard_agent}.*")
        told = ""
        for name, line in lines.items():
            done = self.hosts[name].run(f"ps -eo pid,etimes,args | cut -c -200; {line}", check=False)
            told += f"--- {name}\n{done.stdout}{done.stderr}"
        return told

    def begin_reference(self, epochs: Sequence[int]) -> None:
        """Begin a study to which nothing is going to happen, on a machine by itself; it runs beside the first tests."""
        line = f"{_prelude()} exec {launch('reference', epochs, '--backend tune')}"
        self._reference = self.hosts[STORAGE].start(line, self.scratch / "reference.log")

    def reference(self) -> Path:
        """Wait for the end of that study; returns its folder."""
        assert self._reference is not None
        assert self._reference.wait(STUDY_SECONDS) == 0, (self.scratch / "reference.log").read_text()
        return self.folder("reference")

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
        """Wait for the end of a job; returns how the head says that it ended: the client may be gone."""
        status = self._asked(_STATUS.format(number=job.number, seconds=STUDY_SECONDS), STUDY_SECONDS)
        assert status in ("SUCCEEDED", "FAILED", "STOPPED"), f"{job.name} is {status} after {STUDY_SECONDS:g} s"
        return status

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

    def _open_tunnel(self) -> None:
        laptop = self.hosts[LAPTOP]

        def is_open() -> bool:
            return laptop.run("exec 3<>/dev/tcp/127.0.0.1/8265", check=False).returncode == 0

        if is_open():
            return
        laptop.start(f"{_prelude()} exec ray dashboard ~/lab.yaml", self.scratch / "tunnel.log")
        until("the tunnel", is_open, START_SECONDS)


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
