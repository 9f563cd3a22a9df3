"""The files for Docker, Kubernetes, `ray up` and Slurm, checked strictly without a network."""

import copy
import functools
import importlib
import json
import lzma
import math
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.serve.schema import ServeDeploySchema

from irmas_dist.config.serving import ServingSettings
from tests.documents import parse

ROOT = Path(__file__).parents[2]
DOCKER, CLUSTER = ROOT / "docker", ROOT / "cluster"
KUBERAY = CLUSTER / "kuberay"
OVERLAYS = [KUBERAY / "base", *sorted((KUBERAY / "overlays").iterdir())]
SHELL = [*sorted((CLUSTER / "slurm").iterdir()), ROOT / "tests/cluster/slurm.sh", ROOT / ".ci/run"]


def schema(name: str) -> dict[str, Any]:
    packed = Path(__file__).parent / "schemas" / f"{name}.json.xz"
    return json.loads(lzma.decompress(packed.read_bytes()))


def strict(part: Any) -> Any:
    """Return a schema of Kubernetes that also refuses unknown fields, such as typos."""
    if isinstance(part, list):
        return [strict(item) for item in part]
    if not isinstance(part, dict):
        return part
    part = {key: strict(value) for key, value in part.items()}
    if part.get("x-kubernetes-int-or-string"):
        part.pop("type", None)
        return part | {"anyOf": [{"type": "integer"}, {"type": "string"}]}
    if "properties" in part and not part.get("x-kubernetes-preserve-unknown-fields"):
        part.setdefault("additionalProperties", False)
    return part


def kubernetes_objects(path: Path) -> list[dict[str, Any]]:
    return [found for found in yaml.safe_load_all(path.read_text()) if found]


def check(found: dict[str, Any]) -> None:
    """Check a KubeRay object; other kinds have no schema here."""
    name = {
        "RayCluster": "rayclusters.v1",
        "RayJob": "rayjobs.v1",
        "RayService": "rayservices.v1",
    }.get(found["kind"])
    if name is not None:
        validator(name).validate(found)


@functools.cache
def validator(name: str) -> jsonschema.Validator:
    closed = strict(schema(name))
    # A resource definition leaves Kubernetes' own object metadata open.
    closed["properties"]["metadata"] = {"type": "object"}
    return jsonschema.Draft202012Validator(closed)


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
    assert [each.name for each in deployed.deployments] == ["listener"]
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
    (listener,) = deployed["deployments"]
    most = settings.max_replicas or settings.replicas
    most += math.ceil(most * listener["max_surge_percent"] / 100)
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


@pytest.mark.parametrize("path", sorted((CLUSTER / "ray-up").glob("*.yaml")), ids=str)
def test_ray_up_files_are_valid(path: Path) -> None:
    validate_config(prepare_config(yaml.safe_load(path.read_text())))


@pytest.mark.parametrize("path", sorted((CLUSTER / "ray-up").glob("*.yaml")), ids=str)
def test_ray_up_starts_nodes_with_a_token_and_a_private_dashboard(path: Path) -> None:
    content = yaml.safe_load(path.read_text())
    assert any(target.endswith("/.ray/auth_token") for target in content["file_mounts"])
    assert "RAY_AUTH_MODE=token" in path.read_text()
    assert "--dashboard-host=127.0.0.1" in content["head_start_ray_commands"][-1]


@pytest.mark.parametrize("cloud", ["aws", "gcp"])
def test_ray_up_installs_nothing_into_the_image(cloud: str) -> None:
    filled = prepare_config(yaml.safe_load((CLUSTER / f"ray-up/{cloud}.yaml").read_text()))
    assert filled["head_setup_commands"] == filled["worker_setup_commands"] == []
    # The clients with which a head starts machines of the clouds.
    assert "boto3 google-api-python-client" in (DOCKER / "Dockerfile").read_text()


def test_the_login_shells_of_ray_up_find_the_image_s_programs(tmp_path: Path) -> None:
    written = re.search(
        r"^RUN (echo .*) > /etc/profile\.d/\w+\.sh$", (DOCKER / "Dockerfile").read_text(), re.M
    )
    assert written
    profile = subprocess.run(["sh", "-c", written[1]], capture_output=True, text=True, check=True)
    # A login shell reads it after /etc/profile, too.
    (tmp_path / ".bash_profile").write_text(profile.stdout)
    (tmp_path / ".bashrc").touch()
    shell = subprocess.run(
        ["sh", "-c", " ".join(_with_interactive('echo "$PATH"'))],
        env={"HOME": str(tmp_path), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    first, *others = shell.stdout.strip().split(":")
    assert first == "/opt/irmas/bin"
    assert "/usr/bin" in others


def test_a_typo_in_a_ray_up_file_is_found() -> None:
    content = yaml.safe_load((CLUSTER / "ray-up/aws.yaml").read_text())
    with pytest.raises(jsonschema.ValidationError):
        validate_config(prepare_config(content | {"max_worker": 3}))


def test_compose_files_are_valid() -> None:
    known = jsonschema.Draft202012Validator(schema("compose-spec"))
    for path in sorted(DOCKER.glob("compose*.yaml")):
        known.validate(yaml.safe_load(path.read_text()))


def test_compose_publishes_on_loopback_only_and_wants_a_token() -> None:
    content = yaml.safe_load((DOCKER / "compose.yaml").read_text())
    services = content["services"]
    assert services["worker"]["environment"]["RAY_AUTH_MODE"] == "token"
    published = {name: service["ports"] for name, service in services.items() if "ports" in service}
    assert published == {
        "head": ["127.0.0.1:8265:8265"],
        "serve": ["127.0.0.1:8000:8000"],
        "store": ["127.0.0.1:8333:8333"],
    }
    pinned = [service["image"] for service in services.values()]
    assert all(re.search(r":(\$|.*\d)", image) for image in pinned)


def test_compose_serves_with_a_token_and_only_when_it_is_asked_to() -> None:
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["serve"]
    assert service["profiles"] == ["serve"]
    assert "IRMAS_SERVE_TOKEN" in service["environment"]


def test_the_image_passes_hadolint() -> None:
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKER / "Dockerfile"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_torch_and_torchaudio_are_of_one_release_and_from_one_index() -> None:
    release = version("torch").split("+")[0]
    pinned = (ROOT / "constraints.txt").read_text().splitlines()
    assert {f"torch=={release}", f"torchaudio=={release}"} <= set(pinned)
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert '--index-url "$TORCH_INDEX" torch torchaudio;' in dockerfile


def test_the_image_copies_only_files_in_the_build_context() -> None:
    context = (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
    copies = re.findall(
        r"^COPY (?!--from)(?:--\S+ )*(.+) \S+$", (DOCKER / "Dockerfile").read_text(), re.M
    )
    for name in {word.split("/")[0] for line in copies for word in line.split()}:
        assert (ROOT / name).exists()
        assert f"!{name}" in context


@pytest.mark.parametrize("path", SHELL, ids=lambda path: path.name)
def test_shell_scripts_pass_shellcheck(path: Path) -> None:
    shellcheck = Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def submitted() -> Iterator[tuple[str, list[str]]]:
    """Yield the file and the arguments of every irmas command in job and script files."""
    for path in sorted(KUBERAY.glob("jobs/*.yaml")):
        (job,) = kubernetes_objects(path)
        yield path.name, shlex.split(job["spec"]["entrypoint"])[1:]
    service = yaml.safe_load((DOCKER / "compose.yaml").read_text())["services"]["serve"]
    command = re.sub(r"\$\{\w+:-([^}]+)\}", r"\1", service["command"])
    yield "compose.yaml", shlex.split(command)[1:]
    script = (CLUSTER / "slurm/sweep.sh").read_text().replace("\\\n", " ")
    for line in re.findall(r"^\w+=\$\(after \S+ (.*)\)$", script, re.M):
        filled = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", line.replace('"${tracked[@]}"', "--set a=b"))
        yield "sweep.sh", shlex.split(filled)


def test_every_command_in_a_cluster_file_exists() -> None:
    commands = list(submitted())
    assert {where for where, _ in commands} == {
        "train.yaml",
        "sweep.yaml",
        "compose.yaml",
        "sweep.sh",
    }
    for where, command in commands:
        try:
            parse(command)
        except Exception as error:
            raise AssertionError(f"{where}: irmas {' '.join(command)}: {error}") from error
