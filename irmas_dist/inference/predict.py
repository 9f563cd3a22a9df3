"""From what a user names to predictions: each file once, kept as they come, in order at the end."""

from collections.abc import Callable, Generator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.inference.audio_inputs import (
    STDIN,
    AudioInput,
    Prediction,
    find_audio,
    predict_each,
)
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.results import Format, Journal, write_predictions
from irmas_dist.instruments import Vocabulary
from irmas_dist.terminal import progress


@dataclass(frozen=True)
class Spread:
    """How files are spread among processes by Ray Data.

    Attributes:
        workers: Processes; None for as many as there are cores.
        address: The Ray to use, as `ray_running` takes it.
    """

    workers: int | None = None
    address: str | None = None


def predict(
    predictor: Predictor,
    inputs: Sequence[str],
    *,
    model: str,
    out: str | None = None,
    form: Format = "table",
    timeline: str | None = None,
    spread: Spread | None = None,
    each: Callable[[Prediction], None] | None = None,
) -> list[Prediction]:
    """Predict all audio that is named.

    With a local ``out``, what an earlier run of the same model has done of it, before it was
    interrupted, is not done again.

    Args:
        predictor: The model.
        inputs: As `find_audio` takes them.
        model: Its directory, from which other processes load it.
        out: Path or URL of the file for the predictions; None writes none.
        form: Its format, which is not a table.
        timeline: Folder for scores over time; None leaves them out.
        spread: How files are spread among processes; None predicts them in this one.
        each: Called with every prediction, as they come.

    Returns:
        The predictions, in the order of the inputs.

    Raises:
        IrmasError: A folder holds no audio, or something cannot be
            written. A file that cannot be used raises nothing: its prediction says why.
    """
    sources = find_audio(inputs)
    if timeline is not None:
        # Here, because it brings matplotlib's settings with it, and few ask for it.
        from irmas_dist.inference.timelines import require_distinct

        require_distinct(sources)
    if spread is not None and any(source.path == STDIN for source in sources):
        raise IrmasError("standard input cannot be spread: leave out --workers and --address")
    journal = None
    if out is not None and not storage.is_url(out):
        journal = Journal(out, predictor.description, timeline)
    done = dict(journal.known) if journal else {}
    waiting = {source.path: source for source in sources if source.path not in done}
    vocabulary = predictor.description.vocabulary
    bar = progress("predict", len(waiting), "files") if len(sources) > 1 else nullcontext()
    with bar as advance:
        coming = _predictions(predictor, model, list(waiting), spread, timeline is not None)
        with closing(coming):
            for prediction in coming:
                if timeline is not None and prediction.timeline is not None:
                    prediction = _drawn(prediction, waiting, timeline, vocabulary)
                if journal:
                    journal.add(prediction)
                done[prediction.path] = prediction
                if each:
                    each(prediction)
                if advance:
                    advance(1)
    predictions = [done[source.path] for source in sources]
    if out is not None:
        write_predictions(out, form, predictions, vocabulary.codes)
    if journal:
        journal.finish()
    return predictions


def _predictions(
    predictor: Predictor, model: str, paths: list[str], spread: Spread | None, timeline: bool
) -> Generator[Prediction]:
    """Predict here or spread; to be closed, for only then a Ray that was started is stopped."""
    if spread is None:
        yield from predict_each(predictor, paths, timeline)
    elif paths:
        from irmas_dist.inference.ray_predict import predict_with_ray

        yield from predict_with_ray(
            model, paths, workers=spread.workers, address=spread.address, timeline=timeline
        )


def _drawn(
    prediction: Prediction, sources: dict[str, AudioInput], folder: str, vocabulary: Vocabulary
) -> Prediction:
    """Write a prediction's timeline, and let go of it: thousands of them would not fit."""
    from irmas_dist.inference.timelines import write_timeline

    assert prediction.timeline is not None
    write_timeline(folder, sources[prediction.path].name, prediction.timeline, vocabulary)
    return Prediction(prediction.path, prediction.scores, prediction.instruments)
