"""What brings clusters up keeps its promises: Ray's own rules, one version everywhere, tokens, closed doors."""

from __future__ import annotations

import fnmatch
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

import google_cloud
import pytest
import yaml
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.version import Version
from ray.autoscaler._private import util

from clusters import aws_once, gcp_once, spot_watcher, ssh_range
from launcher.cluster import DRIVER, MOST

ROOT = Path(__file__).resolve().parents[1]
CLUSTERS = ROOT / "clusters"
RAY_FILES = [ROOT / "cluster.yaml", CLUSTERS / "lab.yaml", CLUSTERS / "gcp.yaml"]
CLOUD_FILES = [ROOT / "cluster.yaml", CLUSTERS / "gcp.yaml"]
PYPROJECT = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")

NAMES = [path.name for path in RAY_FILES]


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def starts(cluster: dict[str, Any]) -> list[str]:
    """The commands that start Ray, of the head first."""
    commands = [*cluster["head_start_ray_commands"], *cluster["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


def requirement(name: str) -> Requirement:
    _, _, listing = PYPROJECT.partition("\ndependencies = [")
    listed = (Requirement(text) for text in re.findall(r'^    "([^"]+)",', listing, flags=re.MULTILINE))
    return next(one for one in listed if one.name == name)


@pytest.mark.parametrize("path", RAY_FILES, ids=NAMES)
def test_ray_accepts_the_file(path: Path) -> None:
    prepared = util.prepare_config(read(path))
    util.validate_config(prepared)
    assert prepared["max_workers"] >= 1


@pytest.mark.parametrize("path", RAY_FILES, ids=NAMES)
def test_a_misspelled_key_would_be_found(path: Path) -> None:
    with pytest.raises(Exception, match="idle_timeout_minuts"):
        util.validate_config(util.prepare_config({**read(path), "idle_timeout_minuts": 1}))


@pytest.mark.parametrize("path", RAY_FILES, ids=NAMES)
def test_ray_starts_with_free_threads_without_statistics_and_with_its_dashboard_to_itself(path: Path) -> None:
    head, worker = starts(read(path))
    for command in (head, worker):
        assert command.index("unset OMP_NUM_THREADS") < command.index("ray start")
        assert "--disable-usage-stats" in command
    assert "--dashboard-host=127.0.0.1" in head
    assert "--autoscaling-config=~/ray_bootstrap_config.yaml" in head


@pytest.mark.parametrize("path", RAY_FILES, ids=NAMES)
def test_head_and_workers_ask_for_the_token(path: Path) -> None:
    cluster = read(path)
    assert any(remote.endswith(".ray/auth_token") for remote in cluster["file_mounts"])
    options = " ".join(cluster.get("docker", {}).get("run_options", []))
    assert all("RAY_AUTH_MODE=token" in options + command for command in starts(cluster))


@pytest.mark.parametrize("path", RAY_FILES, ids=NAMES)
@pytest.mark.parametrize("failures", [0, 2, 7])
def test_a_start_that_fails_is_tried_again(path: Path, failures: int, tmp_path: Path) -> None:
    # `ray start` fails so often; `ray stop` does what it should, and `sleep` takes no time.
    log = tmp_path / "log"
    stand_in = f"""#!/bin/sh
[ "$1" != stop ] || exit 0
echo "$*" >> {log}
[ $(wc -l < {log}) -gt {failures} ]
"""
    for name, what in {"ray": stand_in, "sleep": "#!/bin/sh\n"}.items():
        (program := tmp_path / name).write_text(what)
        program.chmod(0o755)
    tries, codes = [], []
    for command in starts(read(path)):
        command = command.replace("/shared/lossgrid/.venv/bin", str(tmp_path))
        log.unlink(missing_ok=True)
        there = {"PATH": f"{tmp_path}:/usr/bin:/bin", "RAY_HEAD_IP": "192.0.2.7"}
        done = subprocess.run(
            ["bash", "-c", f"true && ({command})"], env=there, capture_output=True, text=True
        )  # as Ray
        tries.append(len(log.read_text().splitlines()))
        codes.append(done.returncode)
    is_lab = path not in CLOUD_FILES
    # A machine of a cloud is replaced by another; one of a lab would never be tried again.
    assert tries == [min(failures + 1, 3), failures + 1 if is_lab else min(failures + 1, 3)]
    assert codes == [int(failures > 2), int(failures > 2 and not is_lab)]
    assert "--address=192.0.2.7:6379" in log.read_text()


@pytest.mark.parametrize("path", CLOUD_FILES, ids=lambda path: path.name)
def test_the_head_holds_drivers_only_and_workers_scale_from_zero(path: Path) -> None:
    cluster = read(path)
    head, gpu = cluster["available_node_types"]["head"], cluster["available_node_types"]["gpu"]
    assert head["resources"]["CPU"] == 0
    assert head["resources"][DRIVER] >= cluster["max_workers"]
    assert head["resources"][MOST["GPU"]] == cluster["max_workers"]  # one GPU each
    assert (head["max_workers"], gpu["min_workers"], gpu["max_workers"]) == (0, 0, cluster["max_workers"])
    assert cluster["setup_commands"] == []  # the defaults would install a nightly build of Ray


@pytest.mark.parametrize("path", CLOUD_FILES, ids=lambda path: path.name)
def test_commands_on_a_new_machine_are_correct_shell_and_say_what_fails(path: Path) -> None:
    for command in read(path)["initialization_commands"]:
        subprocess.run(["bash", "-n", "-c", command], check=True)
    first, *_ = [command for command in read(path)["initialization_commands"] if "docker ps" in command]
    bin_of = {"docker": "exit 1", "sudo": 'echo "$@"'}  # as on a machine whose user is not in the group
    with tempfile.TemporaryDirectory() as folder:
        for name, what in bin_of.items():
            (program := Path(folder, name)).write_text(f"#!/bin/sh\n{what}\n")
            program.chmod(0o755)
        done = subprocess.run(
            ["bash", "-c", first], env={"PATH": f"{folder}:/bin"}, capture_output=True, text=True, check=True
        )
    assert done.stdout.splitlines() == ["usermod -aG docker ubuntu", "setfacl -m user:ubuntu:rw /var/run/docker.sock"]


@pytest.mark.parametrize("path", CLOUD_FILES, ids=lambda path: path.name)
def test_each_spot_worker_and_no_head_watches_for_the_notice_of_its_cloud(path: Path) -> None:
    cluster = read(path)
    assert "spot_watcher" not in " ".join(cluster["head_start_ray_commands"])
    start, watch = cluster["worker_start_ray_commands"]
    assert "ray start" in start
    words, _, where = watch.partition(" > ")
    nohup, python, script, *options = words.split()
    assert (nohup, python) == ("nohup", "python")
    (workdir,) = re.findall(r"^WORKDIR (\S+)$", DOCKERFILE, flags=re.MULTILINE)
    assert (ROOT / Path(script).relative_to(workdir)).is_file()
    assert cluster["provider"]["type"] in spot_watcher.CLOUDS
    with spot_watcher.main.make_context("spot_watcher", options) as context:
        assert (context.params["cloud"], context.params["address"]) == (
            cluster["provider"]["type"],
            "$RAY_HEAD_IP:6379",
        )
    assert re.fullmatch(r"\S+/spot_watcher.log 2>&1 < /dev/null &", where)  # or `ray up` would wait for it


def test_the_head_in_the_lab_holds_drivers_only() -> None:
    head, _ = starts(read(CLUSTERS / "lab.yaml"))
    assert f"--num-cpus=0 --num-gpus=0 --resources='{{\"{DRIVER}\":1000}}'" in head
    assert "RAY_enable_autoscaler_v2=0" in head  # with 1 a worker is missing and none comes back; tests/test_hosts.py


def test_no_machine_on_aws_gets_rays_security_group_which_opens_ssh_to_the_world() -> None:
    cluster = read(ROOT / "cluster.yaml")
    assert "security_group" not in cluster["provider"]
    for kind in cluster["available_node_types"].values():
        machine = kind["node_config"]
        assert machine["SecurityGroupIds"]
        assert machine["MetadataOptions"]["HttpTokens"] == "required"
        assert all(disk["Ebs"]["Encrypted"] for disk in machine["BlockDeviceMappings"])


def test_images_nodes_and_package_agree_on_ray_and_torch() -> None:
    (version,) = (str(one.version) for one in requirement("ray").specifier)
    (tag,) = re.findall(r"^FROM rayproject/ray:(\S+)-py311-\$\{PLATFORM\}$", DOCKERFILE, flags=re.MULTILINE)
    (torch,) = re.findall(r"^ARG TORCH=(\S+)$", DOCKERFILE, flags=re.MULTILINE)
    (job, *_) = yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text())
    assert {version, tag, job["spec"]["rayClusterSpec"]["rayVersion"]} == {version}
    assert requirement("torch").specifier.contains(Version(torch))


def test_the_image_gets_all_of_the_code_and_nothing_else() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    packages = re.search(r"^packages = \[(.*)\]$", PYPROJECT, flags=re.MULTILINE)
    assert packages is not None
    assert {name.split(".")[0] for name in re.findall(r'"([^"]+)"', packages[1])} < let_in
    assert all((ROOT / name).exists() for name in let_in)
    assert not {
        name for name in ("results", ".git", ".venv", "tests") if any(fnmatch.fnmatch(name, one) for one in let_in)
    }
    copied = " ".join(re.findall(r"^COPY --chown=\S+ (.*) \S+$", DOCKERFILE, flags=re.MULTILINE)).split()
    assert set(copied) - {"."} <= let_in


def machines(path: Path) -> dict[str, dict[str, Any]]:
    return {name: kind["node_config"] for name, kind in read(path)["available_node_types"].items()}


def test_machines_on_google_cloud_fit_the_schema_that_google_publishes() -> None:
    for name, machine in machines(CLUSTERS / "gcp.yaml").items():
        assert google_cloud.faults(machine, "compute.v1", "Instance", name) == []


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"schedulling": {}}, "gpu: there is no schedulling"),
        ({"scheduling": {"provisioningModle": "SPOT"}}, "gpu.scheduling: there is no provisioningModle"),
        (
            {"scheduling": {"provisioningModel": "Spot"}},
            "gpu.scheduling.provisioningModel: 'Spot' is none of FLEX_START",
        ),
        ({"tags": ["lossgrid"]}, "gpu.tags: ['lossgrid'] is no object"),
        ({"disks": [{"boot": "true"}]}, "gpu.disks[0].boot: 'true' is no boolean"),
        ({"serviceAccounts": [{"scopes": "all"}]}, "gpu.serviceAccounts[0].scopes: 'all' is no array"),
        ({"metadata": {"items": [{"key": "install-nvidia-driver", "value": True}]}}, "True is no string"),
    ],
)
def test_what_google_would_refuse_is_found(change: dict[str, Any], fault: str) -> None:
    found = google_cloud.faults({**machines(CLUSTERS / "gcp.yaml")["gpu"], **change}, "compute.v1", "Instance", "gpu")
    assert len(found) == 1
    assert fault in found[0]


def test_no_machine_on_google_cloud_is_in_the_default_network_or_runs_as_rays_account() -> None:
    region = read(CLUSTERS / "gcp.yaml")["provider"]["region"]
    for kind, machine in machines(CLUSTERS / "gcp.yaml").items():
        (card,) = machine["networkInterfaces"]
        assert card["subnetwork"].endswith(f"/regions/{region}/subnetworks/{gcp_once.CLUSTER}")
        assert machine["tags"]["items"] == [gcp_once.CLUSTER]
        (account,) = machine["serviceAccounts"]
        assert account["email"].startswith(f"{gcp_once.CLUSTER}-{'head' if kind == 'head' else 'worker'}@")
        assert all(disk["autoDelete"] for disk in machine["disks"])


# Of KubeRay's API reference, https://ray-project.github.io/kuberay/reference/api/ (v1, 1.5.1 to 1.7), the fields used here. No package
# brings its definition of a RayJob as a schema.
@pytest.mark.parametrize(("once", "more"), [(aws_once, ()), (gcp_once, ("--project", "p"))], ids=["aws", "gcp"])
@pytest.mark.parametrize(
    ("given", "complaint"),
    [("0.0.0.0/0", "4,294,967,296 addresses"), ("10.0.0.0/8", "16,777,216"), ("me", "no IPv4 range")],
)
def test_ssh_is_never_opened_to_the_world(once: ModuleType, more: tuple[str, ...], given: str, complaint: str) -> None:
    refused = CliRunner().invoke(once.main, ["--cidr", given, "--bucket", "stores", *more])
    assert refused.exit_code == 2
    assert complaint in refused.output  # and no account was asked for anything: there is none here
    assert ssh_range.narrow("203.0.113.7/32") == "203.0.113.7/32"


@pytest.mark.parametrize(
    ("script", "module", "package"),
    [("aws_once.py", "boto3", "boto3"), ("gcp_once.py", "googleapiclient", "google-api-python-client")],
)
def test_what_the_scripts_for_an_account_need_is_named(script: str, module: str, package: str) -> None:
    folder = str(CLUSTERS)
    code = f"import runpy, sys; sys.modules[{module!r}] = None; sys.path.insert(0, {folder!r}); runpy.run_path({str(CLUSTERS / script)!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert f"pip install --constraint constraints.txt {package}" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_head_may_end_only_machines_of_its_own_cluster() -> None:
    statements = aws_once.head_policy("arn:aws:iam::123456789012:role/lossgrid-worker", "stores")["Statement"]
    (end,) = (one for one in statements if "ec2:TerminateInstances" in one["Action"])
    name = read(ROOT / "cluster.yaml")["cluster_name"]
    assert end["Condition"] == {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": name}}
    tag = [one["Condition"] for one in statements if "ec2:CreateTags" in one["Action"]]
    assert tag == [
        {"StringEquals": {"ec2:CreateAction": "RunInstances"}},
        end["Condition"],
    ]  # nobody else's machine becomes one of it
    (hand_on,) = (one for one in statements if "iam:PassRole" in one["Action"])
    assert hand_on["Resource"].endswith("role/lossgrid-worker")


def test_the_page_names_files_that_exist_and_every_value_to_fill_in() -> None:
    page = (ROOT / "docs" / "clusters.md").read_text(encoding="utf-8")
    named = set(re.findall(r"clusters/[a-z_]+\.[a-z]+", page))
    assert named >= {f"clusters/{path.name}" for path in CLUSTERS.iterdir() if path.is_file()}
    assert all((ROOT / name).is_file() for name in named)
    values = {value for path in CLOUD_FILES for value in re.findall(r"[a-z-]*REPLACE(?:-[A-Z]+)?", path.read_text())}
    assert all(value in page for value in values - {"REPLACE"})
