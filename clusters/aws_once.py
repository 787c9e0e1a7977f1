"""Make, once per AWS account, what cluster.yaml asks for: a security group and the roles of head and workers.

    python clusters/aws_once.py --cidr 203.0.113.7/32 --bucket my-stores

Prints the values to fill in, and the commands for image repository and file system. What is there already is kept, so it
can be run again; nothing is ever deleted. Groups and roles cost nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from ssh_range import narrow

try:
    import boto3
    from botocore.exceptions import ClientError
except ModuleNotFoundError as missing:
    raise SystemExit(f"{missing}: pip install --constraint constraints.txt boto3, in the checkout") from missing

CLUSTER = "lossgrid"
_EC2_MAY_BE = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}
_IMAGES = "arn:aws:iam::aws:policy/AmazonEC2ContainerRegistryReadOnly"


@click.command()
@click.option("--cidr", required=True, metavar="A.B.C.D/N", help="Who may reach SSH: your address as 203.0.113.7/32.")
@click.option(
    "--bucket",
    required=True,
    metavar="NAME",
    help="S3 bucket: workers read it and write studies/, the head stores/ too.",
)
@click.option("--region", default="eu-central-1", show_default=True)
@click.option("--vpc", metavar="ID", help="VPC of the cluster.  [default: the default VPC of the region]")
def main(cidr: str, bucket: str, region: str, vpc: str | None) -> None:
    """Make what cluster.yaml asks for and print the values to fill in."""
    network = narrow(cidr)
    session = boto3.Session(region_name=region)
    ec2, iam = session.client("ec2"), session.client("iam")
    vpc = vpc or default_vpc(ec2)
    group = security_group(ec2, vpc, network)
    account = session.client("sts").get_caller_identity()["Account"]
    worker = profile(iam, f"{CLUSTER}-worker", worker_policy(bucket))
    profile(iam, f"{CLUSTER}-head", head_policy(worker, bucket))
    click.echo(f"SecurityGroupIds: [{group}]")
    click.echo(f"image: {account}.dkr.ecr.{region}.amazonaws.com/{CLUSTER}:gpu (and :cpu for head_image)")
    click.echo("once more by hand:")
    click.echo("aws iam create-service-linked-role --aws-service-name spot.amazonaws.com")
    click.echo(f"aws ecr create-repository --region {region} --repository-name {CLUSTER}")
    click.echo(f"aws efs create-file-system --region {region} --encrypted --tags Key=Name,Value={CLUSTER}")
    subnets = f"aws ec2 describe-subnets --region {region} --filters Name=vpc-id,Values={vpc}"
    click.echo(f"{subnets} --query 'Subnets[].SubnetId' --output text")
    mount = f"aws efs create-mount-target --region {region} --file-system-id FS"
    click.echo(f"{mount} --subnet-id EACH-SUBNET --security-groups {group}")


def default_vpc(ec2: Any) -> str:
    """Return the id of the default VPC.

    Raises:
        click.ClickException: the region has none.
    """
    found = ec2.describe_vpcs(Filters=[{"Name": "is-default", "Values": ["true"]}])["Vpcs"]
    if not found:
        raise click.ClickException("this region has no default VPC; name one with --vpc")
    return found[0]["VpcId"]


def security_group(ec2: Any, vpc: str, cidr: str) -> str:
    """Return the id of the group: SSH from a range of addresses, everything from its own members, nothing else.

    Raises:
        click.ClickException: a group of this name lets in somebody else.
    """
    wanted = [("vpc-id", vpc), ("group-name", CLUSTER)]
    found = ec2.describe_security_groups(Filters=[{"Name": name, "Values": [value]} for name, value in wanted])
    if found["SecurityGroups"]:
        group = found["SecurityGroups"][0]
        identity = group["GroupId"]
        if others := doors(group) - {("self", None), (cidr, 22)}:
            listed = ", ".join(
                f"{who} at {'all ports' if port is None else port}" for who, port in sorted(others, key=str)
            )
            raise click.ClickException(
                f"the security group {identity} ({CLUSTER}) also lets in {listed}; take these rules out "
                "(aws ec2 revoke-security-group-ingress) or give the --cidr it was made with"
            )
        return identity
    description = "lossgrid: SSH from stated addresses only"
    identity = ec2.create_security_group(GroupName=CLUSTER, VpcId=vpc, Description=description)["GroupId"]
    ec2.authorize_security_group_ingress(
        GroupId=identity,
        IpPermissions=[
            {"IpProtocol": "-1", "UserIdGroupPairs": [{"GroupId": identity}]},
            {"IpProtocol": "tcp", "FromPort": 22, "ToPort": 22, "IpRanges": [{"CidrIp": cidr, "Description": "SSH"}]},
        ],
    )
    return identity


def doors(group: Mapping[str, Any]) -> set[tuple[str, int | None]]:
    """Return who may come in and at which first port (None: all), as EC2 describes a group; "self" is the group."""
    found = set()
    for rule in group["IpPermissions"]:
        who = [source["CidrIp"] for source in rule.get("IpRanges", [])]
        who += [source["CidrIpv6"] for source in rule.get("Ipv6Ranges", [])]
        who += [source["PrefixListId"] for source in rule.get("PrefixListIds", [])]
        pairs = [source["GroupId"] for source in rule.get("UserIdGroupPairs", [])]
        who += ["self" if pair == group["GroupId"] else pair for pair in pairs]
        single = rule.get("FromPort") if rule.get("FromPort") == rule.get("ToPort") != -1 else None
        found |= {(one, single) for one in who}
    return found


def profile(iam: Any, name: str, policy: Mapping[str, Any]) -> str:
    """Make a role with a policy, and an instance profile of the same name; return the role's ARN."""
    unless_there(iam.create_role, RoleName=name, AssumeRolePolicyDocument=json.dumps(_EC2_MAY_BE))
    iam.put_role_policy(RoleName=name, PolicyName=CLUSTER, PolicyDocument=json.dumps(policy))
    iam.attach_role_policy(RoleName=name, PolicyArn=_IMAGES)
    unless_there(iam.create_instance_profile, InstanceProfileName=name)
    if not iam.get_instance_profile(InstanceProfileName=name)["InstanceProfile"]["Roles"]:
        iam.add_role_to_instance_profile(InstanceProfileName=name, RoleName=name)
    return iam.get_role(RoleName=name)["Role"]["Arn"]


def unless_there(make: Any, **arguments: Any) -> None:
    """Make something unless it exists."""
    try:
        make(**arguments)
    except ClientError as error:
        if error.response["Error"]["Code"] != "EntityAlreadyExists":
            raise


def storage(bucket: str, *written: str) -> list[dict[str, Any]]:
    """Return what to allow: read one bucket, and write below the folders that are named."""
    read = {"Effect": "Allow", "Action": ["s3:GetObject"], "Resource": f"arn:aws:s3:::{bucket}/*"}
    look = {
        "Effect": "Allow",
        "Action": ["s3:ListBucket", "s3:GetBucketLocation"],
        "Resource": f"arn:aws:s3:::{bucket}",
    }
    write = {
        "Effect": "Allow",
        "Action": ["s3:PutObject", "s3:DeleteObject", "s3:AbortMultipartUpload"],
        "Resource": [f"arn:aws:s3:::{bucket}/{folder}/*" for folder in written],
    }
    return [read, look, write]


def worker_policy(bucket: str) -> dict[str, Any]:
    """Return what workers may do: read one bucket, write studies into it."""
    return {"Version": "2012-10-17", "Statement": storage(bucket, "studies")}


def head_policy(worker_role: str, bucket: str) -> dict[str, Any]:
    """Return what the head may do: launch machines with the role of workers, end those of this cluster, write stores and studies."""
    ours = {"StringEquals": {"ec2:ResourceTag/ray-cluster-name": CLUSTER}}
    new = {
        "StringEquals": {"ec2:CreateAction": "RunInstances"}
    }  # else a tag would make anybody's machine one of this cluster
    machines = "arn:aws:ec2:*:*:instance/*"
    launch = ["ec2:Describe*", "ec2:RunInstances"]
    return {
        "Version": "2012-10-17",
        "Statement": [
            {"Effect": "Allow", "Action": launch, "Resource": "*"},
            {"Effect": "Allow", "Action": ["ec2:CreateTags"], "Resource": machines, "Condition": new},
            {"Effect": "Allow", "Action": ["ec2:CreateTags"], "Resource": machines, "Condition": ours},
            {"Effect": "Allow", "Action": ["ec2:TerminateInstances"], "Resource": "*", "Condition": ours},
            {"Effect": "Allow", "Action": ["iam:PassRole"], "Resource": worker_role},
            *storage(bucket, "stores", "studies"),
        ],
    }


if __name__ == "__main__":
    main()
