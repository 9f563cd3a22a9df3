"""An evaluation in Weights & Biases, in the run of the model that it evaluates."""

import secrets
import tempfile
from pathlib import Path

from irmas_dist.evaluation.evaluate import Evaluation
from irmas_dist.reports.model_page import write_model_page
from irmas_dist.tracking.outcome import show_address
from irmas_dist.tracking.start import start_run
from irmas_dist.training.model_description import ModelDescription


def log_evaluation(description: ModelDescription, evaluation: Evaluation, name: str) -> None:
    """Log the figures, overall and by instrument, and the report.

    Args:
        description: The model; one without a run gets a run of its own.
        evaluation: Its evaluation.
        name: Name of the model.
    """
    tracking = description.tracking
    run_id = description.run or secrets.token_hex(4)
    run = start_run(
        tracking,
        name=None if description.run else name,
        job_type="evaluate",
        group=tracking.group,
        config=description.recipe,
        run_id=run_id,
        resumed=description.run is not None,
    )
    if run.mode == "disabled":
        return
    if run.mode == "online":
        show_address(tracking, "runs", run_id)
    figures = {f"evaluation/{metric}": value for metric, value in evaluation.metrics.items()}
    run.summarise({**figures, "evaluation/protocol": evaluation.headline.protocol})
    rows = [list(row.values()) for row in evaluation.instruments]
    run.table("evaluation/instruments", list(evaluation.instruments[0]), rows)

    def report() -> str:
        with tempfile.TemporaryDirectory(prefix="irmas-") as scratch:
            page = Path(scratch, "report.html")
            write_model_page(page, evaluation, name, description)
            return page.read_text(encoding="utf-8")

    run.page("evaluation/report", report)
    run.close()
