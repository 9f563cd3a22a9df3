"""The files for Kubernetes, checked strictly without a network."""

import copy
import importlib
import math
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.serve.schema import ServeDeploySchema

from irmas_dist.config.serving import ServingSettings
from tests.cluster.kubernetes import KUBERAY, check, kubernetes_objects

OVERLAYS = [KUBERAY / "base", *sorted((KUBERAY / "overlays").iterdir())]


@pytest.mark.parametrize(
    "path",
    [*KUBERAY.glob("base/*.yaml"), *KUBERAY.glob("jobs/*.yaml"), KUBERAY / "service.yaml"],
    ids=str,
)
def test_kuberay_objects_are_valid(path: Path) -> None:
    for found in kubernetes_objects(path):
        check(found)


def test_the_service_is_one_that_ray_serve_and_irmas_take() -> None:
    (found,) = kubernetes_objects(KUBERAY / "service.yaml")
    spec = found["spec"]
    (deployed,) = ServeDeploySchema.model_validate(
        yaml.safe_load(spec["serveConfigV2"])
    ).applications
    module, _, function = deployed.import_path.partition(":")
    assert callable(getattr(importlib.import_module(module), function))
    ServingSettings.model_validate(deployed.args)
    assert [each.name for each in deployed.deployments] == ["predictor"]
    cluster = spec["rayClusterConfig"]
    assert cluster["rayVersion"] == version("ray")
    assert cluster["authOptions"]["mode"] == "token"
    for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"]):
        (container,) = group["template"]["spec"]["containers"]
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"]
        assert {each["name"] for each in container["env"]} == {"IRMAS_SERVE_TOKEN"}
        assert {"cpu", "memory"} <= container["resources"]["limits"].keys()


def test_the_workers_of_the_service_grow_to_what_all_replicas_and_their_successors_need() -> None:
    (found,) = kubernetes_objects(KUBERAY / "service.yaml")
    (deployed,) = yaml.safe_load(found["spec"]["serveConfigV2"])["applications"]
    settings = ServingSettings.model_validate(deployed["args"])
    (deployment,) = deployed["deployments"]
    most = settings.max_replicas or settings.replicas
    most += math.ceil(most * deployment["max_surge_percent"] / 100)
    cluster = found["spec"]["rayClusterConfig"]
    assert cluster["enableInTreeAutoscaling"]
    (workers,) = cluster["workerGroupSpecs"]
    (container,) = workers["template"]["spec"]["containers"]
    # A replica does not stretch over two nodes.
    on_a_node = int(container["resources"]["limits"]["cpu"]) // settings.replica_cpus
    assert workers["maxReplicas"] * on_a_node >= most


def test_other_pods_reach_ray_s_nodes_on_the_port_of_the_service_alone() -> None:
    (cluster,) = kubernetes_objects(KUBERAY / "base/cluster.yaml")
    (service,) = kubernetes_objects(KUBERAY / "service.yaml")
    nodes = service["spec"]["rayClusterConfig"]
    # The operator labels pods with the name of their cluster, which for a RayService has a suffix.
    selectable = [
        {"ray.io/cluster": cluster["metadata"]["name"]},
        *(
            group["template"]["metadata"]["labels"]
            for group in (nodes["headGroupSpec"], *nodes["workerGroupSpecs"])
        ),
    ]
    policies = kubernetes_objects(KUBERAY / "base/network.yaml")
    opened = []
    for labels in selectable:
        (policy,) = [
            each["spec"]
            for each in policies
            if each["spec"]["podSelector"]["matchLabels"].items() <= labels.items()
        ]
        assert policy["policyTypes"] == ["Ingress"]
        near, *others = policy["ingress"]
        own, operator = near["from"]
        assert own == {"podSelector": {}}
        assert operator["podSelector"]["matchLabels"]["app.kubernetes.io/name"] == (
            "kuberay-operator"
        )
        opened.append([port["port"] for each in others for port in each["ports"]])
    assert opened == [[], [8000], [8000]]


def test_a_typo_in_a_kuberay_object_is_found() -> None:
    (found,) = kubernetes_objects(KUBERAY / "base/cluster.yaml")
    broken = copy.deepcopy(found)
    broken["spec"]["workerGroupSpecs"][1]["template"]["spec"]["toleration"] = []
    with pytest.raises(jsonschema.ValidationError, match="'toleration' was unexpected"):
        check(broken)


def built(overlay: Path) -> list[dict[str, Any]]:
    """Return the objects that kustomize builds; without it, apply the JSON patches here."""
    if shutil.which("kubectl"):
        done = subprocess.run(
            ["kubectl", "kustomize", str(overlay)], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        return [found for found in yaml.safe_load_all(done.stdout) if found]
    content = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    found = [
        thing
        for name in content["resources"]
        for thing in (
            built(overlay / name)
            if (overlay / name).is_dir()
            else kubernetes_objects(overlay / name)
        )
    ]
    for patch in content.get("patches", []):
        target = patch["target"]
        (thing,) = [
            one
            for one in found
            if (one["kind"], one["metadata"]["name"]) == (target["kind"], target["name"])
        ]
        for step in yaml.safe_load((overlay / patch["path"]).read_text()):
            apply_patch(thing, step)
    return found


def apply_patch(thing: Any, step: dict[str, Any]) -> None:
    """Apply one step of a JSON patch (RFC 6902), whose target must exist."""
    *path, last = [int(key) if key.isdigit() else key for key in step["path"].split("/")[1:]]
    for key in path:
        thing = thing[key]
    if step["op"] == "add":
        thing.append(step["value"]) if last == "-" else thing.update({last: step["value"]})
        return
    del thing[last]
    if step["op"] == "replace":
        thing.insert(last, step["value"]) if isinstance(thing, list) else thing.update(
            {last: step["value"]}
        )


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_an_overlay_builds_to_a_valid_cluster(overlay: Path) -> None:
    objects = built(overlay)
    assert {found["kind"] for found in objects} == {
        "RayCluster", "PersistentVolumeClaim", "NetworkPolicy",
    }  # fmt: skip
    for found in objects:
        check(found)


@pytest.mark.parametrize("overlay", OVERLAYS, ids=lambda path: path.name)
def test_every_container_is_limited_and_unprivileged(overlay: Path) -> None:
    (cluster,) = [found for found in built(overlay) if found["kind"] == "RayCluster"]
    spec = cluster["spec"]
    assert spec["authOptions"]["mode"] == "token"
    groups = [spec["headGroupSpec"], *spec["workerGroupSpecs"]]
    for pod in (group["template"]["spec"] for group in groups):
        assert pod["securityContext"]["runAsNonRoot"]
        for container in pod["containers"]:
            assert {"cpu", "memory"} <= container["resources"]["requests"].keys()
            assert {"cpu", "memory"} <= container["resources"]["limits"].keys()
            assert not container["securityContext"]["allowPrivilegeEscalation"]


def test_the_cluster_runs_the_ray_that_was_tested() -> None:
    (cluster,) = kubernetes_objects(KUBERAY / "base/cluster.yaml")
    assert cluster["spec"]["rayVersion"] == version("ray")
