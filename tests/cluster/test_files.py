"""The files for Docker, `ray up` and Slurm, checked strictly without a network."""

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import jsonschema
import pytest
import yaml
from ray.autoscaler._private.command_runner import _with_interactive
from ray.autoscaler._private.util import prepare_config, validate_config

from tests.cluster.kubernetes import KUBERAY, kubernetes_objects, schema
from tests.documents import parse

ROOT = Path(__file__).parents[2]
DOCKER, CLUSTER = ROOT / "docker", ROOT / "cluster"
SHELL = [*sorted((CLUSTER / "slurm").iterdir()), ROOT / "tests/cluster/slurm.sh", ROOT / ".ci/run"]


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
