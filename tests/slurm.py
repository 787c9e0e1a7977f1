"""A real Slurm on the hosts of `tests/hosts.py`: munge, slurmctld and slurmd of Debian, and jobs of `clusters/slurm.sbatch` on it."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hosts
from hosts import Host, Hosts, until

ROOT = Path(__file__).resolve().parents[1]
NODES = ("node1", "node2")
"""The first one is also where the controller runs, and where jobs are submitted."""
PLACE = "/cluster"
"""What all nodes see. Not /shared, which tests/lab.py lays: when one of two runs ends, the other would lose it."""
CHECKOUT = f"{PLACE}/lossgrid"
START_SECONDS, STUDY_SECONDS = 60.0, 300.0
_TOOLS = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
# Without control groups and accounting, which want a system of their own: what a job leaves behind is not swept up by Slurm.
_CONFIGURATION = """
ClusterName=lossgrid
SlurmctldHost={controller}
SlurmUser=root
AuthType=auth/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir=/run/slurmd
SlurmctldPidFile=/run/slurmctld.pid
SlurmdPidFile=/run/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP
"""


def missing() -> str:
    """Say what keeps Slurm from being brought up here; "": nothing does."""
    path = f"{os.environ['PATH']}:/usr/sbin:/sbin"
    packages = sorted({package for tool, package in _TOOLS.items() if shutil.which(tool, path=path) is None})
    return hosts.missing() or (f"needs the packages {' '.join(packages)}" if packages else "")


@dataclass
class Slurm:
    """Brings Slurm up and gives it studies.

    Attributes:
        machines: the hosts.
        shared: what they see as PLACE.
        folder: for keys, state and logs of Slurm.
    """

    machines: Hosts
    shared: Path
    folder: Path

    def start(self) -> None:
        """Start its daemons, and wait until all nodes are ready for jobs."""
        (self.folder / "state").mkdir(parents=True)
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(64))
        key.chmod(0o600)
        first = self.machines[NODES[0]]
        nodes = "\n".join(
            f"NodeName={name} NodeAddr={self.machines[name].address} CPUs=2 RealMemory=8000" for name in NODES
        )
        text = _CONFIGURATION.format(controller=f"{first.name}({first.address})", folder=self.folder, nodes=nodes)
        (self.folder / "slurm.conf").write_text(text)
        for (
            name
        ) in NODES:  # munged runs as `munge` on machines of a kind with Slurm; --force: as root, in folders of ours
            log = f"--log-file={self.folder}/munged-{name}.log"
            self.machines[name].run(f"mkdir -p /run/munge /run/slurmd && munged --force --key-file={key} {log}")
        self.run("slurmctld")
        for name in NODES:
            self.machines[name].run(f"SLURM_CONF={self.folder}/slurm.conf slurmd -N {name}")
        idle = ["idle"] * len(NODES)
        until("all nodes", lambda: self.run("sinfo --noheader --Node --format=%T").split() == idle, START_SECONDS)

    def run(self, line: str) -> str:
        """Type a line on the first node, in the checkout; returns what was printed."""
        environment = f"SLURM_CONF={self.folder}/slurm.conf LOSSGRID_POLL_SECONDS=1"
        return self.machines[NODES[0]].run(f"cd {CHECKOUT} && export {environment} && {line}").stdout

    def submit(self, study: str, minutes: int = 60) -> str:
        """Submit a study, with what these small nodes have in the place of the file's own wishes; returns the job's number."""
        wishes = f"--gpus-per-node=0 --cpus-per-task=2 --mem=6G --time={minutes}"
        told = self.run(f"sbatch {wishes} --output={PLACE}/slurm-%j.log clusters/slurm.sbatch {study}")
        return told.split()[-1]

    def log(self, job: str) -> str:
        """Return what a job said."""
        return (self.shared / f"slurm-{job}.log").read_text()

    def finish(self, job: str) -> tuple[str, str]:
        """Wait for the end of a job, and of its steps; returns how Slurm says that it ended, and its exit code."""

        def said(name: str) -> Any:
            found = re.search(rf"\b{name}=(\S+)", self.run(f"scontrol show job {job}"))
            assert found is not None
            return found.group(1)

        until(
            f"the end of job {job}", lambda: said("JobState") not in ("PENDING", "RUNNING", "COMPLETING"), STUDY_SECONDS
        )
        return said("JobState"), said("ExitCode")

    def tokens(self) -> Sequence[Path]:
        """Return the files with tokens of jobs; their home is that of who submits."""
        return list((self.machines[NODES[0]].folder / "home").glob(".lossgrid-token*"))

    def nodes(self) -> Sequence[Host]:
        """Return the machines on which jobs run."""
        return [self.machines[name] for name in NODES]
