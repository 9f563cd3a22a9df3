"""The commands download and index."""

from collections.abc import Sequence
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table

from irmas_dist.cli.command import Config, Json, Overrides, command, read_recipe
from irmas_dist.cli.tables import as_json, show_notes
from irmas_dist.errors import IrmasError, UsageError
from irmas_dist.terminal import escape, show

if TYPE_CHECKING:
    from irmas_dist.corpus.summary import IndexSummary
    from irmas_dist.instruments import Vocabulary


class Part(StrEnum):
    """Parts of IRMAS."""

    TRAINING = "training"
    TESTING = "testing"


class Dataset(StrEnum):
    """Data sets that are downloaded, and of which there are twins."""

    IRMAS = "irmas"
    OPENMIC = "openmic"


@command
def download(
    out: Annotated[Path, typer.Argument(help="Root of the tree to download to.")],
    dataset: Annotated[
        Dataset, typer.Option(help="IRMAS, or OpenMIC-2018: one archive of some 2.5 GB.")
    ] = Dataset.IRMAS,
    part: Annotated[
        list[Part] | None,
        typer.Option(help="Part of IRMAS to fetch; default: both. May be repeated."),
    ] = None,
    base_url: Annotated[
        str | None,
        typer.Option(help="Mirror with the archives at <base-url>/<name>; default: Zenodo."),
    ] = None,
    keep_archives: Annotated[
        bool, typer.Option("--keep-archives", help="Keep the archives beside their folders.")
    ] = False,
    json: Json = False,
) -> None:
    """Download IRMAS or OpenMIC-2018, or what is missing of it."""
    from irmas_dist.corpus import irmas, openmic
    from irmas_dist.corpus.download import download as fetch

    if part and dataset is Dataset.OPENMIC:
        raise typer.BadParameter("--part: the archive of OpenMIC-2018 has both parts")
    archives = irmas.ARCHIVES if dataset is Dataset.IRMAS else (openmic.ARCHIVE,)
    summary = fetch(out, archives, base_url=base_url, parts=part, keep_archives=keep_archives)
    if json:
        as_json(asdict(summary))
        return
    if not summary.extracted_files:
        show(f"complete, nothing to fetch: {summary.path}")
        return
    if summary.skipped_archives:
        show(f"existing: {', '.join(summary.skipped_archives)}")
    megabytes = f"{summary.fetched_bytes / 1e6:,.1f} MB fetched"
    show(f"{megabytes}, {summary.extracted_files:,} files extracted: {summary.path}")


@command
def index(
    tree: Annotated[
        str | None, typer.Argument(help="All or part of an IRMAS-shaped tree, a path or URL.")
    ] = None,
    table: Annotated[
        str | None,
        typer.Option(
            help="Table of clips, CSV, TSV or Parquet: path, and instruments (gac|voi) or a column "
            "for each (1, 0, ?). With a TREE, both are indexed."
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(help="What the table's paths are relative to; default: the table's folder."),
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=NAME",
            help="Name of a column in the table: path=filename. May be repeated.",
        ),
    ] = None,
    soft: Annotated[
        bool, typer.Option("--soft", help="Take the table's values between 0 and 1 as soft labels.")
    ] = False,
    vocabulary_from_table: Annotated[
        Path | None,
        typer.Option(
            help="Take the instruments from the table, and write them to this file, a recipe."
        ),
    ] = None,
    out: Annotated[
        str, typer.Option(help="The manifest to write, a path or URL; - is standard output.")
    ] = "manifest.parquet",
    part: Annotated[
        Part | None,
        typer.Option(
            help="Part of the tree's clips that have a label file; default: the testing part."
        ),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    address: Annotated[
        str | None,
        typer.Option(
            help="Ray cluster to read with: 'auto' or an address; default: this machine, but for "
            "50,000 files and more RAY_ADDRESS."
        ),
    ] = None,
    json: Json = False,
) -> None:
    """Index a tree of audio files, or a table of them: write the manifest."""
    if tree is None and table is None:
        raise typer.BadParameter("give a tree, or a table of clips with --table")
    if table is None and (root or column or soft or vocabulary_from_table):
        raise typer.BadParameter(
            "--root, --column, --soft and --vocabulary-from-table are of a table: "
            "give it with --table"
        )
    if tree and Path(tree).suffix.lower() in (".csv", ".tsv", ".parquet") and Path(tree).is_file():
        raise IrmasError(f"{tree} is a file: give a table of clips with --table")
    if Path(out).suffix.lower() in (".csv", ".tsv", ".json", ".yaml"):
        parquet = Path(out).with_suffix(".parquet").name
        raise typer.BadParameter(f"--out {out}: a manifest is Parquet; name it {parquet}")
    if tree is None and part is not None:
        raise typer.BadParameter("--part is of a TREE; a table says it in its column part")
    named = [pair.partition("=")[::2] for pair in column or ()]
    if wrong := [pair for pair, (_, theirs) in zip(column or (), named, strict=True) if not theirs]:
        raise typer.BadParameter(f"--column {wrong[0]}: expected name=name, such as path=filename")
    names = [ours for ours, _ in named]
    if repeated := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"--column {repeated[0]}: is given twice")
    from irmas_dist.corpus.write_index import ClipTable, write_index, write_index_and_recipe

    corpus = read_recipe(config, overrides, used=("corpus",), indexing=True).corpus
    of_tree = part.value if part else None
    listed = ClipTable(table, root, dict(named), soft) if table else None
    if vocabulary_from_table and listed:
        if "instruments" in corpus.model_fields_set:
            raise typer.BadParameter(
                "the recipe states instruments, and --vocabulary-from-table takes the table's"
            )
        summary, corpus = write_index_and_recipe(
            vocabulary_from_table, out, tree, listed, corpus, part=of_tree, address=address
        )
    else:
        summary = write_index(out, tree, listed, corpus, part=of_tree, address=address)
    if json:
        as_json({"path": out} | asdict(summary))
        return
    _show_summary(summary, corpus.vocabulary, out)


def _show_summary(summary: "IndexSummary", vocabulary: "Vocabulary", out: str) -> None:
    show(_counts(summary, vocabulary))
    for kind, count in summary.problem_kinds.items():
        show(f"unusable, {count:,}: {kind}")
    _first("unusable", [f"{clip}: {why}" for clip, why in summary.problems.items()], "problem")
    show_notes(summary.notes)
    _first("same audio, different labels", [
        "; ".join(f"{clip} ({', '.join(codes)})" for clip, codes in conflict.clips.items())
        for conflict in summary.conflicts
    ], "md5")  # fmt: skip
    _first("in several parts", summary.in_both_parts, "group")
    groups = " and ".join(f"{count:,} of {part}" for part, count in summary.groups.items())
    show(
        f"{summary.clips:,} clips, {summary.hours:.2f} hours, groups: {groups}; "
        f"{len(summary.problems):,} unusable, {len(summary.conflicts):,} with identical audio "
        f"and different labels: {out}"
    )


def _counts(summary: "IndexSummary", vocabulary: "Vocabulary") -> Table:
    """Return a row per instrument: clips, of those in which it is known if not all, and hours."""
    known, partly_known = summary.known_per_instrument, summary.partly_known
    grid = Table(
        Column("instrument", overflow="fold"),
        *(f"{part} {what}" for part in summary.groups for what in ("clips", "hours")),
        caption="clips: of those in which the instrument is known" if partly_known else None,
        caption_justify="left",
    )
    for code, clips in summary.per_instrument.items():
        cells = []
        for part, count in clips.items():
            cells.append(f"{count:,} of {known[code][part]:,}" if partly_known else f"{count:,}")
            cells.append(f"{summary.hours_per_instrument[code][part]:,.2f}")
        grid.add_row(escape(vocabulary.name(code)), *cells)
    return grid


def _first(heading: str, lines: Sequence[str], column: str) -> None:
    """Show the first five of many lines, and where in the manifest to find the others."""
    for line in lines[:5]:
        show(f"{heading}: {line}")
    if (more := len(lines) - 5) > 0:
        show(f"{heading}: … and {more:,} more; see the manifest's column '{column}'")
