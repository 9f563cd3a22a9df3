"""The GraphQL operations that the client sends, by name."""

import json
from typing import Any
from urllib.parse import quote

from tests.wandb_server.records import StoredArtifact, StoredRun

ENTITY = "tester"
PROJECT = "irmas-dist"


class Operations:
    """Answers operations from what is kept.

    Args:
        url: The server's address, for the places that files are uploaded to.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self.runs: dict[str, StoredRun] = {}
        self.artifacts: dict[str, StoredArtifact] = {}
        self.views: list[dict[str, Any]] = []
        self.unknown: list[str] = []

    def answer(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        """Return the answer to an operation, or an error."""
        operation = getattr(self, f"_on_{name}", None)
        if operation is None:
            self.unknown.append(f"{name}: {body['query']} {body.get('variables')}")
            return {"data": None, "errors": [{"message": f"unknown operation {name}"}]}
        try:
            return {"data": operation(body.get("variables") or {})}
        except LookupError as error:
            return {"data": None, "errors": [{"message": f"not found: {error}"}]}

    def run(self, project: str, name: str) -> StoredRun:
        """Return a run, a new one if there is none of that name."""
        return self.runs.setdefault(name, StoredRun(name, project))

    def keep(self, key: str, name: str, content: bytes) -> None:
        """Keep an uploaded file of a run or of an artifact."""
        if key in self.artifacts:
            artifact = self.artifacts[key]
            if name == "manifest":
                artifact.manifest = json.loads(content)
            else:
                artifact.files[name] = content
        else:
            self.runs[key].files[name] = content

    def kept(self, key: str, name: str) -> bytes:
        """Return an uploaded file."""
        owner = self.artifacts.get(key) or self.runs[key]
        return owner.files[name]

    def _place(self, key: str, name: str) -> str:
        return f"{self._url}/upload/{key}/{quote(name)}"

    def _on_Viewer(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {
            "viewer": {
                "id": "VXNlcjox", "entity": ENTITY, "username": ENTITY, "name": ENTITY,
                "email": "tester@example.org", "flags": "{}", "admin": False,
                "teams": {"edges": []}, "apiKeys": {"edges": []},
            }
        }  # fmt: skip

    def _on_GetDefaultEntity(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return self._on_Viewer(asked)

    def _on_ServerFeaturesQuery(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"serverInfo": {"features": []}}

    def _on_OrganizationCoreWeaveOrganizationID(self, _: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"entity": {"organization": {"coreWeaveOrganizationId": None}}}

    def _on_Run(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(asked["name"])
        last = max((row["_step"] for row in run.history), default=-1) if run else -1
        described = run and {
            "id": run.identity, "name": run.name, "displayName": run.display_name,
            "projectId": "1", "state": run.state, "config": json.dumps(run.config),
            "group": run.group, "jobType": run.job_type, "tags": run.tags, "commit": run.commit,
            "createdAt": "2026-01-01T00:00:00", "heartbeatAt": "2026-01-01T00:00:00",
            "description": "", "notes": run.notes, "readOnly": False, "sweepName": None,
            "systemMetrics": "{}", "summaryMetrics": json.dumps(run.summary),
            "historyLineCount": run.count("wandb-history.jsonl"),
            "historyKeys": {"lastStep": last},
            "user": {"name": ENTITY, "username": ENTITY},
        }  # fmt: skip
        return {"project": {"run": described}}

    def _on_UpsertView2(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        view = {**asked, "spec": json.loads(asked["spec"]), "id": f"view-{len(self.views)}"}
        self.views.append(view)
        saved = {"id": view["id"], "name": view["name"]}
        return {"upsertView": {"view": saved, "inserted": True}}

    def _on_RunResumeStatus(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        run = self.runs.get(asked["name"])
        model = {
            "id": PROJECT, "name": asked.get("project") or PROJECT,
            "entity": {"id": ENTITY, "name": ENTITY}, "bucket": None,
        }  # fmt: skip
        if run is not None:
            model["bucket"] = {
                "id": run.identity, "name": run.name, "displayName": run.display_name,
                "summaryMetrics": json.dumps(run.summary), "config": json.dumps(run.config),
                "logLineCount": run.count("output.log"),
                "historyLineCount": run.count("wandb-history.jsonl"),
                "eventsLineCount": run.count("wandb-events.jsonl"),
                "historyTail": json.dumps(run.lines.get("wandb-history.jsonl", [])[-1:]),
                "eventsTail": json.dumps(run.lines.get("wandb-events.jsonl", [])[-1:]),
                "tags": run.tags, "notes": run.notes, "wandbConfig": "{}",
            }  # fmt: skip
        return {"model": model}

    def _on_UpsertBucket(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        inserted = asked["name"] not in self.runs
        run = self.run(asked.get("project") or PROJECT, asked["name"])
        if asked.get("config") is not None:
            run.config = json.loads(asked["config"])
        if asked.get("summaryMetrics") is not None:
            run.summary = json.loads(asked["summaryMetrics"])
        for attribute, key in (
            ("display_name", "displayName"), ("group", "groupName"), ("job_type", "jobType"),
            ("tags", "tags"), ("host", "host"), ("program", "program"), ("repo", "repo"),
            ("commit", "commit"), ("notes", "notes"), ("state", "state"),
        ):  # fmt: skip
            if asked.get(key) is not None:
                setattr(run, attribute, asked[key])
        if inserted:
            run.state = "running"
        bucket = {
            "id": run.identity, "name": run.name, "displayName": run.display_name or run.name,
            "description": "", "config": json.dumps(run.config), "sweepName": None,
            "historyLineCount": run.count("wandb-history.jsonl"),
            "project": {
                "id": PROJECT, "name": run.project, "entity": {"id": ENTITY, "name": ENTITY},
            },
        }  # fmt: skip
        return {"upsertBucket": {"bucket": bucket, "inserted": inserted}}

    def _on_CreateRunFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        places = [
            {"name": name, "uploadUrl": self._place(asked["run"], name)} for name in asked["files"]
        ]
        created = {"runID": asked["run"], "uploadHeaders": [], "files": places}
        return {"createRunFiles": created}

    def _on_CreateArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = asked["input"]
        collection = given["artifactCollectionName"]
        earlier = [one for one in self.artifacts.values() if one.collection == collection]
        same = next((one for one in earlier if one.digest == given["digest"]), None)
        artifact = same or StoredArtifact(
            identity=f"artifact-{len(self.artifacts)}",
            project=given["projectName"],
            collection=collection,
            kind=given["artifactTypeName"],
            digest=given["digest"],
            aliases=[],
            metadata=json.loads(given.get("metadata") or "{}"),
            by=given.get("runName"),
            client_identity=given.get("clientID") or "",
        )
        self.artifacts[artifact.identity] = artifact
        names = [alias["alias"] for alias in given.get("aliases") or ()]
        for one in earlier:
            one.aliases = [alias for alias in one.aliases if alias not in names]
        artifact.aliases = list(dict.fromkeys([*artifact.aliases, *names]))
        latest = {"id": earlier[-1].identity} if earlier else None
        return {
            "createArtifact": {
                "artifact": {
                    "id": artifact.identity,
                    "state": "COMMITTED" if artifact.committed else "PENDING",
                    "artifactSequence": {"latestArtifact": latest},
                }
            }
        }

    def _on_CreateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"createArtifactManifest": self._manifest(asked["artifactID"])}

    def _on_UpdateArtifactManifest(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        return {"updateArtifactManifest": self._manifest(asked["artifactManifestID"])}

    def _manifest(self, identity: str) -> dict[str, Any]:
        place = {
            "id": identity,
            "uploadUrl": self._place(identity, "manifest"),
            "uploadHeaders": [],
        }
        return {"artifactManifest": {"id": identity, "file": place}}

    def _on_CreateArtifactFiles(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        edges = [
            {
                "node": {
                    "storagePath": file["name"],
                    "uploadUrl": self._place(file["artifactID"], file["name"]),
                    "uploadHeaders": [],
                    "uploadMultipartUrls": None,
                    "artifact": {"id": file["artifactID"]},
                }
            }
            for file in asked["input"]["artifactFiles"]
        ]
        return {"createArtifactFiles": {"files": {"edges": edges}}}

    def _on_CommitArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        artifact = self.artifacts[asked["artifactID"]]
        artifact.committed = True
        described = {"id": artifact.identity, "digest": artifact.digest}
        return {"commitArtifact": {"artifact": described}}

    def _on_UseArtifact(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        given = asked["input"]
        artifact = self.artifacts[given["artifactID"]]
        self.runs[given["runName"]].used.append(artifact)
        return {"useArtifact": {"artifact": {"id": artifact.identity}}}

    def _on_ArtifactType(self, asked: dict[str, Any]) -> dict[str, Any]:  # noqa: N802
        name = asked["name"].split(":")[0]
        found = [one for one in self.artifacts.values() if one.collection == name]
        kind = {"artifactType": {"name": found[-1].kind}} if found else None
        return {"project": {"artifact": kind}}
