"""The report's page, with what is known of its clips besides their scores: genre and audio."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from irmas_dist.corpus.audio_files import find_sources
from irmas_dist.corpus.names import parse_training_name
from irmas_dist.evaluation.evaluate import Evaluation
from irmas_dist.reports.audio_player import embedded
from irmas_dist.reports.model_page import write_report


def write_page(
    evaluation: Evaluation,
    out: str,
    title: str,
    baselines: Mapping[str, Mapping[str, float]] | None = None,
    tree: Path | None = None,
    model: Mapping[str, Any] | None = None,
    history: Sequence[dict[str, Any]] = (),
) -> None:
    """Write the HTML report of an evaluation.

    Args:
        evaluation: What it is on.
        out: The page.
        title: Its heading.
        baselines: What else is compared, beside answers that no music is needed for.
        tree: Where the audio is; None for a page without players.
        model: The content of ``model.json``, if there is one.
        history: Metrics of every epoch, if there were any.

    Raises:
        IrmasError: The tree holds no audio, or the page cannot be written.
    """
    scores = evaluation.scores
    files = {} if tree is None else {s.clip_id: s.path for s in find_sources(tree) if s.path}
    names = (parse_training_name(clip_id.rpartition("/")[2]) for clip_id in scores.clip_ids)
    write_report(
        out,
        title=f"{title}: {len(scores.clip_ids):,} {' and '.join(sorted(set(scores.parts)))} clips",
        scores=scores,
        results=evaluation.results,
        thresholds=evaluation.thresholds,
        thresholds_from=evaluation.thresholds_from,
        model=model,
        history=history,
        baselines={**evaluation.baselines, **(baselines or {})},
        genres=[name.genre if name else None for name in names],
        player=lambda clip_id: embedded(Path(files[clip_id])) if clip_id in files else None,
    )
