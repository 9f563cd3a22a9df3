"""The commands, snippets and links of README, docs/ and the cluster guides."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

from typer.main import get_command

from irmas_dist.cli.main import app

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
CLUSTER_GUIDES = sorted((ROOT / "cluster").rglob("*.md"))

_BLOCK = re.compile(
    r"(?:<!-- needs: (?P<needs>.+?) -->\n)?```console\n(?P<lines>.*?)```", re.DOTALL
)


@dataclass(frozen=True)
class DocumentedCommand:
    """One line of a console block.

    Attributes:
        page: Where it is documented, relative to the checkout.
        line: The command, on one line, without its prompt.
        needs: What the page says it needs beyond this machine, if anything.
    """

    page: str
    line: str
    needs: str | None

    @property
    def irmas(self) -> list[str] | None:
        """The arguments of ``irmas``, also behind a pipe or for Slurm; none without irmas."""
        match = re.match(r"(?:.+ \| )?(?:\S*/)?irmas (\S.*)|.*irmas\.sbatch (\S.*)", self.line)
        return shlex.split(match[1] or match[2], comments=True) if match else None


def commands(page: Path) -> list[DocumentedCommand]:
    """Return the commands of a page's console blocks, in order."""
    text = page.read_text().replace("\\\n", " ")
    return [
        DocumentedCommand(str(page.relative_to(ROOT)), " ".join(line.split()), block["needs"])
        for block in _BLOCK.finditer(text)
        for line in re.findall(r"^\$ (.+)$", block["lines"], re.MULTILINE)
    ]


def snippets(page: Path, language: str) -> list[str]:
    """Return the contents of a page's code blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def parse(arguments: list[str]) -> None:
    """Parse a command line of irmas without running it; raises what click raises."""
    group = get_command(app)
    while arguments and arguments[0] in getattr(group, "commands", {}):
        group, arguments = group.commands[arguments[0]], arguments[1:]
    parsed = group.make_context(group.name, arguments)
    if parsed.params.get("command"):
        parse(parsed.params["command"])


def options() -> set[str]:
    """Return every option of every irmas command."""
    found: set[str] = set()
    groups = [get_command(app)]
    while groups:
        group = groups.pop()
        groups += getattr(group, "commands", {}).values()
        for parameter in group.params:
            found |= {*parameter.opts, *parameter.secondary_opts, "--help"}
    return found
