"""The manifests for Kubernetes, strictly: a field that Kubernetes' or KubeRay's published schemas lack is an error.

KubeRay's are in `kuberay.json`. KUBERAY_CRDS, a folder with the definitions as KubeRay publishes them, has that file
held against these.
"""

from __future__ import annotations

import copy
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kuberay_schemas
import kubernetes_validate
import pytest
import yaml
from ray_commands import arguments_from, options_of

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kuberay"
MANIFESTS: list[dict[str, Any]] = [
    manifest for path in sorted(FOLDER.glob("*.yaml")) for manifest in yaml.safe_load_all(path.read_text())
]
OURS = [manifest for manifest in MANIFESTS if manifest["apiVersion"] == "ray.io/v1"]
KUBERNETES_VERSIONS = ["1.31", kubernetes_validate.latest_version()]
CRDS = os.environ.get("KUBERAY_CRDS")
PUBLISHED: dict[str, Any] = json.loads(kuberay_schemas.FILE.read_text())
RELEASE = PUBLISHED["$comment"].split()[1].rstrip(",")


def named(manifest: dict[str, Any]) -> str:
    return f"{manifest['kind']}-{manifest['metadata']['name']}"


def find(kind: str, name: str) -> dict[str, Any]:
    (found,) = [manifest for manifest in MANIFESTS if named(manifest) == f"{kind}-{name}"]
    return found


def pod_templates(node: Any) -> Iterator[dict[str, Any]]:
    """Every pod template below a node."""
    if isinstance(node, dict):
        for name, value in node.items():
            if name == "template" and "spec" in value:
                yield value
            else:
                yield from pod_templates(value)
    elif isinstance(node, list):
        for value in node:
            yield from pod_templates(value)


def cluster_of(manifest: dict[str, Any]) -> dict[str, Any]:
    spec = manifest["spec"]
    return dict(spec["rayClusterSpec"] if manifest["kind"] == "RayJob" else spec)


def check(manifest: dict[str, Any], version: str) -> None:
    """Hold a manifest against the schemas; raises `jsonschema.ValidationError`."""
    if manifest["apiVersion"] != "ray.io/v1":
        kubernetes_validate.validate(manifest, version, strict=True)
        return
    assert manifest.keys() <= {"apiVersion", "kind", "metadata", "spec"}
    jsonschema.validate(manifest["spec"], {"$defs": PUBLISHED["$defs"], **PUBLISHED[manifest["kind"]]})
    shell = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": manifest["metadata"]}
    for template in pod_templates(manifest):
        kubernetes_validate.validate({**shell, "template": template}, version, strict=True)


@pytest.mark.parametrize("version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_every_field_is_known(manifest: dict[str, Any], version: str) -> None:
    check(manifest, version)


@pytest.mark.parametrize(
    ("kind", "name", "path"),
    [
        ("RayJob", "experiment", ["spec", "backofLimit"]),
        ("RayJob", "experiment", ["spec", "rayClusterSpec", "headGroupSpec", "serviceTyp"]),
        ("RayCluster", "orchestrator", ["spec", "workerGroupSpecs", 0, "template", "spec", "volums"]),
        ("RayCluster", "orchestrator", ["spec", "authOptions", "token"]),
        ("RayCluster", "orchestrator", ["spec", "headGroupSpec", "template", "spec", "containers", 0, "lifecycel"]),
        ("Deployment", "mlflow", ["spec", "template", "spec", "containers", 0, "redinessProbe"]),
        ("NetworkPolicy", "names", ["spec", "egres"]),
    ],
)
def test_an_unknown_field_would_be_found(kind: str, name: str, path: list[Any]) -> None:
    wrong = copy.deepcopy(find(kind, name))
    place = wrong
    for part in path[:-1]:
        place = place[part]
    place[path[-1]] = "x"
    with pytest.raises(jsonschema.ValidationError, match=path[-1]):
        check(wrong, KUBERNETES_VERSIONS[-1])


def test_all_is_in_the_one_namespace() -> None:
    assert {m["metadata"].get("namespace") for m in MANIFESTS if m["kind"] != "Namespace"} == {"orchestrator"}
    assert [named(m) for m in MANIFESTS if m["kind"] == "Namespace"] == ["Namespace-orchestrator"]
    assert len({named(m) for m in MANIFESTS}) == len(MANIFESTS)


@pytest.mark.parametrize("manifest", OURS, ids=named)
def test_ray_is_the_pinned_one_with_tokens_on(manifest: dict[str, Any]) -> None:
    cluster = cluster_of(manifest)
    assert f"ray=={cluster['rayVersion']}" in (ROOT / "constraints.txt").read_text().split()
    assert cluster["authOptions"] == {"mode": "token", "secretName": "ray-token"}
    assert cluster["headGroupSpec"]["serviceType"] == "ClusterIP"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        options_of(arguments_from(group["rayStartParams"]))


def test_a_job_has_the_cluster_that_is_described_alone() -> None:
    assert cluster_of(find("RayJob", "experiment")) == cluster_of(find("RayCluster", "orchestrator"))


def test_a_job_goes_on_whatever_fails_and_leaves_no_cluster() -> None:
    spec = find("RayJob", "experiment")["spec"]
    # The one mode in which the operator submits a job anew, under the same id, that a new head does not know.
    assert spec["submissionMode"] == "HTTPMode"
    assert spec["jobId"]
    assert spec["backoffLimit"] > 0
    assert spec["shutdownAfterJobFinishes"]
    assert spec["preRunningDeadlineSeconds"] > 0
    words = spec["entrypoint"].split()
    # No --fresh: the same command continues.
    assert words == ["orchestrator", "run", "/spec/spec.yaml", "--address", "auto"]
    head = spec["rayClusterSpec"]["headGroupSpec"]["template"]["spec"]
    home = next(entry["value"] for entry in head["containers"][0]["env"] if entry["name"] == "ORCHESTRATOR_HOME")
    mounts = {mount["mountPath"]: mount["name"] for mount in head["containers"][0]["volumeMounts"]}
    volumes = {volume["name"]: volume for volume in head["volumes"]}
    assert volumes[mounts["/shared"]]["persistentVolumeClaim"]["claimName"] == "experiments"
    assert home.startswith("/shared/")
    assert "configMap" in volumes[mounts["/spec"]]
    assert find("PersistentVolumeClaim", "experiments")["spec"]["accessModes"] == ["ReadWriteMany"]


def test_an_experiment_has_an_owner_with_an_account_of_their_own() -> None:
    for manifest in OURS:
        for template in pod_templates(manifest):
            told = {entry["name"]: entry for entry in template["spec"]["containers"][0]["env"]}
            assert told["ORCHESTRATOR_OWNER"]["valueFrom"] == told["MLFLOW_TRACKING_USERNAME"]["valueFrom"]
    (account,) = re.findall(r"generic mlflow-account --from-literal=username=(\w+)", (FOLDER / "README.md").read_text())
    assert account != "admin"


def test_every_node_sees_the_experiments_under_the_same_path() -> None:
    for manifest in OURS:
        for template in pod_templates(manifest):
            (container,) = template["spec"]["containers"]
            assert {"name": "experiments", "mountPath": "/shared"} in container["volumeMounts"]


@pytest.mark.parametrize("manifest", MANIFESTS, ids=named)
def test_pods_have_no_rights_that_they_do_not_need(manifest: dict[str, Any]) -> None:
    for template in pod_templates(manifest):
        spec = template["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"]
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["resources"]["requests"]
            assert re.search(r":\d[\w.-]*$", container["image"])


def test_secrets_are_named_never_given() -> None:
    assert [named(m) for m in MANIFESTS if m["kind"] == "Secret"] == []
    readme = (FOLDER / "README.md").read_text()
    for manifest in MANIFESTS:
        for template in pod_templates(manifest):
            for container in template["spec"]["containers"]:
                for entry in container.get("env", []):
                    if re.search(r"PASSWORD|SECRET|TOKEN|USERNAME", entry["name"]):
                        reference = entry["valueFrom"]["secretKeyRef"]
                        assert f"generic {reference['name']} " in readme
                        assert reference["key"] in readme
    assert "generic ray-token " in readme


def test_only_who_has_to_gets_in() -> None:
    """Each pod is behind the policy that lets nobody in, and the openings fit pods that exist."""
    policies = [m for m in MANIFESTS if m["kind"] == "NetworkPolicy"]
    (closed,) = [p["spec"] for p in policies if p["metadata"]["name"] == "nobody"]
    assert closed == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    labels = [t["metadata"]["labels"] for m in MANIFESTS for t in pod_templates(m)]
    # What the operator and Kubernetes set themselves.
    labels += [{"app.kubernetes.io/name": "kuberay-operator"}, {"k8s-app": "kube-dns"}]
    labels += [{**entry, "ray.io/node-type": "head"} for entry in labels if "app.kubernetes.io/part-of" in entry]
    for policy in policies:
        spec = policy["spec"]
        peers = [peer for rule in spec.get("ingress", []) for peer in rule["from"]]
        peers += [peer for rule in spec.get("egress", []) for peer in rule["to"]]
        for selector in [spec["podSelector"], *(peer["podSelector"] for peer in peers)]:
            wanted = selector.get("matchLabels", {}).items()
            assert any(wanted <= entry.items() for entry in labels), f"{policy['metadata']['name']}: {selector}"
    # From other namespaces the operator alone.
    (outside,) = [
        peer
        for policy in policies
        for rule in policy["spec"].get("ingress", [])
        for peer in rule["from"]
        if "namespaceSelector" in peer
    ]
    assert outside["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}


def test_services_lead_to_pods() -> None:
    for service in (m for m in MANIFESTS if m["kind"] == "Service"):
        (template,) = [
            template
            for manifest in MANIFESTS
            for template in pod_templates(manifest)
            if service["spec"]["selector"].items() <= template["metadata"]["labels"].items()
        ]
        ports = {port["name"] for container in template["spec"]["containers"] for port in container["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= ports


def test_the_release_is_the_one_that_is_described() -> None:
    (described,) = re.findall(r"kubernetes/index.html\) (\S+) and", (FOLDER / "README.md").read_text())
    assert RELEASE.startswith(f"{described}.")


@pytest.mark.skipif(not CRDS, reason="KUBERAY_CRDS names no folder with KubeRay's published definitions")
def test_the_schemas_are_those_published() -> None:
    made = kuberay_schemas.as_text(kuberay_schemas.schemas(Path(CRDS or ""), RELEASE))
    assert kuberay_schemas.FILE.read_text() == made
