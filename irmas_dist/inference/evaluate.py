"""The stage `evaluate`: score labelled clips with a model, and evaluate the scores."""

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from irmas_dist import storage
from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.config.decisions import FOR_SCORES, ThresholdSettings
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import TESTING, write_manifest
from irmas_dist.errors import IrmasError
from irmas_dist.evaluation.csv_scores import has_labels, open_scores
from irmas_dist.evaluation.evaluate import Evaluation, Thresholds, evaluate_scores
from irmas_dist.evaluation.scores import Scores, read_scores, write_scores
from irmas_dist.features.clips import read_clips
from irmas_dist.features.extract import extract
from irmas_dist.features.store import read_info
from irmas_dist.inference.adapt_model import adapted_predictor
from irmas_dist.inference.merged import MergedStore, merged_thresholds
from irmas_dist.inference.predictor import Predictor
from irmas_dist.instruments import IRMAS, Vocabulary
from irmas_dist.storage.locks import lock_directory, lock_file
from irmas_dist.storage.results import MODEL_FILE, SCORES_FILE, holds, refuse_other_results
from irmas_dist.training.held_out import audio_digests
from irmas_dist.training.known_audio import read_known, recordings
from irmas_dist.training.model_description import ModelDescription, read_description
from irmas_dist.training.model_directory import scorer_identity

NO_TEST = "these figures do not measure how well it does on other music"
"""What is to be known of figures on clips that are not new to a model."""

EVALUATED = "evaluated-tree"
"""Directory of the manifest and the features of a tree: users have their own beside it."""


def evaluate(
    model: str,
    features: str,
    out: str,
    part: str = TESTING,
    mapping: Mapping[str, str] | None = None,
    adapt_to: str | None = None,
) -> Evaluation:
    """Score one part of a feature store and evaluate the scores with the model's own thresholds.

    Writes ``scores.parquet`` into ``out``.

    Args:
        model: Model directory.
        features: The store, of the model's instruments unless there is a mapping.
        out: Directory for the scores.
        part: The part of the store.
        mapping: New codes of instruments of the model and of the store, see `merged`; those that
            have none keep theirs. None leaves all as they are.
        adapt_to: What the model is adapted to first, as `adapt` takes it; None leaves it as it is.

    Raises:
        IrmasError: The model or the features cannot be used, or do not go together.
    """
    _require_place(out, model, own=mapping is None and adapt_to is None and part == TESTING)
    if mapping is not None:  # Refused before any audio is read.
        MergedStore.of(read_description(model), features, mapping)
    path = storage.join(out, SCORES_FILE)
    with lock_file(path):
        if adapt_to is None:
            predictor, notes = Predictor.load(model), list[str]()
        else:
            same = storage.absolute(adapt_to) == storage.absolute(features)
            settings = AdaptationSettings()
            predictor, notes = adapted_predictor(model, adapt_to, settings, part if same else None)
        description = predictor.description
        notes += _known_beforehand(model, description, features, part)
        if mapping is None:
            return _evaluate(predictor, features, out, part, notes)
        merged = MergedStore.of(description, features, mapping)
        thresholds, origin = merged_thresholds(model, description, merged.ours)
        # They are nobody's under the model's own codes.
        signed = _signed(merged.score(predictor, part), description, [*notes, *merged.notes])
        write_scores(path, replace(signed, scored_by="merged"))
        return _evaluate_with(description, signed, path, thresholds, origin)


def _require_place(out: str, model: str, *, own: bool) -> None:
    """Refuse a place where the scores would replace what a model's own evaluation is shown from.

    Args:
        out: The place.
        model: The model that gives the scores.
        own: Whether they are its own, of the clips that it is judged by.
    """
    same = storage.absolute(out) == storage.absolute(model)
    if not same:
        refuse_other_results(out, MODEL_FILE)
    if not (own and same) and holds(out, MODEL_FILE):
        what = "other scores of that model" if same else "another model's"
        raise IrmasError(
            f"{out} is a model, whose evaluation would be replaced by {what}: name another place "
            "with --out"
        )


def _signed(scores: Scores, description: ModelDescription, notes: list[str]) -> Scores:
    """Return scores with whose they are, and what is to be known of them."""
    identity = scorer_identity(description)
    return replace(
        scores, scored_by=identity, adapted_to=description.adapted_to or "", notes=tuple(notes)
    )


def _evaluate(
    predictor: Predictor, features: str, out: str, part: str, notes: list[str]
) -> Evaluation:
    scores = _signed(predictor.score_store(features, part), predictor.description, notes)
    path = storage.join(out, SCORES_FILE)
    write_scores(path, scores)
    return evaluate_model_scores(predictor.description, scores, path)


def _known_beforehand(
    model: str,
    description: ModelDescription,
    features: str,
    part: str,
    files: Sequence[Mapping[str, Any]] = (),
) -> list[str]:
    """Say which of the clips that a model is evaluated on are not new to it.

    Audio files are recognised in any store, and groups by files of theirs that it has learnt.

    Args:
        model: Model directory.
        description: Of the model.
        features: The store.
        part: The part of it that is evaluated.
        files: Rows of a manifest of further clips of these groups.
    """
    info = read_info(features)
    known, digests = read_known(model), audio_digests(features, info)
    tested = read_clips(features, part, with_frames=False)
    learnt = {row["group"] for row in files if recordings([row["md5"]]) & known.learnt}
    for name in info.clips:
        clips = tested if name == part else read_clips(features, name, with_frames=False)
        learnt |= {
            group
            for group, clip_id in zip(clips.groups, clips.clip_ids, strict=True)
            if recordings([digests[clip_id]]) & known.learnt
        }
    audio = [recordings([digests[clip_id]]) for clip_id in tested.clip_ids]
    counts = {
        "audio that the model has learnt": sum(bool(one & known.learnt) for one in audio),
        "of groups that the model has learnt from": sum(one in learnt for one in tested.groups),
        "audio that the model was validated on, by which its epoch and thresholds were chosen": sum(
            bool(one & known.validated) for one in audio
        ),
    }
    notes = [
        f"{count:,} of {len(tested):,} clips are {what}: {NO_TEST}"
        for what, count in counts.items()
        if count
    ]
    starts = (one for member in description.parts for one in member.data.starts)
    notes += [
        f"the model starts from one that was adapted to {to}: on its audio, {NO_TEST}"
        for to in dict.fromkeys(one.adapted_to for one in starts if one.adapted_to)
    ]
    return notes


def evaluate_tree(
    model: str, tree: Path, out: str, part: str, work: Path, address: str | None
) -> Evaluation:
    """Index and extract an IRMAS tree with a model's settings, and evaluate the model on it.

    Files that cannot be used are left out, and counted in the notes of the evaluation. Reuses
    features that an earlier call has left in ``work``.

    Args:
        model: Model directory.
        tree: The audio and its labels.
        out: Directory for ``scores.parquet``.
        part: The part of the tree.
        work: Directory below which the manifest and the features are kept, in `EVALUATED`.
        address: The Ray to extract with, as `ray_running` takes it.

    Raises:
        IrmasError: The model or the tree cannot be used.
    """
    _require_place(out, model, own=part == TESTING)
    predictor = Predictor.load(model)
    description = predictor.description
    place = work / EVALUATED
    manifest, features = place / "manifest.parquet", str(place / "features")
    # The second until the features are scored, as they follow the tree.
    with lock_file(storage.join(out, SCORES_FILE)), lock_directory(place):
        rows = index_tree(tree, description.vocabulary)
        if not any(row["part"] == part and not row["problem"] for row in rows):
            raise IrmasError(f"{tree} has no usable clips for {part}")
        files = [row for row in rows if row["part"] == part]
        write_manifest(manifest, files, description.vocabulary)
        summary = extract(
            str(manifest), features, description.features, description.vocabulary,
            address=address, max_rejects=1.0,
        )  # fmt: skip
        others = [row for row in rows if row["part"] != part]
        notes = _known_beforehand(model, description, features, part, others)
        for note, count in Counter(summary.notes.values()).items():
            first = next(clip for clip, text in summary.notes.items() if text == note)
            notes.append(f"{count:,} of {len(files):,} files, such as {first}: {note}")
        for reason, count in summary.rejects.items():
            notes.append(f"left out of {len(files):,} files for {part}, {count:,}: {reason}")
        return _evaluate(predictor, features, out, part, notes)


def evaluate_model_scores(description: ModelDescription, scores: Scores, path: str) -> Evaluation:
    """Evaluate scores of a model with its own thresholds, which were fitted to other clips."""
    _require_same_instruments(description, scores, path)
    return _evaluate_with(description, scores, path, description.threshold_array())


def _evaluate_with(
    description: ModelDescription,
    scores: Scores,
    path: str,
    thresholds: Thresholds,
    merged: str = "",
) -> Evaluation:
    evaluation = evaluate_scores(
        scores, path, thresholds, description.thresholds_from + merged,
        description.threshold_settings,
        "validation" if description.adapted is None else "adapted",
    )  # fmt: skip
    evaluation.notes.extend(notes_on(scores))
    return evaluation


def notes_on(scores: Scores) -> list[str]:
    """Return what a model's scores themselves show that is to be known of them."""
    notes = []
    if silent := int((~scores.scores.any(axis=1)).sum()):
        notes.append(
            f"{silent:,} of {len(scores.clip_ids):,} clips are silent: they score 0, have no "
            "instrument by the model's thresholds, and count in every figure as such"
        )
    return notes


def open_evaluated(
    name: str, labels: str | None, vocabulary: Vocabulary = IRMAS
) -> tuple[Scores, Thresholds | None, ThresholdSettings]:
    """Return the scores of a model directory with its thresholds, or those of a file.

    With them go the settings by which `evaluate` fits other thresholds to them.

    Args:
        name: Model directory, directory with a scores table, or file as `open_scores` takes it.
        labels: Labels of a file that has none of its own.
        vocabulary: Its instruments.
    """
    if holds(name, MODEL_FILE):
        description, scores, _ = read_model_scores(name)
        return scores, description.threshold_array(), description.threshold_settings
    if storage.exists(path := storage.join(name, SCORES_FILE)):
        return read_scores(path), None, FOR_SCORES
    scores = open_scores(name, labels if takes_labels(name) else None, vocabulary)
    return scores, None, FOR_SCORES


def takes_labels(name: str) -> bool:
    """Return whether `open_evaluated` uses the labels and the instruments that it is given."""
    directories = (MODEL_FILE, SCORES_FILE)
    return not any(holds(name, one) for one in directories) and not has_labels(name)


def read_model_scores(
    model: str, scores: str | None = None
) -> tuple[ModelDescription, Scores, str]:
    """Return a model, the scores that it gave, and their path.

    Args:
        model: Model directory.
        scores: Path of a scores table, which may not say whose it is; None for the one in the
            directory.

    Raises:
        IrmasError: There are none, or the model has changed since, or is another one.
    """
    description, path = read_description(model), scores or storage.join(model, SCORES_FILE)
    if scores is None and not storage.exists(path):
        raise IrmasError(
            f"{model} has not been evaluated: first run irmas evaluate {shlex.quote(model)} "
            "--features FEATURES"
        )
    found = read_scores(path)
    _require_same_instruments(description, found, path)
    if found.adapted_to and description.adapted is None:
        raise IrmasError(
            f"{path} holds scores of another model than {model}: of one that was adapted to "
            f"{found.adapted_to}; write it with 'irmas adapt', and name that"
        )
    of_this = found.scored_by == scorer_identity(description)
    if not of_this and (scores is None or found.scored_by):
        raise IrmasError(
            f"{path} holds scores of another model than {model} is now, or of other windows or "
            f"aggregation: run irmas evaluate {shlex.quote(model)} --features FEATURES again"
        )
    return description, found, path


def _require_same_instruments(description: ModelDescription, scores: Scores, path: str) -> None:
    if scores.vocabulary != description.vocabulary:
        raise IrmasError(f"{path} holds scores of other instruments than the model's")
