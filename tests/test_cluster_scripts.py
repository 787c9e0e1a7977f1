"""The script that runs a study on Slurm, with stand-ins for the programs that it calls; with the real ones: tests/test_slurm.py."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLURM = ROOT / "clusters" / "slurm.sbatch"

# Each stand-in writes one line of what it was told. `ray start` and the launch stay until they are asked to end.
_STAND_IN = """#!{python}
import os, pathlib, signal, stat, sys, time

def note(text):
    with open({log!r}, "a") as log:
        log.write(text + "\\n")

def noted():
    path = pathlib.Path({log!r})
    return path.read_text() if path.exists() else ""

name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
if name == "scontrol":
    print("\\n".join(os.environ["SLURM_JOB_NODELIST"].split(",")))
elif name == "hostname":
    print("10.0.0.1 172.17.0.1")
elif name == "srun":
    options = [word for word in words if word.startswith("--")]
    where = next(word.partition("=")[2] for word in options if word.startswith("--nodelist="))
    start = next(at for at, word in enumerate(words) if not word.startswith("--"))
    os.execvpe(words[start], words[start:], {{**os.environ, "NODE": where}})
elif name == "ray" and words[0] == "status" and "ASKED" in os.environ:
    pathlib.Path(os.environ["ASKED"]).write_text("asked")
    pathlib.Path(os.environ["ASKED"] + ".answer").read_text()
elif name == "ray" and words[0] == "status":
    with open({log!r} + ".asked", "a+") as asked:
        asked.write(".")
        asked.seek(0)
        often = len(asked.read())
    there = often > 2 and "start --head" in noted()
    print(" 1 node_4711" if there and often > 4 else "No cluster status.")
    sys.exit(0 if there else 1)
elif name == "ray" and os.environ["NODE"] == os.environ.get("BROKEN"):
    sys.exit("no port is free")
elif name == "ray" and os.environ["NODE"] in os.environ.get("SLOW", "").split(",") and noted().count("timed out") < 2:
    note("timed out")
    sys.exit("timed out during startup")
elif name == "ray":
    def end(*_):
        note(f"{{os.environ['NODE']}}: ended")
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    note(f"{{os.environ['NODE']}}: {{' '.join(words)}}")
    while True:
        signal.pause()
elif name == "python" and words[0] == "launch.py":
    while noted().count(": start") < 3:  # as the real one, it waits for the machines that its trials want
        time.sleep(0.01)
    token = pathlib.Path(os.environ.get("RAY_AUTH_TOKEN_PATH", os.devnull))
    told = [os.environ.get(key, "-") for key in ("RAY_ADDRESS", "RAY_AUTH_MODE", "OMP_NUM_THREADS")]
    note(f"launch {{' '.join(words[1:])}} | {{' '.join(told)}} | {{stat.S_IMODE(token.stat().st_mode):o}} {{len(token.read_text())}}")
    if "PREPARING" in os.environ:  # or just begun: it has no handler of its own yet
        pathlib.Path(os.environ["PREPARING"]).write_text("ready")
        signal.pause()
    if "READY" in os.environ:
        signal.signal(signal.SIGINT, lambda *_: (note("checkpoints"), sys.exit(130)))
        pathlib.Path(os.environ["READY"]).write_text("ready")
        signal.pause()
    sys.exit(int(os.environ["EXIT"]))
"""


@dataclass(frozen=True)
class Place:
    """A checkout with stand-ins in the place of programs."""

    folder: Path

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()

    @property
    def tokens(self) -> list[Path]:
        return list((self.folder / "home").glob(".lossgrid-token*"))

    def environment(self, **more: str) -> dict[str, str]:
        path = f"{self.folder / '.venv' / 'bin'}:{self.folder / 'bin'}:/usr/bin:/bin"
        slurm = {"SLURM_SUBMIT_DIR": str(self.folder), "SLURM_JOB_ID": "4711", "SLURM_JOB_NODELIST": "n1,n2,n3"}
        own = {
            "HOME": str(self.folder / "home"),
            "PATH": path,
            "SLURM_CPUS_PER_TASK": "16",
            "LOSSGRID_POLL_SECONDS": "0",
        }
        return {**slurm, **own, "EXIT": "0", "OMP_NUM_THREADS": "1", **more}

    def run(self, script: Path, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", str(script), *words], env=self.environment(**more), cwd=self.folder, capture_output=True, text=True, timeout=60
        )  # fmt: skip


@pytest.fixture
def place(tmp_path: Path) -> Place:
    for folder, names in ((".venv/bin", ("python", "ray")), ("bin", ("srun", "scontrol", "hostname"))):
        (tmp_path / folder).mkdir(parents=True)
        for name in names:
            program = tmp_path / folder / name
            program.write_text(_STAND_IN.format(python=sys.executable, log=str(tmp_path / "log")))
            program.chmod(0o755)
    (tmp_path / "home").mkdir()
    return Place(tmp_path)


@pytest.mark.parametrize("script", [SLURM], ids=lambda path: path.name)
def test_the_script_is_correct_bash(script: Path) -> None:
    subprocess.run(["bash", "-n", str(script)], check=True)
    if (shellcheck := shutil.which("shellcheck")) is not None:
        subprocess.run([shellcheck, str(script)], check=True)


def test_what_slurm_reads_stands_before_the_first_command() -> None:
    lines = SLURM.read_text().splitlines()
    first = next(number for number, line in enumerate(lines) if line and not line.startswith("#"))
    asked = [number for number, line in enumerate(lines) if line.startswith("#SBATCH")]
    assert asked
    assert max(asked) < first


def test_a_study_on_slurm_starts_head_then_workers_then_the_launch_and_takes_all_down(place: Place) -> None:
    done = place.run(SLURM, "--grid", "losses", EXIT="3")
    assert done.returncode == 3, done.stderr
    log = place.log
    assert log[0].startswith(
        "n1: start --head --block --node-ip-address=10.0.0.1 --port=22844 --dashboard-host=127.0.0.1"
    )
    assert '--resources={"driver": 1000, "most_cpus": 48}' in log[0]
    launch = next(number for number, line in enumerate(log) if line.startswith("launch"))
    assert {line.partition(" --block")[0] for line in log[1:launch] if line[0] == "n"} == {"n2: start", "n3: start"}
    assert all("--address=10.0.0.1:22844" in line for line in log[1:launch] if line[0] == "n")
    assert sorted(log[launch + 1 :]) == ["n1: ended", "n2: ended", "n3: ended"]


def test_the_token_on_slurm_is_for_its_owner_alone_and_goes_with_the_job(place: Place) -> None:
    place.run(SLURM, "--grid", "losses")
    (launch,) = (line for line in place.log if line.startswith("launch"))
    assert launch == "launch --grid losses | 10.0.0.1:22844 token - | 600 64"
    assert place.tokens == []


def told_to_stop(place: Place, when: str) -> None:
    """Send the job its notice once the launch says that it is there."""
    ready = place.folder / "ready"
    os.mkfifo(ready)
    script = subprocess.Popen(
        ["bash", str(SLURM), "--grid", "losses"], env=place.environment(**{when: str(ready)}), cwd=place.folder,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert ready.read_text() == "ready"
    script.send_signal(signal.SIGINT)
    _, told = script.communicate(timeout=60)
    assert script.returncode == 130
    assert "the same sbatch line goes on" in told


def test_the_signal_before_the_end_lets_the_launch_finish_its_checkpoints(place: Place) -> None:
    told_to_stop(place, "READY")
    after = place.log[place.log.index("checkpoints") :]
    assert sorted(after) == ["checkpoints", "n1: ended", "n2: ended", "n3: ended"]
    assert place.tokens == []


def test_the_signal_while_the_launch_prepares_its_data_is_not_lost(place: Place) -> None:
    told_to_stop(place, "PREPARING")
    assert place.tokens == []


def test_the_signal_while_ray_comes_up_ends_the_job_before_the_study_begins(place: Place) -> None:
    # A job of ten minutes or less is told at once. bash forgets a signal that it gets behind a command, unless it is told to mind it.
    asked, answer = place.folder / "asked", place.folder / "asked.answer"
    os.mkfifo(asked)
    os.mkfifo(answer)
    script = subprocess.Popen(
        ["bash", str(SLURM), "--grid", "losses"], env=place.environment(ASKED=str(asked)), cwd=place.folder,
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert asked.read_text() == "asked"
    script.send_signal(signal.SIGINT)
    answer.write_text("go on")
    _, told = script.communicate(timeout=60)
    assert script.returncode == 130
    assert "before the study began" in told
    log = place.folder / "log"
    assert not log.exists() or "launch" not in log.read_text()
    assert place.tokens == []


@pytest.mark.parametrize("node", ["n1", "n3"])
def test_a_node_on_which_ray_takes_too_long_to_load_is_tried_three_times(place: Place, node: str) -> None:
    done = place.run(SLURM, "--grid", "losses", SLOW=node)
    assert done.returncode == 0, done.stderr
    assert place.log.count("timed out") == 2
    assert {line.partition(" --")[0] for line in place.log if ": start" in line} == {
        "n1: start",
        "n2: start",
        "n3: start",
    }
    assert sorted(place.log[-3:]) == ["n1: ended", "n2: ended", "n3: ended"]


def test_a_head_that_does_not_come_up_ends_the_job_with_a_reason(place: Place) -> None:
    done = place.run(SLURM, "--grid", "losses", BROKEN="n1")
    assert done.returncode == 1
    assert done.stderr.count("no port is free") == 3
    assert "Ray did not start on n1" in done.stderr
    assert not (place.folder / "log").exists()  # no worker and no launch was started
    assert place.tokens == []
