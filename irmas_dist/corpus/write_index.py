"""The manifest of a tree, of a table of clips, or of both, and its summary."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.config.corpus import CorpusSettings
from irmas_dist.config.yaml_files import dump_yaml
from irmas_dist.corpus.clip_table import add_audio, parse_table
from irmas_dist.corpus.groups import settle_conflicts
from irmas_dist.corpus.index import index_tree, settle_identities
from irmas_dist.corpus.manifest import write_manifest
from irmas_dist.corpus.summary import IndexSummary, summarise
from irmas_dist.corpus.table_vocabulary import table_vocabulary
from irmas_dist.errors import IrmasError
from irmas_dist.storage.locks import lock_file
from irmas_dist.terminal import say


@dataclass(frozen=True)
class ClipTable:
    """A table of clips, and how to read it.

    Attributes:
        location: Path or URL.
        root: Folder that its paths are relative to; None for its own.
        columns: What it calls some of `config.corpus.TABLE_COLUMNS`, or of the instruments.
        soft: Whether labels may lie between 0 and 1.
    """

    location: str
    root: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    soft: bool = False


def write_index(
    out: str,
    tree: str | None,
    table: ClipTable | None,
    corpus: CorpusSettings,
    *,
    part: str | None = None,
    address: str | None = None,
) -> IndexSummary:
    """Write the manifest of a tree, of a table, or of both.

    Args:
        out: The manifest, a path or URL, or `storage.STDOUT`.
        tree: As for `index_tree`.
        table: The table; its rows replace those of the tree for the same file.
        corpus: The instruments, and what to do about identical audio with different labels.
        part: As for `index_tree`.
        address: As for `index_tree`.

    Raises:
        IrmasError: No file can be used, or as for `index_tree` and `parse_table`.
    """
    with lock_file(out):
        listed: list[dict[str, Any]] = []
        if table is not None:  # A tree may take minutes to read.
            listed = parse_table(
                table.location, corpus.vocabulary, table.root, table.columns, table.soft
            )
        rows = index_tree(tree, corpus.vocabulary, address, part) if tree is not None else []
        if listed:
            rows = with_table(rows, add_audio(listed))
        conflicts = settle_conflicts(rows, corpus.conflicts)
        if all(row["problem"] for row in rows):
            advice = "; see --root" if table else ""
            if table and table.root:
                advice = f"; are paths relative to {table.root}?"
            raise IrmasError(
                f"no file can be used: {rows[0]['path']}: {rows[0]['problem']}{advice}"
            )
        write_manifest(out, rows, corpus.vocabulary)
    return summarise(rows, conflicts, corpus.vocabulary)


def write_index_and_recipe(
    recipe: Path,
    out: str,
    tree: str | None,
    table: ClipTable,
    corpus: CorpusSettings,
    *,
    part: str | None = None,
    address: str | None = None,
) -> tuple[IndexSummary, CorpusSettings]:
    """Do as `write_index` with the instruments of the table, and write these as a recipe.

    Returns:
        The summary, and the settings with the instruments of the table.

    Raises:
        IrmasError: The file exists and is another recipe, or as for `write_index` and
            `table_vocabulary`.
    """
    found = table_vocabulary(table.location, table.columns, table.soft)
    instruments = dict(zip(found.vocabulary.codes, found.vocabulary.names, strict=True))
    corpus = corpus.model_copy(update={"instruments": instruments})
    content = dump_yaml({"corpus": {"instruments": instruments}}).encode()
    with lock_file(recipe):
        if recipe.is_file() and storage.read_bytes(recipe) != content:
            raise IrmasError(
                f"{recipe} exists and is another recipe: name another file for the instruments of "
                "the table"
            )
        summary = write_index(out, tree, table, corpus, part=part, address=address)
        with storage.write_atomically(recipe) as file:
            file.write(content)
    for name, reason in found.others.items():
        say(f"not an instrument, the column {name!r}: {reason}")
    say(f"{len(instruments)} instruments, in {recipe}: {', '.join(instruments)}")
    return summary, corpus


def with_table(tree: list[dict[str, Any]], table: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of a tree and of a table, which goes before the tree for the same file."""
    listed = {storage.real(row["path"]) for row in table}
    rows = [row for row in tree if storage.real(row["path"]) not in listed]
    if count := len(tree) - len(rows):
        say(f"{count:,} files of the tree are in the table, which says what plays in them")
    taken = {row["clip_id"] for row in rows}
    for row in table:
        # Of other folders: below each, files may be named alike.
        if row["clip_id"] in taken:
            row["clip_id"] += " (table)"
    rows += table
    settle_identities(rows)
    return rows
