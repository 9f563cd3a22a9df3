"""Speed of the threshold search, and the objective it reaches in the same time.

One command, some three minutes, on the scores that a classifier gave IRMAS's 2,874 test excerpts:
for every objective without an exact solution, the project's search against a plain Optuna study
that evaluates one set of thresholds per trial, from the same starting point and for the same time.
They take turns. Writes ``benchmarks/results/thresholds.json``.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from processes.arguments import parser_of

from irmas_dist.config.decisions import ThresholdSettings
from irmas_dist.evaluation import objectives
from irmas_dist.evaluation.scores import read_scores
from irmas_dist.evaluation.threshold_search import search_thresholds
from irmas_dist.evaluation.thresholds import fit_thresholds

ROOT = Path(__file__).parents[1]
SCORES = ROOT / "tests/evaluation/data/forest_testing.parquet"
RESULTS = Path(__file__).parent / "results"
ROUNDS = 2
OBJECTIVES = {
    "macro F0.5": objectives.f_beta("macro", 0.5),
    "micro F0.5": objectives.f_beta("micro", 0.5),
    "subset accuracy": objectives.subset_accuracy,
    "cost, a miss 3": objectives.cost(3.0),
}


class Counted:
    """An objective that counts the candidates it evaluates."""

    def __init__(self, objective: objectives.Objective) -> None:
        self.objective, self.count = objective, 0

    def __call__(self, labels: Any, candidates: Any) -> Any:
        """Evaluate candidates as the objective does."""
        self.count += len(candidates)
        return self.objective(labels, candidates)


def by_search(labels: Any, scores: Any, objective: Counted, seed: int) -> np.ndarray:
    """Search as `irmas thresholds` does."""
    return search_thresholds(labels, scores, objective, seed=seed)


def by_study(labels: Any, scores: Any, objective: Counted, seed: int, seconds: float) -> np.ndarray:
    """Search with an Optuna study, one set of thresholds per trial."""
    begin = fit_thresholds(labels, scores, ThresholdSettings())
    names = [str(i) for i in range(len(begin))]
    truth = labels.astype(bool)

    def value(trial: optuna.Trial) -> float:
        chosen = np.array([trial.suggest_float(name, 0, 1) for name in names], np.float32)
        return float(objective(truth, (scores >= chosen)[None])[0])

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.enqueue_trial(dict(zip(names, begin.tolist(), strict=True)))
    study.optimize(value, timeout=seconds)
    return np.array([study.best_params[name] for name in names], np.float32)


def main() -> None:
    parser_of(__doc__).parse_args()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    read = read_scores(str(SCORES))
    labels, scores = read.labels, read.scores
    table: dict[str, Any] = {}
    print(
        "sets of thresholds evaluated per second, their ratio, seconds of each, best value reached"
    )
    for name, objective in OBJECTIVES.items():
        rounds = []
        for seed in range(ROUNDS):
            ours, plain = Counted(objective), Counted(objective)
            began = time.perf_counter()
            found = by_search(labels, scores, ours, seed)
            seconds = time.perf_counter() - began
            began = time.perf_counter()
            other = by_study(labels, scores, plain, seed, seconds)
            plain_seconds = time.perf_counter() - began
            values = [
                float(objective(labels.astype(bool), (scores >= t)[None])[0])
                for t in (found, other)
            ]
            rounds.append({
                "search_per_s": ours.count / seconds, "study_per_s": plain.count / plain_seconds,
                "seconds": seconds, "search_value": values[0], "study_value": values[1],
            })  # fmt: skip
        mean = {key: float(np.mean([row[key] for row in rounds])) for key in rounds[0]}
        ratios = [row["search_per_s"] / row["study_per_s"] for row in rounds]
        table[name] = {**mean, "ratios": ratios}
        print(
            f"{name:16s} search {mean['search_per_s']:6,.0f}, study {mean['study_per_s']:4,.0f}, "
            f"{min(ratios):.0f} to {max(ratios):.0f} times; {mean['seconds']:5.2f} s; "
            f"search {mean['search_value']:.4f}, study {mean['study_value']:.4f}",
            flush=True,
        )
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "thresholds.json").write_text(json.dumps(table, indent=1) + "\n")


if __name__ == "__main__":
    main()
