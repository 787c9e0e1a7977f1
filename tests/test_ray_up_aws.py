"""`ray up cluster.yaml` against a simulated AWS: what is launched, who may come in, what is run on the head.

The simulation is moto; what goes out by SSH is caught by tests/ray_up.py.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
import ray_up
import yaml
from click.testing import CliRunner, Result
from moto import mock_aws
from ray.autoscaler._private.aws import config as aws_config
from ray.autoscaler._private.aws import node_provider

from clusters import aws_once

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[1]
REGION, OFFICE = "eu-central-1", "203.0.113.0/24"


@dataclass(frozen=True)
class Cloud:
    """A simulated account in which `clusters/aws_once.py` was run, and a copy of cluster.yaml that is filled in for it."""

    ec2: Any
    file: Path
    told: str

    def up(self, file: Path | None = None) -> tuple[Result, list[str]]:
        """Run `ray up`; return what it said and the commands it sent."""
        return ray_up.up(file or self.file)

    @property
    def machines(self) -> list[dict[str, Any]]:
        return [one for group in self.ec2.describe_instances()["Reservations"] for one in group["Instances"]]

    def node_config(self, kind: str) -> dict[str, Any]:
        return yaml.safe_load(self.file.read_text())["available_node_types"][kind]["node_config"]


@pytest.fixture
def cloud(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cloud]:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.setenv(name, "simulated")
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    (tmp_path / ".ray").mkdir()
    (tmp_path / ".ray" / "auth_token").write_text("0" * 64)
    aws_config._get_subnets_or_die.cache_clear()
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        made = CliRunner().invoke(aws_once.main, ["--cidr", OFFICE, "--bucket", "stores"])
        assert made.exit_code == 0, made.output
        ec2 = boto3.client("ec2", region_name=REGION)
        image = ec2.describe_images(Filters=[{"Name": "name", "Values": ["*ubuntu*"]}])["Images"][0]["ImageId"]
        group = made.output.partition("[")[2].partition("]")[0]
        text = (ROOT / "cluster.yaml").read_text().replace("sg-REPLACE", group).replace("ami-REPLACE", image)
        file = tmp_path / "cluster.yaml"
        file.write_text(text.replace("REPLACE-ACCOUNT", "123456789012").replace("REPLACE-FS", "fs-1"))
        yield Cloud(ec2, file, made.output)


def test_ray_up_launches_the_head_alone_behind_closed_doors_and_starts_ray_as_promised(cloud: Cloud) -> None:
    result, sent = cloud.up()
    assert result.exit_code == 0, result.output
    (head,) = cloud.machines
    assert head["InstanceType"] == "m6i.2xlarge"
    assert "InstanceLifecycle" not in head  # on demand: when the head goes, the cluster goes
    assert head["IamInstanceProfile"]["Arn"].endswith("instance-profile/lossgrid-head")
    assert [one["GroupId"] for one in head["SecurityGroups"]] == cloud.node_config("head")["SecurityGroupIds"]
    assert {tag["Key"]: tag["Value"] for tag in head["Tags"]}["ray-cluster-name"] == "lossgrid"
    _only_stated_addresses_come_in(cloud)
    ray_up.keeps_its_promises(sent, mount="mount -t nfs4")


def _only_stated_addresses_come_in(cloud: Cloud) -> None:
    used = {one["GroupId"] for machine in cloud.machines for one in machine["SecurityGroups"]}
    (group,) = cloud.ec2.describe_security_groups(GroupIds=sorted(used))["SecurityGroups"]
    assert aws_once.doors(group) == {("self", None), (OFFICE, 22)}
    every = cloud.ec2.describe_security_groups()["SecurityGroups"]
    assert not [one["GroupName"] for one in every if one["GroupName"].startswith("ray-")]  # Ray's own lets the world in


def test_workers_are_spot_machines_with_a_profile_that_reads_one_bucket_and_writes_its_studies(cloud: Cloud) -> None:
    # As the autoscaler on the head does: the configuration that `ray up` completes, given to Ray's provider for AWS.
    completed = aws_config.bootstrap_aws(yaml.safe_load(cloud.file.read_text()))
    worker = completed["available_node_types"]["gpu"]["node_config"]
    node_provider.AWSNodeProvider(completed["provider"], "lossgrid").create_node(worker, {}, 2)
    machines = cloud.machines
    assert {one["InstanceType"] for one in machines} == {"g5.xlarge"}
    assert {one["InstanceLifecycle"] for one in machines} == {"spot"}
    assert {one["IamInstanceProfile"]["Arn"].rpartition("/")[2] for one in machines} == {"lossgrid-worker"}
    iam = boto3.client("iam", region_name=REGION)
    allowed = iam.get_role_policy(RoleName="lossgrid-worker", PolicyName="lossgrid")["PolicyDocument"]["Statement"]
    touched = {action: one["Resource"] for one in allowed for action in one["Action"]}
    assert touched == {
        "s3:GetObject": "arn:aws:s3:::stores/*",
        "s3:ListBucket": "arn:aws:s3:::stores",
        "s3:GetBucketLocation": "arn:aws:s3:::stores",
        "s3:PutObject": ["arn:aws:s3:::stores/studies/*"],
        "s3:DeleteObject": ["arn:aws:s3:::stores/studies/*"],
        "s3:AbortMultipartUpload": ["arn:aws:s3:::stores/studies/*"],
    }


def test_gpus_of_a_worker_are_known_before_one_is_there(cloud: Cloud) -> None:
    filled = node_provider.AWSNodeProvider.fillout_available_node_types_resources(
        yaml.safe_load(cloud.file.read_text())
    )
    types = filled["available_node_types"]
    assert types["gpu"]["resources"]["GPU"] == 1
    assert types["head"]["resources"]["CPU"] == 0
    assert types["head"]["resources"]["driver"] == 1000


def test_the_file_as_it_is_shipped_launches_nothing(cloud: Cloud) -> None:
    result, _ = cloud.up(ROOT / "cluster.yaml")
    assert result.exit_code != 0
    assert "Failed to detect a security group" in result.output
    assert cloud.machines == []


def test_the_account_can_be_prepared_again_but_not_for_other_addresses(cloud: Cloud) -> None:
    again = CliRunner().invoke(aws_once.main, ["--cidr", OFFICE, "--bucket", "stores"])
    assert again.output == cloud.told
    other = CliRunner().invoke(aws_once.main, ["--cidr", "198.51.100.7/32", "--bucket", "stores"])
    assert other.exit_code == 1
    assert f"also lets in {OFFICE} at 22" in other.output


def test_values_that_are_printed_are_commands_that_a_shell_can_read(cloud: Cloud) -> None:
    commands = [line for line in cloud.told.splitlines() if line.startswith("aws ")]
    asked = [" ".join(shlex.split(line)[1:3]) for line in commands]
    assert asked == ["iam create-service-linked-role", "ecr create-repository", "efs create-file-system",
                     "ec2 describe-subnets", "efs create-mount-target"]  # fmt: skip
    (subnets,) = [line for line in commands if "describe-subnets" in line]
    assert "Name=vpc-id,Values=vpc-" in subnets
    assert "Subnets[].SubnetId" in shlex.split(subnets)
    assert all(REGION in shlex.split(line) for line in commands if " iam " not in line)
    assert os.environ["HOME"] not in cloud.told
