"""The commands evaluate and report."""

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from irmas_dist.cli.command import (
    AdaptTo,
    Address,
    Config,
    Json,
    Overrides,
    StorePart,
    command,
)
from irmas_dist.cli.evaluated import show_evaluation
from irmas_dist.cli.given_scores import (
    FitLabels,
    FitOn,
    GivenScores,
    LabelFile,
    Level,
    Threshold,
)
from irmas_dist.cli.tables import show_path

if TYPE_CHECKING:
    from irmas_dist.evaluation.evaluate import Evaluation

Mapped = Annotated[
    str | None,
    typer.Option(
        "--map",
        metavar="CODE=CODE,…|FILE",
        help="New codes of instruments, such as gac=guitar,gel=guitar, or a YAML file of them; the "
        "model's and the clips' may differ.",
    ),
]


@command
def evaluate(
    model: Annotated[
        str | None, typer.Argument(help="Model directory; none with --scores.")
    ] = None,
    features: Annotated[
        str | None, typer.Option(help="Feature store with the clips to score.")
    ] = None,
    tree: Annotated[
        Path | None, typer.Option(help="IRMAS tree with the clips to score, instead of a store.")
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            help="Scores of any model: scores.parquet, CSV of path and a column per instrument, "
            "or predictions."
        ),
    ] = None,
    labels: LabelFile = None,
    threshold: Threshold = None,
    fit_on: FitOn = None,
    fit_labels: FitLabels = None,
    part: Annotated[
        StorePart, typer.Option(help="Part of the store or tree to score.")
    ] = StorePart.TESTING,
    out: Annotated[
        str | None,
        typer.Option(
            help="Directory for scores.parquet; default: the model directory. Required with --map, "
            "--adapt-to, --at family, and a --part other than testing."
        ),
    ] = None,
    work: Annotated[
        Path | None,
        typer.Option(
            help="Where to keep the features of --tree, in evaluated-tree; default: delete them."
        ),
    ] = None,
    at: Annotated[
        Level,
        typer.Option(
            help="Level of the figures: each instrument, or each family of the recipe; of a model, "
            "family needs --features and --out."
        ),
    ] = "instrument",
    mapping: Mapped = None,
    adapt_to: AdaptTo = None,
    address: Address = None,
    config: Config = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Evaluate a model or scores on labelled clips, beside published results."""
    given = [option for option in (features, tree, scores) if option is not None]
    if len(given) != 1 or (model is None) != (scores is not None):
        raise typer.BadParameter("give MODEL with --features or --tree, or --scores without MODEL")
    if at == "family" and mapping is not None:
        raise typer.BadParameter("--at family takes the recipe's families: leave out --map")
    options = GivenScores(labels, threshold, fit_on, fit_labels, config, overrides)
    if scores is not None:
        if adapt_to is not None:
            raise typer.BadParameter("scores cannot be adapted, only a model: see --adapt-to")
        if out or work or address or part is not StorePart.TESTING:
            raise typer.BadParameter(
                "--out, --part, --work and --address are of a model: see MODEL"
            )
        show_evaluation(options.evaluate(scores, at, mapping), json)
        return
    options.refuse_any()
    if tree is None and (work or address):
        raise typer.BadParameter("--work and --address are of a tree: see --tree")
    assert model is not None
    others = {
        "other codes than the model's": at == "family" or mapping is not None,
        "an adapted model": adapt_to is not None,
        f"the part {part.value}": part is not StorePart.TESTING,
    }
    differ = next((what for what, is_so in others.items() if is_so), None)
    if differ and out is None:
        raise typer.BadParameter(f"these scores are of {differ}: name their place with --out")
    if features is not None:
        found = _evaluate_store(model, features, out or model, part, at, mapping, adapt_to)
    else:
        if at == "family" or mapping is not None:
            raise typer.BadParameter("--at family and --map need a store: see --features")
        if adapt_to is not None:
            raise typer.BadParameter("--adapt-to needs a store: see --features")
        from irmas_dist.inference.evaluate import evaluate_tree

        assert tree is not None
        with tempfile.TemporaryDirectory(prefix="irmas-") as scratch:
            directory = work or Path(scratch)
            found = evaluate_tree(model, tree, out or model, part, directory, address)
    show_evaluation(found, json)
    _log(model, found, replaces=differ is None)


def _evaluate_store(
    model: str,
    features: str,
    out: str,
    part: StorePart,
    at: Level,
    mapping: str | None,
    adapt_to: str | None,
) -> "Evaluation":
    from irmas_dist.evaluation.merging import new_codes
    from irmas_dist.inference import evaluate
    from irmas_dist.training.model_description import read_description

    codes = None
    if at == "family" or mapping is not None:
        codes = new_codes(mapping, read_description(model).corpus.families)
    return evaluate.evaluate(model, features, out, part, codes, adapt_to)


def _log(model: str, found: "Evaluation", *, replaces: bool) -> None:
    """Log an evaluation to W&B.

    Args:
        model: Model directory.
        found: The evaluation.
        replaces: Whether its figures replace earlier ones in the summary of the model's run.
    """
    from irmas_dist.reports.wandb_evaluation import log_evaluation
    from irmas_dist.storage.results import directory_name
    from irmas_dist.tracking.outcome import awaiting_uploads
    from irmas_dist.training.model_description import read_description

    description = read_description(model)
    if not replaces:
        description = description.model_copy(update={"run": None})
    with awaiting_uploads(description.tracking.wait_s):
        log_evaluation(description, found, directory_name(model))


@command
def report(
    model: Annotated[
        str | None,
        typer.Argument(help="Model directory, or that of a sweep; none with --scores alone."),
    ] = None,
    scores: Annotated[
        str | None,
        typer.Option(
            help="Scores, as evaluate --scores; with MODEL a scores.parquet of its own, default: "
            "that in its directory."
        ),
    ] = None,
    labels: LabelFile = None,
    threshold: Threshold = None,
    fit_on: FitOn = None,
    fit_labels: FitLabels = None,
    tree: Annotated[
        Path | None, typer.Option(help="Tree of the audio, for players of the worst clips.")
    ] = None,
    out: Annotated[
        str | None,
        typer.Option(
            help="The page, - for standard output; default: report.html in the model directory."
        ),
    ] = None,
    config: Config = None,
    overrides: Overrides = None,
    json: Json = False,
) -> None:
    """Write one HTML page on a model's evaluation, or on a sweep."""
    from irmas_dist import storage
    from irmas_dist.reports.model_page import write_model_page
    from irmas_dist.storage.locks import lock_file
    from irmas_dist.storage.results import SWEEP_FILE, holds

    options = GivenScores(labels, threshold, fit_on, fit_labels, config, overrides)
    if model is None:
        if scores is None or out is None:
            raise typer.BadParameter("give MODEL, or --scores and --out")
        with lock_file(out):
            evaluation = options.evaluate(scores)
            write_model_page(out, evaluation, Path(scores).stem, tree=tree)
        show_path(out, json)
        return
    options.refuse_any()
    page = out or storage.join(model, "report.html")
    if holds(model, SWEEP_FILE):
        from irmas_dist.reports.sweep_page import write_sweep_page

        if scores is not None or tree is not None:
            raise typer.BadParameter(f"{model} is a sweep: --scores and --tree go with a model")
        with lock_file(page):
            write_sweep_page(Path(model), page)
    else:
        from irmas_dist.inference.evaluate import evaluate_model_scores, read_model_scores
        from irmas_dist.storage.results import directory_name

        description, read, path = read_model_scores(model, scores)
        with lock_file(page):
            evaluation = evaluate_model_scores(description, read, path)
            write_model_page(page, evaluation, directory_name(model), description, tree=tree)
    show_path(page, json)
