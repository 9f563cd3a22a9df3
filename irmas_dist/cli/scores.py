"""The commands evaluate and report."""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from irmas_dist.cli.command import (
    AdaptTo,
    Address,
    Config,
    Json,
    Overrides,
    StorePart,
    command,
    read_recipe,
)
from irmas_dist.cli.evaluated import show_evaluation
from irmas_dist.cli.tables import show_path
from irmas_dist.errors import UsageError

if TYPE_CHECKING:
    from irmas_dist.evaluation.evaluate import Evaluation

LabelFile = Annotated[
    str | None,
    typer.Option(
        help="For scores without labels of their own: table of path, and instruments (gac|voi) or "
        "a column for each (1, 0, ?); default: IRMAS's."
    ),
]

Threshold = Annotated[
    float | None, typer.Option(help="With --scores: a threshold that was chosen beforehand.")
]
FitOn = Annotated[
    str | None,
    typer.Option(
        help="With --scores: held-out scores to fit thresholds to; mixed if single-label."
    ),
]
FitLabels = Annotated[
    str | None, typer.Option(help="Labels of --fit-on, as --labels; default: IRMAS's.")
]

OWN_RECIPE = (
    "a model has the recipe that it was trained with: leave out --config and --set, and give "
    "families that it does not have as --map"
)

Level = Literal["instrument", "family"]
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
    if scores is not None and adapt_to is not None:
        raise typer.BadParameter("scores cannot be adapted, only a model: see --adapt-to")
    if scores is not None and (out or work or address or part is not StorePart.TESTING):
        raise typer.BadParameter("--out, --part, --work and --address are of a model: see MODEL")
    if tree is None and (work or address):
        raise typer.BadParameter("--work and --address are of a tree: see --tree")
    if scores is None and (labels or threshold is not None or fit_on or fit_labels):
        raise typer.BadParameter("a model has thresholds and its clips have labels: see --scores")
    if scores is None and (config or overrides):
        raise typer.BadParameter(OWN_RECIPE)
    if at == "family" and mapping is not None:
        raise typer.BadParameter("--at family takes the recipe's families: leave out --map")
    if scores is not None:
        found = _evaluate_file(
            scores, labels, threshold, fit_on, fit_labels, config, overrides, at, mapping
        )
    else:
        from irmas_dist.evaluation.merging import new_codes
        from irmas_dist.inference import evaluate
        from irmas_dist.training.model_description import read_description

        assert model is not None
        codes = None
        if at == "family" or mapping is not None:
            if out is None:
                raise typer.BadParameter(
                    "these scores are of other codes than the model's: name their place with --out"
                )
            if features is None:
                raise typer.BadParameter("--at family and --map need a store: see --features")
            codes = new_codes(mapping, read_description(model).corpus.families)
        if adapt_to is not None and out is None:
            raise typer.BadParameter(
                "these scores are of an adapted model: name their place with --out"
            )
        if part is not StorePart.TESTING and out is None:
            raise typer.BadParameter(
                f"these scores are of the part {part.value}: name their place with --out"
            )
        if adapt_to is not None and features is None:
            raise typer.BadParameter("--adapt-to needs a store: see --features")
        if features is not None:
            found = evaluate.evaluate(model, features, out or model, part, codes, adapt_to)
        else:
            assert tree is not None
            with tempfile.TemporaryDirectory(prefix="irmas-") as scratch:
                directory = work or Path(scratch)
                found = evaluate.evaluate_tree(model, tree, out or model, part, directory, address)
    show_evaluation(found, json)
    if model is not None:
        from irmas_dist.reports.wandb_evaluation import log_evaluation
        from irmas_dist.storage.results import directory_name
        from irmas_dist.tracking.outcome import awaiting_uploads
        from irmas_dist.training.model_description import read_description

        description = read_description(model)
        testing = part is StorePart.TESTING
        if at == "family" or mapping is not None or adapt_to is not None or not testing:
            # These figures are not to replace those of the model as it is.
            description = description.model_copy(update={"run": None})
        with awaiting_uploads(description.tracking.wait_s):
            log_evaluation(description, found, directory_name(model))


def _evaluate_file(
    scores: str,
    labels: str | None,
    threshold: float | None,
    fit_on: str | None,
    fit_labels: str | None,
    config: str | None,
    overrides: list[str] | None,
    at: Level = "instrument",
    mapping: str | None = None,
) -> "Evaluation":
    """Evaluate a file of scores with the thresholds that the options choose."""
    import numpy as np

    from irmas_dist.config.decisions import FOR_SCORES, Protocol
    from irmas_dist.evaluation.csv_scores import open_scores
    from irmas_dist.evaluation.evaluate import evaluate_scores, thresholds_from
    from irmas_dist.evaluation.merging import Merge, new_codes, require_known
    from irmas_dist.instruments import IRMAS

    if Path(scores).is_dir():
        raise UsageError(f"--scores {scores} is a directory: name the file of scores in it")
    if fit_labels is not None and fit_on is None:
        raise typer.BadParameter("--fit-labels are of --fit-on: give both")
    if threshold is not None and fit_on is not None:
        raise typer.BadParameter("--threshold and --fit-on: give one of them")
    vocabulary, settings, merge = IRMAS, FOR_SCORES, None
    families: Mapping[str, Sequence[str]] = {}
    if config or overrides:
        recipe = read_recipe(config, overrides, used=("corpus", "thresholds"))
        vocabulary, settings = recipe.corpus.vocabulary, recipe.thresholds
        families = recipe.corpus.families
    read = open_scores(scores, labels, vocabulary)
    if at == "family" or mapping is not None:
        codes = new_codes(mapping, families)
        given = "--at family" if mapping is None else "--map"
        require_known(codes, read.vocabulary, given=given)
        merge = Merge.of(read.vocabulary, codes)
    chosen, origin = None, ""
    evaluated = merge(read) if merge else read
    if threshold is not None:
        if not 0 <= threshold <= 1:
            raise UsageError(f"--threshold {threshold:g}: must be from 0 to 1")
        chosen = np.full(len(evaluated.vocabulary), threshold, np.float32)
        origin = f"{threshold:g}, chosen beforehand"
    elif fit_on is not None:
        chosen, origin = thresholds_from(fit_on, fit_labels, settings, read, merge)
    protocol: Protocol = "adapted" if evaluated.adapted_to else "validation"
    return evaluate_scores(evaluated, scores, chosen, origin, settings, protocol)


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

    if model is None:
        if scores is None or out is None:
            raise typer.BadParameter("give MODEL, or --scores and --out")
        with lock_file(out):
            evaluation = _evaluate_file(
                scores, labels, threshold, fit_on, fit_labels, config, overrides
            )
            write_model_page(out, evaluation, Path(scores).stem, tree=tree)
        show_path(out, json)
        return
    if labels or threshold is not None or fit_on or fit_labels:
        raise typer.BadParameter("a model has thresholds and its clips have labels: see --scores")
    if config or overrides:
        raise typer.BadParameter(OWN_RECIPE)
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
