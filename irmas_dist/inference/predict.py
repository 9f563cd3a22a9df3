"""The stage `predict`: the instruments in any number of audio files."""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, closing, nullcontext
from dataclasses import replace

from irmas_dist import storage
from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.errors import IrmasError, UsageError
from irmas_dist.inference.adapt_model import adapted_predictor
from irmas_dist.inference.audio_inputs import STDIN, Prediction, find_audio, predict_file
from irmas_dist.inference.mirex import MirexLabels, write_mirex
from irmas_dist.inference.predictor import Predictor
from irmas_dist.inference.ray_predict import predict_with_actors
from irmas_dist.inference.results import Journal, open_journal, write_predictions
from irmas_dist.inference.timeline_files import has_timeline, require_distinct, write_timeline
from irmas_dist.storage.locks import lock_file
from irmas_dist.storage.results import refuse_inputs, refuse_other_results
from irmas_dist.terminal import progress, say
from irmas_dist.training.model_description import read_description


def predict(
    model: str,
    inputs: Sequence[str],
    *,
    out: str | None = None,
    form: str = "json",
    timeline: str | None = None,
    workers: int | None = None,
    address: str | None = None,
    each: Callable[[Prediction], None] | None = None,
    mapping: Mapping[str, str] | None = None,
    adapt_to: str | None = None,
) -> list[Prediction]:
    """Predict audio files, in this process or with Ray.

    With a local ``out``, an interrupted run of the same model resumes.

    Args:
        model: Model directory.
        inputs: As `find_audio` takes them.
        out: Path or URL of the file for the predictions; None writes none.
        form: Its format: ``mirex``, or as `write_predictions` takes it.
        timeline: Folder for scores over time; None omits them.
        workers: Number of Ray actors; None and no address: no Ray.
        address: The Ray to use, as `ray_running` takes it.
        each: Called with every prediction as it is made.
        mapping: For ``mirex``: its labels of the model's instruments, see `mirex`.
        adapt_to: What the model is adapted to first, as `adapt` takes it; None leaves it as it is.

    Returns:
        The predictions, in the order of the inputs.

    Raises:
        IrmasError: The model cannot be used, a folder contains no audio, or something cannot be
            written. A file that cannot be used does not raise: its prediction holds the error.
    """
    files = find_audio(inputs)
    use_ray = workers is not None or address is not None
    if adapt_to is not None and use_ray:
        raise UsageError("--adapt-to is not for actors: adapt the model first, 'irmas adapt'")
    if use_ray and STDIN in files:
        raise IrmasError("standard input cannot be distributed: omit --workers and --address")
    if out not in (None, storage.STDOUT):
        refuse_inputs(out, files)
    if timeline is not None:
        require_distinct(files)
        refuse_other_results(timeline, own="")
    if form == "mirex":  # Refused before anything is read.
        MirexLabels.of(read_description(model).vocabulary, mapping or {})
    with ExitStack() as held:
        if out is not None:
            held.enter_context(lock_file(out))
        if adapt_to is not None:
            predictor, notes = adapted_predictor(model, adapt_to, AdaptationSettings())
        else:
            predictor, notes = Predictor.load(model, "cpu" if use_ray else "auto"), []
        vocabulary = predictor.description.vocabulary
        absent = predictor.description.known_absent
        labels = MirexLabels.of(vocabulary, mapping or {}, absent) if form == "mirex" else None
        for note in [*notes, *(labels.notes if labels else ())]:
            say(note)
        if timeline is not None:
            storage.make_directory(timeline)
        journal = None
        if out is not None:
            journal = open_journal(out, predictor.description, timeline)
        done = _predicted_before(journal, files, timeline)
        waiting = [path for path in files if path not in done]
        predictions: Generator[Prediction]
        if use_ray:
            predictions = predict_with_actors(
                model, waiting, actors=workers, address=address, timeline=timeline is not None
            )
        else:
            predictions = (predict_file(predictor, path, timeline is not None) for path in waiting)
        bar = progress("predict", len(waiting), "files") if len(files) > 1 else nullcontext()
        # Closing the generator stops a Ray that it has started.
        with bar as advance, closing(predictions):
            for prediction in predictions:
                if timeline is not None and prediction.timeline is not None:
                    name = files[prediction.path]
                    write_timeline(timeline, name, prediction.timeline, vocabulary)
                    # Timelines of thousands of files would not fit in memory.
                    prediction = replace(prediction, timeline=None)
                if journal:
                    journal.add(prediction)
                done[prediction.path] = prediction
                if each:
                    each(prediction)
                if advance:
                    advance(1)
        ordered = [done[path] for path in files]
        if out is not None and labels:
            write_mirex(out, ordered, labels)
        elif out is not None:
            write_predictions(out, form, ordered, vocabulary.codes)
        if journal:
            journal.finish()
        return ordered


def _predicted_before(
    journal: Journal | None, files: Mapping[str, str], timeline: str | None
) -> dict[str, Prediction]:
    """Return what an interrupted run has predicted, with its timeline if there is to be one."""
    known = journal.known if journal else {}
    if timeline is None:
        return dict(known)
    return {
        path: prediction
        for path, prediction in known.items()
        if path in files and has_timeline(timeline, files[path])
    }
