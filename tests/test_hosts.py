"""A cluster of three hosts, brought up by `ray up clusters/lab.yaml`, survives what happens to hosts and lets in nobody else."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import hosts
import lab as labs
import lab_bucket
import pandas
import pytest
from conftest import small_rows, write_manifest
from hosts import Hosts, until
from lab import (
    CHECKOUT,
    HEAD,
    LAPTOP,
    LONG,
    LONGEST,
    ROOT,
    SHORT,
    START_SECONDS,
    STORAGE,
    STRANGER,
    STUDY_SECONDS,
    WORKERS,
    Lab,
)
from stranger import METRICS, REFUSED, SILENT, SSH, TOKEN

from benchmarks import chaos
from launcher import results

pytestmark = [pytest.mark.cluster, pytest.mark.skipif(bool(hosts.missing()), reason=f"hosts: {hosts.missing()}")]
KNOWN = {
    ("sshd", SSH),
    ("ray::DashboardA", METRICS), ("python3.11", METRICS), ("python", METRICS),  # counters of nodes, dashboard, autoscaler
    ("ray::RayTrainWo", SILENT),  # torch's store, by which the workers of one trial find each other
}  # fmt: skip
"""What answers without the token, by the name of the process; SECURITY.md lists it."""
RAY = r"ray::|\S+/(gcs_server|raylet) |python launch\.py|\S*python\S* .*/ray/(dashboard|autoscaler|_private)/(?!log_monitor)"


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """The cluster, brought up as the docs say; Ray does not start on one of its workers at the first try."""
    scratch = tmp_path_factory.mktemp("lab")
    shared = scratch / "shared"
    (shared / "studies").mkdir(parents=True)
    binds = {"/shared": shared, CHECKOUT: ROOT}
    with Hosts(scratch / "hosts", [HEAD, *WORKERS, LAPTOP, STRANGER, STORAGE], binds, [ROOT]) as machines:
        lab = Lab(machines, shared, scratch)
        lab.write_file()
        lab.laptop("ray get-auth-token --generate >/dev/null && chmod 600 ~/.ray/auth_token")
        lab.up(late=WORKERS[1])
        lab.begin_reference((*SHORT, LONG, LONGEST))
        yield lab


@pytest.fixture(scope="module")
def reference(lab: Lab) -> Path:
    """The folder of the same study, with all trials of the others, on one machine alone and undisturbed."""
    return lab.reference()


@pytest.fixture
def judged(lab: Lab, reference: Path) -> Callable[..., None]:
    """Compare a study with the undisturbed one; what was done before the fault has to be as it was."""

    def judge(name: str, finished: dict[str, str], **said: object) -> None:
        now = chaos.hashes(lab.folder(name))
        lost = [trial for trial in finished if trial not in now]
        repeated = [trial for trial in finished if trial in now and now[trial] != finished[trial]]
        different = chaos.compare(reference, lab.folder(name), some=True)
        lab.note(name, **said, finished_before=len(finished), lost=lost, repeated=repeated, different=different)
        assert (lost, repeated, different) == ([], [], [])
        assert all(labs.attempts(lab.folder(name) / "trials" / trial)["attempts"] == 1 for trial in finished)

    return judge


def goes_on(trial: Path, before: int) -> Callable[[], bool]:
    """Tell when a new attempt at a trial has begun."""
    return lambda: labs.attempts(trial)["attempts"] > before or (trial / "result.json").exists()


def test_the_road_of_the_docs_from_recordings_at_home_to_tables_at_home(lab: Lab) -> None:
    home = lab.hosts[LAPTOP].folder / "home"
    (home / "tones").mkdir()
    write_manifest(home / "tones" / "manifest.csv", small_rows(home / "tones"))
    launched = f"cd {CHECKOUT} && .venv/bin/python launch.py"
    lab.laptop("ray exec ~/lab.yaml 'mkdir -p /shared/raw'")
    lab.laptop("ray rsync-up ~/lab.yaml ~/tones/ /shared/raw/tones/")
    prepared = f"{launched} prepare manifest /shared/raw/tones/manifest.csv --out /shared/stores/tones"
    lab.laptop(f"ray exec ~/lab.yaml '{prepared}'")
    job = lab.submit("road", "--backend tune", "--data /shared/stores/tones", longest=3)
    assert lab.finish(job) == "SUCCEEDED", job.log.read_text()
    told = lab.laptop(f"ray exec ~/lab.yaml '{launched} status /shared/studies/road'")
    assert told.count(" done ") == 3
    lab.laptop(f"ray exec ~/lab.yaml '{launched} report /shared/studies/road'")
    lab.laptop("ray rsync-down ~/lab.yaml /shared/studies/road/ ~/road/")
    here, there = results.load(home / "road").results, results.load(lab.folder("road")).results
    assert list(here["status"]) == ["done"] * 3
    pandas.testing.assert_frame_equal(here, there)
    assert (home / "road" / "report.html").read_bytes() == (lab.folder("road") / "report.html").read_bytes()


def test_a_study_goes_on_when_the_laptop_is_closed_and_a_worker_loses_its_power(
    lab: Lab, judged: Callable[..., None]
) -> None:
    job = lab.submit("worker-killed", "--backend tune")
    lab.close_the_laptop(job)
    trial = lab.wait_for_the_middle(job.name)
    worker, finished = lab.host_of(trial), chaos.hashes(lab.folder(job.name))
    worker.kill()
    seconds = until("another attempt", goes_on(trial, 1), STUDY_SECONDS)
    lab.hosts.boot(worker)
    assert lab.finish(job) == "SUCCEEDED"
    lab.hosts[LAPTOP].reconnect()
    record = labs.attempts(trial)
    judged(job.name, finished, seconds=seconds, ended=record["ended"])
    assert [entry["class"] for entry in record["ended"]] == ["worker lost"]
    assert json.loads((trial / "result.json").read_text())["resumed"]
    lab.wait_for_all()  # the worker that was switched on again has come back by itself


def test_a_worker_that_is_cut_off_and_comes_back_does_no_harm(lab: Lab, judged: Callable[..., None]) -> None:
    job = lab.submit("worker-cut-off", longest=LONGEST)
    trial = lab.wait_for_the_middle(job.name)
    worker, finished = lab.host_of(trial), chaos.hashes(lab.folder(job.name))
    worker.cut_off()
    seconds = until("another attempt", goes_on(trial, 1), STUDY_SECONDS)
    worker.reconnect()
    assert lab.finish(job) == "SUCCEEDED"
    judged(job.name, finished, seconds=seconds, ended=labs.attempts(trial)["ended"])
    lab.wait_for_all()


def test_a_study_in_a_bucket_goes_on_when_a_worker_loses_its_power(lab: Lab, judged: Callable[..., None]) -> None:
    """No folder is shared: each machine works on a disk of its own, and its keys lie there."""
    bucket, name = lab_bucket.serve(lab), "bucket"
    job = lab.submit(name, "--backend tune", out=bucket.uri(name), variables=bucket.variables)
    trial = lab.wait_for_the_middle(name, lambda: bucket.look(name))
    worker, finished = lab.host_of(trial), chaos.hashes(lab.folder(name))

    def went_on() -> bool:
        bucket.look(name)
        return goes_on(trial, 1)()

    worker.kill()
    seconds = until("another attempt", went_on, STUDY_SECONDS)
    lab.hosts.boot(worker)
    assert lab.finish(job) == "SUCCEEDED", job.log.read_text()
    told = lab.laptop(f"{bucket.told} python launch.py status {bucket.uri(name)}")
    assert told.count(" done ") == 3
    bucket.look(name)
    judged(name, finished, seconds=seconds, ended=labs.attempts(trial)["ended"])
    assert [entry["class"] for entry in labs.attempts(trial)["ended"]] == ["worker lost"]
    assert json.loads((trial / "result.json").read_text())["resumed"]
    lab.wait_for_all()


def test_a_study_goes_on_in_the_same_job_after_its_driver_is_killed_and_after_it_is_stopped(
    lab: Lab, judged: Callable[..., None]
) -> None:
    name, variables = "driver-killed", {"RAY_JOB_STOP_WAIT_TIME_S": "240"}
    job = lab.submit(name, "--backend tune")
    trial = lab.wait_for_the_middle(name)
    finished = chaos.hashes(lab.folder(name))
    (driver,) = labs.processes(lab.hosts[HEAD], r"python launch\.py")
    lab.hosts[HEAD].run(f"kill -9 {driver}")
    assert lab.finish(job) == "FAILED"
    began, before = time.monotonic(), labs.checkpoint(trial)
    again = lab.submit(name, "--backend tune", variables=variables)
    until("another attempt", goes_on(trial, 1), STUDY_SECONDS)
    seconds = time.monotonic() - began
    until("a checkpoint of it", lambda: labs.checkpoint(trial) > before, STUDY_SECONDS)
    lab.laptop(f"ray job stop {again.number} --address http://127.0.0.1:8265", seconds=STUDY_SECONDS)
    assert lab.finish(again) == "STOPPED"
    assert not (trial / "result.json").exists(), "the long trial was too short"
    record, behind = labs.attempts(trial), labs.checkpoint(trial)
    assert (record["attempts"], record["open"], len(record["ended"])) == (2, False, 1)
    last = lab.submit(name, "--backend tune")
    assert lab.finish(last) == "SUCCEEDED", last.log.read_text()
    judged(name, finished, seconds=seconds, ended=labs.attempts(trial)["ended"], stopped_behind=behind)
    assert labs.attempts(trial)["ended"] == record["ended"], "to be stopped is no broken attempt"


@pytest.mark.usefixtures("reference")  # made now: the study that begins here goes on into the next test
def test_whoever_has_no_token_finds_no_door_that_opens(lab: Lab) -> None:
    stranger = lab.hosts[STRANGER]
    script = f"{CHECKOUT}/.venv/bin/python {CHECKOUT}/tests/stranger.py"
    head = lab.hosts[HEAD].address
    for token in ("", "RAY_AUTH_MODE=token RAY_AUTH_TOKEN=wrong"):
        for kind in ("init", "state", "job"):
            done = stranger.run(f"{token} {script} {kind} {head}", check=False, seconds=STUDY_SECONDS)
            assert "turned away" in done.stdout, done.stdout + done.stderr
    job = lab.submit("head-killed", longest=LONGEST)  # the next test goes on with it
    lab.wait_for_the_middle(job.name)
    for host in (lab.hosts[HEAD], *(lab.hosts[name] for name in WORKERS)):
        listening = json.loads(host.run(f"{CHECKOUT}/.venv/bin/python {CHECKOUT}/tests/stranger.py listening").stdout)
        (lab.scratch / f"ports-{host.name}.json").write_text(json.dumps(listening, indent=1))
        ports = " ".join(map(str, sorted({8265, 6379, *(port for port, _ in listening)})))
        found = json.loads(stranger.run(f"{script} knock {host.address} {ports}", seconds=STUDY_SECONDS).stdout)
        (lab.scratch / f"doors-{host.name}.json").write_text(json.dumps(found, indent=1))
        names = dict(listening)
        doors = {(names[int(port)], answer) for port, answer in found.items() if answer not in (REFUSED, TOKEN)}
        assert doors - KNOWN == set()
        assert host.name != HEAD or (found["8265"], found["6379"]) == (REFUSED, TOKEN)


def test_after_the_head_is_killed_a_new_cluster_finishes_the_study(lab: Lab, judged: Callable[..., None]) -> None:
    name = "head-killed"
    if not lab.folder(name).exists():  # else the test before has left it running
        lab.submit(name, longest=LONGEST)
    trial = lab.wait_for_the_middle(name)
    finished = chaos.hashes(lab.folder(name))
    lab.hosts[HEAD].kill()
    began = time.monotonic()
    lab.hosts.boot(lab.hosts[HEAD])
    lab.up()
    job = lab.submit(name, longest=LONGEST)
    until("another attempt", goes_on(trial, 1), STUDY_SECONDS)
    seconds = time.monotonic() - began
    assert lab.finish(job) == "SUCCEEDED"
    judged(name, finished, seconds=seconds, ended=labs.attempts(trial)["ended"])


def test_ray_down_ends_all_of_it(lab: Lab) -> None:
    lab.laptop("ray down -y ~/lab.yaml")
    began = time.monotonic()
    for name in (HEAD, *WORKERS):
        until(f"the end of Ray on {name}", lambda name=name: not labs.processes(lab.hosts[name], RAY), START_SECONDS)
    lab.note("ray-down", seconds=time.monotonic() - began)
    for name in WORKERS:  # Ray leaves a reader of logs behind; see docs/clusters.md
        lab.hosts[name].run(f"{CHECKOUT}/.venv/bin/ray stop")
        assert not labs.processes(lab.hosts[name], r".*(ray::|/ray/)")


def test_a_host_leaves_nothing_behind(tmp_path: Path) -> None:
    def network() -> str:
        return subprocess.run(["ip", "-o", "address"], capture_output=True, text=True, check=True).stdout

    before = network()
    with Hosts(tmp_path / "hosts", ["one", "two"], {"/shared": tmp_path}, []) as machines:
        one, two = machines["one"], machines["two"]
        assert one.run("hostname").stdout == "one\n"
        reach = f"timeout 3 bash -c '</dev/tcp/{two.address}/22'"
        assert one.run(reach, check=False).returncode == 0
        two.cut_off()
        assert one.run(reach, check=False).returncode != 0
        two.reconnect()
        until("the cable", lambda: one.run(reach, check=False).returncode == 0, 30)
        first = one.first
        assert network() == before
    assert not Path(f"/proc/{first}").exists()
    assert network() == before


def test_hosts_that_end_leave_others_what_they_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Not among the hosts of other tests: those of this file are still there.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    (tmp_path / "file").write_text("there")
    point = "/lossgrid-hosts-test"
    with contextlib.ExitStack() as stack:
        stack.enter_context(Hosts(tmp_path / "first", ["one"], {point: tmp_path}, []))
        with Hosts(tmp_path / "second", ["two"], {point: tmp_path}, []) as others:
            stack.close()  # those that made the folder
            assert others["two"].run(f"cat {point}/file").stdout == "there"
    assert not Path(point).exists()
