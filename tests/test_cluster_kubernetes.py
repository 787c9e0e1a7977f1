"""clusters/kuberay.yaml and its claim: held against the fields of KubeRay, the checks of its operator, the schemas of Kubernetes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from packaging.version import Version

from launcher.cluster import DRIVER, MOST

CLUSTERS = Path(__file__).resolve().parents[1] / "clusters"

_JOB = {
    "entrypoint": str, "submissionMode": ("K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"), "backoffLimit": int,
    "shutdownAfterJobFinishes": bool, "ttlSecondsAfterFinished": int, "rayClusterSpec": dict,
}  # fmt: skip
_CLUSTER = {
    "rayVersion": str, "authOptions": dict, "enableInTreeAutoscaling": bool, "autoscalerOptions": dict,
    "headGroupSpec": dict, "workerGroupSpecs": list,
}  # fmt: skip
_AUTH = {"mode": ("disabled", "token")}
_SCALER = {"version": ("v1", "v2"), "idleTimeoutSeconds": int, "resources": dict}
_HEAD = {"serviceType": ("ClusterIP",), "rayStartParams": dict, "template": dict}
_WORKERS = {
    "groupName": str, "replicas": int, "minReplicas": int, "maxReplicas": int, "rayStartParams": dict, "template": dict,
}  # fmt: skip


def fits(given: dict[str, Any], fields: dict[str, Any]) -> None:
    for name, value in given.items():
        wanted = fields[name]
        assert value in wanted if isinstance(wanted, tuple) else type(value) is wanted, name


def test_the_ray_job_fits_kuberays_fields() -> None:
    job, *_ = yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text())
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    fits(job["spec"], _JOB)
    fits(cluster, _CLUSTER)
    fits(cluster["authOptions"], _AUTH)
    fits(cluster["autoscalerOptions"], _SCALER)
    fits(cluster["headGroupSpec"], _HEAD)
    for group in cluster["workerGroupSpecs"]:
        fits(group, _WORKERS)
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"] == 8  # as the head says, below
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert all(type(value) is str for value in group["rayStartParams"].values())


def test_the_ray_job_keeps_what_kuberays_operator_checks_when_it_sees_one() -> None:
    job, *_ = yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text())
    assert re.fullmatch(
        r"[a-z]([-a-z0-9]{0,45}[a-z0-9])?", job["metadata"]["name"]
    )  # 47 characters: Jobs and pods are named by it
    spec, cluster = job["spec"], job["spec"]["rayClusterSpec"]
    assert spec["shutdownAfterJobFinishes"]  # else ttlSecondsAfterFinished is refused
    assert (
        min(spec["ttlSecondsAfterFinished"], spec["backoffLimit"], cluster["autoscalerOptions"]["idleTimeoutSeconds"])
        >= 0
    )
    assert Version(cluster["rayVersion"]) >= Version("2.52")  # else there is no token
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        assert group["template"]["spec"]["containers"]
        assert group["template"]["spec"].get("restartPolicy", "Never") == "Never"  # the autoscaler is v2


def parts() -> dict[str, dict[str, Any]]:
    """What kuberay.yaml and kuberay_claim.yaml hold of Kubernetes' own kinds."""
    job, policy = yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text())
    claim = yaml.safe_load((CLUSTERS / "kuberay_claim.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    container = {"name": "autoscaler", "resources": cluster["autoscalerOptions"]["resources"]}
    pods = {
        "head": cluster["headGroupSpec"]["template"],
        **{group["groupName"]: group["template"] for group in cluster["workerGroupSpecs"]},
        "autoscaler": {"spec": {"containers": [container]}},
    }
    return {
        "claim": claim,
        "policy": policy,
        **{name: {"apiVersion": "v1", "kind": "PodTemplate", "template": pod} for name, pod in pods.items()},
    }


@pytest.mark.parametrize("version", ["1.25", kubernetes_validate.latest_version()])
def test_pods_claim_and_policy_fit_the_schemas_of_kubernetes(version: str) -> None:
    for part in parts().values():
        kubernetes_validate.validate(part, version, strict=True)


@pytest.mark.parametrize(
    ("part", "right", "wrong"),
    [
        ("gpu", "volumeMounts", "volumeMount"), ("gpu", "sizeLimit", "size"), ("head", "containerPort", "port"),
        ("claim", "storageClassName", "storageClass"), ("policy", "podSelector", "podSelect"), ("policy", "TCP", 6),
        ("autoscaler", "limits", "limit"),
    ],
)  # fmt: skip
def test_what_kubernetes_would_refuse_is_found(part: str, right: str, wrong: Any) -> None:
    text = json.dumps(parts()[part])
    assert json.dumps(right) in text
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(
            json.loads(text.replace(json.dumps(right), json.dumps(wrong))), "1.34", strict=True
        )


def test_pods_ask_for_the_token_and_share_a_claim_that_exists() -> None:
    job, policy = yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text())
    claim = yaml.safe_load((CLUSTERS / "kuberay_claim.yaml").read_text())
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster["authOptions"] == {"mode": "token"}
    assert (
        cluster["headGroupSpec"]["rayStartParams"]["resources"] == f'"{{\\"{DRIVER}\\": 1000, \\"{MOST["GPU"]}\\": 8}}"'
    )
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        mounted = {mount["name"] for container in pod["containers"] for mount in container["volumeMounts"]}
        assert mounted == set(volumes)
        assert volumes["shared"]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    assert all(rule["from"] for rule in policy["spec"]["ingress"])  # a rule without `from` lets everybody in
    (submitter,) = [who["podSelector"]["matchLabels"]["job-name"] for rule in policy["spec"]["ingress"]
                    for who in rule["from"] if "job-name" in who["podSelector"]["matchLabels"]]  # fmt: skip
    assert submitter == job["metadata"]["name"]


def test_what_removes_a_study_from_kubernetes_leaves_its_files() -> None:
    kinds = {one["kind"] for one in yaml.safe_load_all((CLUSTERS / "kuberay.yaml").read_text())}
    assert kinds == {"RayJob", "NetworkPolicy"}  # `kubectl delete -f` of it takes no claim, and no disk, along
