"""Make, once per project, what clusters/gcp.yaml asks for: a network with its firewall, accounts of head and workers, a bucket.

    python clusters/gcp_once.py --project my-project --cidr 203.0.113.7/32 --bucket my-stores

Prints the values to fill in, and the commands for image repository and file system. What is there already is kept, so it
can be run again; nothing is ever deleted. Network, accounts and an empty bucket cost nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import click
from ssh_range import narrow

try:
    from googleapiclient import discovery
    from googleapiclient.errors import HttpError
except ModuleNotFoundError as missing:
    told = "pip install --constraint constraints.txt google-api-python-client, in the checkout"
    raise SystemExit(f"{missing}: {told}") from missing

CLUSTER = "lossgrid"
_APIS = ("compute", "iam", "cloudresourcemanager", "storage", "artifactregistry", "file")
_IMAGES = "roles/artifactregistry.reader"
# All machines of the project, not only those of this cluster: what Google's roles can tell apart does not reach further.
_MACHINES = "roles/compute.instanceAdmin.v1"
_ACT_AS = "roles/iam.serviceAccountUser"
_READ, _WRITE = "roles/storage.objectViewer", "roles/storage.objectUser"
_CONDITIONS = 3  # the version of a policy that may hold conditions


@click.command()
@click.option("--project", required=True, metavar="ID", help="Best one of its own: what Ray keeps is the project's.")
@click.option("--cidr", required=True, metavar="A.B.C.D/N", help="Who may reach SSH: your address as 203.0.113.7/32.")
@click.option(
    "--bucket",
    required=True,
    metavar="NAME",
    help="Made if missing: workers read it and write studies/, the head stores/ too.",
)
@click.option("--region", default="europe-west4", show_default=True)
def main(project: str, cidr: str, bucket: str, region: str) -> None:
    """Make what clusters/gcp.yaml asks for and print the values to fill in."""
    addresses = narrow(cidr)
    try:
        make(project, addresses, bucket, region)
    except HttpError as error:
        raise click.ClickException(
            f"Google says {error.reason!r} to {error.uri}. What was made is kept: the same command goes on. Is an API off?\n"
            f"gcloud services enable --project {project} {' '.join(f'{name}.googleapis.com' for name in _APIS)}\n"
            "A new account is known everywhere only after a minute."
        ) from error
    images = f"{region}-docker.pkg.dev/{project}/{CLUSTER}/{CLUSTER}"
    click.echo(f"project_id: {project}")
    click.echo(f"image: {images}:gpu (and :cpu for head_image)")
    click.echo("once more by hand:")
    click.echo(
        f"gcloud artifacts repositories create {CLUSTER} --project {project} --location {region} --repository-format docker"
    )
    click.echo(
        f"gcloud filestore instances create {CLUSTER} --project {project} --zone {region}-a --tier BASIC_HDD "
        f"--file-share name=shared,capacity=1TB --network name={CLUSTER}"
    )


def make(project: str, addresses: str, bucket: str, region: str) -> None:
    """Make what is missing in a project."""
    compute = discovery.build("compute", "v1", cache_discovery=False)
    network(compute, project)
    firewall(compute, project, addresses)
    iam = discovery.build("iam", "v1", cache_discovery=False)
    head, worker = (account(iam, project, f"{CLUSTER}-{kind}") for kind in ("head", "worker"))
    policies = iam.projects().serviceAccounts()
    name = f"projects/{project}/serviceAccounts/{worker}"
    grant(
        lambda: policies.getIamPolicy(resource=name, options_requestedPolicyVersion=_CONDITIONS),
        lambda policy: policies.setIamPolicy(resource=name, body={"policy": policy}),
        [binding(_ACT_AS, head)],
    )
    projects = discovery.build("cloudresourcemanager", "v1", cache_discovery=False).projects()
    ask = {"options": {"requestedPolicyVersion": _CONDITIONS}}
    grant(
        lambda: projects.getIamPolicy(resource=project, body=ask),
        lambda policy: projects.setIamPolicy(resource=project, body={"policy": policy}),
        [binding(_MACHINES, head), binding(_IMAGES, head), binding(_IMAGES, worker)],
    )
    buckets = discovery.build("storage", "v1", cache_discovery=False).buckets()
    storage(buckets, project, bucket, region)
    grant(
        lambda: buckets.getIamPolicy(bucket=bucket, optionsRequestedPolicyVersion=_CONDITIONS),
        lambda policy: buckets.setIamPolicy(bucket=bucket, body=policy),
        [
            binding(_READ, head), binding(_WRITE, head, below(bucket, "stores", "studies")),
            binding(_READ, worker), binding(_WRITE, worker, below(bucket, "studies")),
        ],
    )  # fmt: skip


def network(compute: Any, project: str) -> None:
    """Make a network with a part in each region; other than the default one it begins with all doors closed."""
    if there(compute.networks().get(project=project, network=CLUSTER)) is None:
        finish(
            compute,
            project,
            compute.networks().insert(project=project, body={"name": CLUSTER, "autoCreateSubnetworks": True}),
        )


def firewall(compute: Any, project: str, addresses: str) -> None:
    """Let in SSH from a range of addresses, and everything between machines of the cluster.

    Raises:
        click.ClickException: a rule of the network lets in somebody else.
    """
    ours = {
        f"{CLUSTER}-ssh": {"sourceRanges": [addresses], "allowed": [{"IPProtocol": "tcp", "ports": ["22"]}]},
        f"{CLUSTER}-inside": {"sourceTags": [CLUSTER], "allowed": [{"IPProtocol": "all"}]},
    }
    found = rules(compute, project)
    wanted = {door for rule in ours.values() for door in doors(rule)}
    if others := {name: doors(rule) - wanted for name, rule in found.items() if doors(rule) - wanted}:
        listed = "; ".join(f"{name}: {', '.join(sorted(open_to))}" for name, open_to in sorted(others.items()))
        raise click.ClickException(
            f"the network {CLUSTER} also lets in ({listed}); take these rules out "
            f"(gcloud compute firewall-rules delete {' '.join(sorted(others))} --project {project}) "
            "or give the --cidr it was made with"
        )
    for name, rule in ours.items():
        if name not in found:
            body = {"name": name, "network": f"projects/{project}/global/networks/{CLUSTER}", "direction": "INGRESS"}
            finish(
                compute,
                project,
                compute.firewalls().insert(project=project, body={**body, "targetTags": [CLUSTER], **rule}),
            )


def rules(compute: Any, project: str) -> dict[str, dict[str, Any]]:
    """Return the rules of the network that let somebody in, by name."""
    found = {}
    request = compute.firewalls().list(project=project)
    while request is not None:
        page = request.execute()
        for rule in page.get("items", []):
            if rule["network"].endswith(f"/networks/{CLUSTER}") and rule.get("direction", "INGRESS") == "INGRESS":
                found[rule["name"]] = rule
        request = compute.firewalls().list_next(request, page)
    return found


def doors(rule: Mapping[str, Any]) -> set[str]:
    """Return who may come in and where, by one rule of a firewall."""
    who = [*rule.get("sourceRanges", []), *rule.get("sourceTags", []), *rule.get("sourceServiceAccounts", [])]
    where = [
        f"{one['IPProtocol']}:{port}" for one in rule.get("allowed", []) for port in one.get("ports") or ["all ports"]
    ]
    # A rule without a source is for everybody.
    return {f"{source} at {port}" for source in who or ["0.0.0.0/0"] for port in where}


def account(iam: Any, project: str, name: str) -> str:
    """Make an account for machines; return its address."""
    accounts = iam.projects().serviceAccounts()
    address = f"{name}@{project}.iam.gserviceaccount.com"
    if there(accounts.get(name=f"projects/{project}/serviceAccounts/{address}")) is None:
        accounts.create(name=f"projects/{project}", body={"accountId": name}).execute()
    return address


def storage(buckets: Any, project: str, name: str, region: str) -> None:
    """Make a bucket that nobody outside of the project's rights can read.

    Raises:
        click.ClickException: it is there, and its objects may have rights of their own.
    """
    uniform = {"uniformBucketLevelAccess": {"enabled": True}, "publicAccessPrevention": "enforced"}
    found = there(buckets.get(bucket=name))
    if found is None:
        # What a worker had begun to upload when it was lost would stay, unseen, and cost.
        clean = {"action": {"type": "AbortIncompleteMultipartUpload"}, "condition": {"age": 7}}
        body = {"name": name, "location": region, "iamConfiguration": uniform, "lifecycle": {"rule": [clean]}}
        buckets.insert(project=project, body=body).execute()
    elif not found.get("iamConfiguration", {}).get("uniformBucketLevelAccess", {}).get("enabled"):
        raise click.ClickException(
            f"in the bucket {name} single objects may have rights of their own, and then rights on a folder cannot be given; "
            f"change that (gcloud storage buckets update gs://{name} --uniform-bucket-level-access) or name another bucket"
        )


def below(bucket: str, *folders: str) -> dict[str, str]:
    """Return the condition that an object lies below one of the folders of a bucket."""
    tests = [f"resource.name.startsWith('projects/_/buckets/{bucket}/objects/{folder}/')" for folder in folders]
    return {"title": f"{CLUSTER} {' and '.join(folders)}", "expression": " || ".join(tests)}


def binding(role: str, address: str, condition: Mapping[str, str] | None = None) -> dict[str, Any]:
    """Return what gives a role to an account."""
    only = {"condition": dict(condition)} if condition else {}
    return {"role": role, "members": [f"serviceAccount:{address}"], **only}


def grant(read: Callable[[], Any], write: Callable[[dict[str, Any]], Any], wanted: list[dict[str, Any]]) -> None:
    """Add to a policy what it does not hold yet; its etag keeps what others write at the same time."""
    policy = read().execute()
    held, changed = policy.setdefault("bindings", []), False
    for one in wanted:
        like = [other for other in held if _is_same_right(other, one)]
        if not any(set(one["members"]) <= set(other["members"]) for other in like):
            like[0]["members"].extend(one["members"]) if like else held.append(one)
            changed = True
    if changed:
        policy["version"] = _CONDITIONS
        write(policy).execute()


def _is_same_right(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    return one["role"] == other["role"] and one.get("condition") == other.get("condition")


def there(request: Any) -> dict[str, Any] | None:
    """Ask for something; None: there is no such thing."""
    try:
        return request.execute()
    except HttpError as error:
        if error.resp.status != 404:
            raise
        return None


def finish(compute: Any, project: str, request: Any) -> None:
    """Begin a change, and wait for its end: the next one may need it.

    Raises:
        click.ClickException: Google gave it up.
    """
    operation = request.execute()
    while operation["status"] != "DONE":  # each call waits for up to two minutes by itself
        operation = compute.globalOperations().wait(project=project, operation=operation["name"]).execute()
    if "error" in operation:
        raise click.ClickException("; ".join(one.get("message", one["code"]) for one in operation["error"]["errors"]))


if __name__ == "__main__":
    main()
