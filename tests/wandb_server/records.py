"""What the server keeps: runs with their history and files, and artifacts."""

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass
class StoredRun:
    """A run as the server has it.

    Attributes:
        name: Its identity, unique in the project.
        lines: Lines of its streamed files by name, such as ``wandb-history.jsonl``.
        files: Content of its uploaded files by name.
        used: Artifacts that it takes as inputs.
        state: running, finished or failed.
        overwritten: Lines of its history that were sent again in another form.
    """

    name: str
    project: str
    display_name: str = ""
    group: str | None = None
    job_type: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    host: str | None = None
    program: str | None = None
    repo: str | None = None
    commit: str | None = None
    notes: str | None = None
    summary: dict[str, Any] = field(default_factory=dict)
    lines: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    used: list["StoredArtifact"] = field(default_factory=list)
    state: str = "running"

    @property
    def identity(self) -> str:
        """The identity of the whole server."""
        return f"run:{self.project}:{self.name}"

    @property
    def history(self) -> list[dict[str, Any]]:
        """Everything logged, in order."""
        return [json.loads(line) for line in self.lines.get("wandb-history.jsonl", []) if line]

    @property
    def values(self) -> dict[str, Any]:
        """The configuration without what W&B adds."""
        return {key: item["value"] for key, item in self.config.items() if key != "_wandb"}

    def steps(self, name: str = "epoch") -> list[float]:
        """Return the values of a metric, in the order in which they were sent."""
        return [row[name] for row in self.history if name in row]

    def stream(self, files: dict[str, Any]) -> None:
        """Add streamed lines, each at the place that the client says."""
        for name, chunk in files.items():
            lines = self.lines.setdefault(name, [])
            offset, content = chunk.get("offset", 0), chunk["content"]
            lines.extend([""] * (offset - len(lines)))
            lines[offset : offset + len(content)] = content
            if name == "wandb-summary.json" and content:
                self.summary = json.loads(content[-1])

    def count(self, name: str) -> int:
        """Return the number of lines of a streamed file."""
        return len(self.lines.get(name, []))

    def text(self) -> str:
        """Return all that the server knows of this run, as text to search for secrets."""
        described = [self.config, self.summary, self.tags, self.host, self.program, self.repo]
        files = [content.decode("utf-8", "replace") for content in self.files.values()]
        streamed = [line for lines in self.lines.values() for line in lines]
        return "\n".join([json.dumps(described), str(self.commit), *files, *streamed, *self.files])


@dataclass
class StoredArtifact:
    """One version of an artifact.

    Attributes:
        collection: Its name.
        kind: Its type, such as ``model``.
        files: Content by path.
        by: Identity of the run that made it.
    """

    identity: str
    project: str
    collection: str
    kind: str
    digest: str
    aliases: list[str]
    metadata: dict[str, Any]
    by: str | None = None
    client_identity: str = ""
    manifest: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)
    committed: bool = False
