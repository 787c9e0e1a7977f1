"""`clusters/slurm.sbatch` on a real Slurm of two nodes, with real Ray: studies end, stop behind checkpoints, go on, and leave nothing."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path

import lab
import pytest
import slurm
from hosts import Hosts, until
from slurm import CHECKOUT, NODES, PLACE, ROOT, STUDY_SECONDS, Slurm

from benchmarks import chaos
from launcher import results

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(slurm.missing()), reason=f"slurm: {slurm.missing()}")]
LONG = 25
"""Epochs: 12 s on two quiet cores, so that a stop hits it in its middle."""
LEFT = r".*(ray::|/ray[ /]|srun|launch\.py)"
"""What no node may run when a job has ended."""
STUDY = (
    "--grid smoke --set reduction=mean --set num_train_epochs={} --set save_strategy=steps --set save_steps=10 "
    f"--backend tune --out {PLACE}/studies/{{}}"
)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    scratch = tmp_path_factory.mktemp("slurm")
    shared = scratch / "shared"
    shared.mkdir()
    with Hosts(scratch / "hosts", NODES, {PLACE: shared, CHECKOUT: ROOT}, [ROOT, scratch]) as machines:
        cluster = Slurm(machines, shared, scratch / "slurm")
        cluster.start()
        yield cluster


def wait_for_the_middle(cluster: Slurm, job: str, study: Path) -> Path:
    """Wait until one trial is done and the other is behind a checkpoint; returns the folder of the other."""

    def is_midway() -> bool:
        assert cluster.run(f"squeue --noheader --jobs={job} --format=%T").strip() in ("PENDING", "RUNNING"), (
            cluster.log(job)
        )
        return any(study.glob("trials/*/result.json")) and any(study.glob("trials/*/checkpoints/*/sealed.json"))

    until(f"the middle of {study.name}", is_midway, STUDY_SECONDS)
    (trial,) = (path for path in study.glob("trials/*") if not (path / "result.json").exists())
    return trial


def nothing_is_left(cluster: Slurm) -> None:
    assert cluster.tokens() == []
    for host in cluster.nodes():  # processes of Ray that are no children of its own end when they miss it
        until(f"the end of Ray on {host.name}", lambda host=host: not lab.processes(host, LEFT), slurm.START_SECONDS)


def test_a_study_that_is_told_to_stop_ends_behind_checkpoints_and_the_same_line_finishes_it(cluster: Slurm) -> None:
    study, folder = STUDY.format(f"1,{LONG}", "stopped"), cluster.shared / "studies" / "stopped"
    job = cluster.submit(study)
    trial = wait_for_the_middle(cluster, job, folder)
    finished = chaos.hashes(folder)
    (token,) = cluster.tokens()
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    # Both nodes work: the trial that is left is on one of them, Ray on both.
    assert all(lab.processes(host, r".*/raylet/raylet ") for host in cluster.nodes())
    # As Slurm does by itself ten minutes before the end of the time (#SBATCH --signal=B:INT@600).
    cluster.run(f"scancel --signal=INT --batch {job}")
    assert cluster.finish(job) == ("FAILED", "130:0"), cluster.log(job)
    assert "the same sbatch line goes on" in cluster.log(job)
    nothing_is_left(cluster)
    assert not (trial / "result.json").exists()

    again = cluster.submit(study)
    assert cluster.finish(again) == ("COMPLETED", "0:0"), cluster.log(again)
    nothing_is_left(cluster)
    tables = results.load(folder).results
    assert sorted(tables["num_train_epochs"]) == [1, LONG]
    assert set(tables["status"]) == {"done"}
    assert json.loads((trial / "result.json").read_text())["resumed"]
    assert {name: chaos.hashes(folder)[name] for name in finished} == finished  # what was done was not done again


def test_a_job_whose_time_is_up_in_ten_minutes_is_told_and_stops(cluster: Slurm) -> None:
    # Slurm looks each 30 s: it tells the job while Ray comes up, or when the study runs.
    job = cluster.submit(STUDY.format("2000", "late"), minutes=10)
    assert cluster.finish(job) == ("FAILED", "130:0"), cluster.log(job)
    assert "the same sbatch line goes on" in cluster.log(job)
    nothing_is_left(cluster)


def test_a_job_that_is_cancelled_leaves_no_process_and_no_token(cluster: Slurm) -> None:
    folder = cluster.shared / "studies" / "cancelled"
    job = cluster.submit(STUDY.format("2000", "cancelled"))
    until("a checkpoint", lambda: any(folder.glob("trials/*/checkpoints/*/sealed.json")), STUDY_SECONDS)
    assert cluster.tokens()
    cluster.run(f"scancel {job}")
    state, _ = cluster.finish(job)
    assert state == "CANCELLED", cluster.log(job)
    nothing_is_left(cluster)
