"""The objects of Kubernetes in `cluster/kuberay`, and the schemas that check them."""

import functools
import json
import lzma
from pathlib import Path
from typing import Any

import jsonschema
import yaml

KUBERAY = Path(__file__).parents[2] / "cluster" / "kuberay"


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
