"""`ray up clusters/gcp.yaml` against a simulated project of Google Cloud: what is launched, as whom, who may come in.

The simulation is tests/google_cloud.py: requests of Ray and of clusters/gcp_once.py go through Google's client, and are refused where they
do not fit the schemas that Google publishes with it. What goes out by SSH is caught by tests/ray_up.py.
"""

from __future__ import annotations

import copy
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import google_cloud
import httplib2
import pytest
import ray_up
import yaml
from click.testing import CliRunner, Result
from google_cloud import Project
from ray.autoscaler._private.gcp import config as gcp_config
from ray.autoscaler._private.gcp import node_provider

from clusters import gcp_once

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
PROJECT, OFFICE, BUCKET = "speech-study", "203.0.113.0/24", "my-stores"
HEAD, WORKER = (f"lossgrid-{kind}@{PROJECT}.iam.gserviceaccount.com" for kind in ("head", "worker"))
RAYS_OWN = f"ray-autoscaler-sa-v1@{PROJECT}.iam.gserviceaccount.com"


@dataclass(frozen=True)
class Cloud:
    """A simulated project in which `clusters/gcp_once.py` was run, and a copy of clusters/gcp.yaml that is filled in for it."""

    project: Project
    file: Path
    told: str

    @property
    def machines(self) -> list[dict[str, Any]]:
        return list(self.project.made.get("compute.instances", {}).values())

    @property
    def rights(self) -> dict[tuple[str, str], set[str]]:
        """By account and what it reaches (project, account, bucket): the roles, with their conditions."""
        found: dict[tuple[str, str], set[str]] = {}
        for of, policy in self.project.policies.items():
            for one in policy["bindings"]:
                role = one["role"] + (f" if {one['condition']['expression']}" if "condition" in one else "")
                for member in one["members"]:
                    found.setdefault((member.removeprefix("serviceAccount:"), of), set()).add(role)
        return found


def once(cidr: str = OFFICE) -> Result:
    return CliRunner().invoke(gcp_once.main, ["--project", PROJECT, "--cidr", cidr, "--bucket", BUCKET])


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    simulated = Project(PROJECT)
    monkeypatch.setattr(httplib2.Http, "request", lambda self, *words, **more: simulated.request(self, *words, **more))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", google_cloud.signed_in(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    return simulated


@pytest.fixture
def cloud(project: Project, tmp_path: Path) -> Cloud:
    made = once()
    assert made.exit_code == 0, made.output
    text = (ROOT / "clusters" / "gcp.yaml").read_text(encoding="utf-8")
    file = tmp_path / "gcp.yaml"
    file.write_text(text.replace("REPLACE-PROJECT", PROJECT).replace("REPLACE-ADDRESS", "10.0.0.2"))
    return Cloud(project, file, made.output)


def launch_workers(cloud: Cloud, count: int) -> None:
    """As the autoscaler on the head does: the configuration that `ray up` completes, given to Ray's provider for Google Cloud."""
    completed = gcp_config.bootstrap_gcp(yaml.safe_load(cloud.file.read_text()))
    worker = completed["available_node_types"]["gpu"]["node_config"]
    provider = node_provider.GCPNodeProvider(completed["provider"], "lossgrid")
    provider.create_node(worker, {"ray-node-name": "ray-lossgrid-worker"}, count)


def test_ray_up_launches_the_head_alone_in_its_own_network_and_starts_ray_as_promised(cloud: Cloud) -> None:
    doors_before = copy.deepcopy(cloud.project.made["compute.firewalls"])
    result, sent = ray_up.up(cloud.file)
    assert result.exit_code == 0, result.output
    (head,) = cloud.machines
    assert head["machineType"] == "zones/europe-west4-a/machineTypes/e2-standard-8"
    assert "scheduling" not in head  # on demand: when the head goes, the cluster goes
    assert [one["email"] for one in head["serviceAccounts"]] == [HEAD]
    assert head["tags"] == {"items": ["lossgrid"]}
    assert head["labels"]["ray-cluster-name"] == "lossgrid"
    assert head["networkInterfaces"][0]["subnetwork"].endswith("regions/europe-west4/subnetworks/lossgrid")
    assert cloud.project.made["compute.firewalls"] == doors_before
    ray_up.keeps_its_promises(sent, mount="mount -t nfs ")


def test_only_stated_addresses_come_in(cloud: Cloud) -> None:
    rules = cloud.project.made["compute.firewalls"]
    assert {rule["network"] for rule in rules.values()} == {f"projects/{PROJECT}/global/networks/lossgrid"}
    assert {tuple(rule["targetTags"]) for rule in rules.values()} == {("lossgrid",)}
    open_to = set().union(*map(gcp_once.doors, rules.values()))
    assert open_to == {f"{OFFICE} at tcp:22", "lossgrid at all:all ports"}


def test_workers_are_spot_machines_that_go_with_their_disks(cloud: Cloud) -> None:
    launch_workers(cloud, 2)
    machines = cloud.machines
    assert {one["machineType"] for one in machines} == {"zones/europe-west4-a/machineTypes/g2-standard-8"}
    assert {one["scheduling"]["provisioningModel"] for one in machines} == {"SPOT"}
    assert {one["scheduling"]["instanceTerminationAction"] for one in machines} == {"DELETE"}
    assert all(disk["autoDelete"] for one in machines for disk in one["disks"])
    assert [one["labels"]["ray-cluster-name"] for one in machines] == ["lossgrid"] * 2
    assert [account["email"] for one in machines for account in one["serviceAccounts"]] == [WORKER] * 2
    (scopes,) = {tuple(account["scopes"]) for one in machines for account in one["serviceAccounts"]}
    assert scopes == (
        "https://www.googleapis.com/auth/devstorage.read_write",
    )  # without it they could not write a study


def test_workers_read_one_bucket_and_write_its_studies_and_the_head_stores_as_well(cloud: Cloud) -> None:
    under = "resource.name.startsWith('projects/_/buckets/my-stores/objects/{}/')".format
    studies, stores = under("studies"), under("stores")
    of_worker = {what: roles for (who, what), roles in cloud.rights.items() if who == WORKER}
    assert of_worker == {
        BUCKET: {"roles/storage.objectViewer", f"roles/storage.objectUser if {studies}"},
        PROJECT: {"roles/artifactregistry.reader"},
    }
    of_head = {what: roles for (who, what), roles in cloud.rights.items() if who == HEAD}
    assert of_head == {
        BUCKET: {"roles/storage.objectViewer", f"roles/storage.objectUser if {stores} || {studies}"},
        PROJECT: {"roles/artifactregistry.reader", "roles/compute.instanceAdmin.v1"},
        WORKER: {"roles/iam.serviceAccountUser"},  # it starts machines as that one, and as no other
    }
    bucket = cloud.project.made["storage.buckets"][BUCKET]
    assert bucket["iamConfiguration"]["publicAccessPrevention"] == "enforced"


def test_what_ray_makes_for_itself_is_as_the_docs_say_and_no_machine_runs_as_it(cloud: Cloud) -> None:
    result, _ = ray_up.up(cloud.file)
    assert result.exit_code == 0, result.output
    launch_workers(cloud, 1)
    assert cloud.rights[RAYS_OWN, PROJECT] == {
        "roles/storage.objectAdmin", "roles/compute.admin", "roles/iam.serviceAccountUser", "roles/iam.roleViewer",
    }  # fmt: skip
    assert {one["email"] for machine in cloud.machines for one in machine["serviceAccounts"]} == {HEAD, WORKER}
    (keys,) = cloud.project.metadata["items"]
    assert (keys["key"], keys["value"].partition(":")[0]) == ("ssh-keys", "ubuntu")


def test_the_file_as_it_is_shipped_launches_nothing(cloud: Cloud) -> None:
    result, _ = ray_up.up(ROOT / "clusters" / "gcp.yaml")
    assert result.exit_code != 0
    assert "REPLACE-PROJECT is no project ID" in str(result.exception)
    assert cloud.machines == []


def test_google_refuses_what_its_schema_does_not_know(cloud: Cloud) -> None:
    text = cloud.file.read_text()
    assert "provisioningModel: SPOT" in text
    cloud.file.write_text(text.replace("provisioningModel: SPOT", "provisionningModel: SPOT"))
    with pytest.raises(Exception, match=r"Instance\.scheduling: there is no provisionningModel"):
        launch_workers(cloud, 1)
    assert cloud.machines == []


def test_the_project_can_be_prepared_again_but_not_for_other_addresses(cloud: Cloud) -> None:
    before = list(cloud.project.asked)
    assert before
    assert once().output == cloud.told
    assert cloud.project.asked == before  # what is there is not touched
    other = once("198.51.100.7/32")
    assert other.exit_code == 1
    assert f"lossgrid-ssh: {OFFICE} at tcp:22" in other.output
    assert cloud.project.asked == before


def test_what_others_may_do_in_the_project_stays(project: Project) -> None:
    theirs = {"role": "roles/artifactregistry.reader", "members": ["user:somebody@example.org"]}
    project.policies[PROJECT] = {"version": 1, "etag": "BwAA", "bindings": [copy.deepcopy(theirs)]}
    assert once().exit_code == 0
    bindings = project.policies[PROJECT]["bindings"]
    (images,) = (one for one in bindings if one["role"] == theirs["role"])
    assert images["members"] == [*theirs["members"], f"serviceAccount:{HEAD}", f"serviceAccount:{WORKER}"]


def test_a_rule_that_somebody_added_to_the_network_is_told(cloud: Cloud) -> None:
    everybody = {"allowed": [{"IPProtocol": "tcp", "ports": ["8265"]}], "network": "global/networks/lossgrid"}
    cloud.project.made["compute.firewalls"]["dashboard"] = {"name": "dashboard", **everybody}
    told = once()
    assert told.exit_code == 1
    assert "dashboard: 0.0.0.0/0 at tcp:8265" in told.output


def test_a_bucket_in_which_rights_cannot_be_given_by_folder_is_told(project: Project) -> None:
    project.made["storage.buckets"] = {BUCKET: {"name": BUCKET, "iamConfiguration": {}}}
    told = once()
    assert told.exit_code == 1
    assert "gcloud storage buckets update gs://my-stores --uniform-bucket-level-access" in told.output


def test_a_project_that_google_does_not_give_is_told_with_what_to_do(project: Project) -> None:
    told = CliRunner().invoke(gcp_once.main, ["--project", "of-others", "--cidr", OFFICE, "--bucket", BUCKET])
    assert told.exit_code == 1
    assert "may not compute.networks.get in of-others" in told.output
    assert "gcloud services enable --project of-others compute.googleapis.com iam" in told.output
    assert project.made == {}


def test_values_that_are_printed_are_commands_that_a_shell_can_read(cloud: Cloud) -> None:
    commands = [line for line in cloud.told.splitlines() if line.startswith("gcloud ")]
    assert len(commands) == 2
    assert all(PROJECT in shlex.split(line) for line in commands)
