"""Recipes by what they learn from: real music, rendered music, both, one after the other.

    PYTHONPATH=. python benchmarks/recipes.py REAL TWIN --work WORK [--recipes irmas] [--seeds 3]

REAL and TWIN are manifests: of real clips for training, and for testing clips of sources that are
not among them; of rendered clips for training. Each recipe is trained on

* ``real``: the training clips of REAL;
* ``twin``: those of TWIN;
* ``both``: real, and as many examples that begin with a rendered clip;
* ``then``: real, beginning with the model of ``twin``.

All are tested on REAL's testing clips, and nothing of these is used otherwise. Stated are macro F1
with thresholds of validation, adapted to the testing clips without their labels, and by the oracle;
LRAP and mean AP; each with its 95 % interval over the clips; and parameters, windows and minutes of
the training. ``--seeds`` trains several of each, and adds their ensemble. What WORK holds is
not trained again. Writes ``WORK/recipes.json``.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from processes.arguments import parser_of
from processes.machine import machine

from irmas_dist.config.recipe import Recipe, load_recipe
from irmas_dist.config.training import FurtherStore, WorkerSettings
from irmas_dist.evaluation.evaluate import Evaluation
from irmas_dist.features.extract import extract
from irmas_dist.features.store import settings_fingerprint
from irmas_dist.inference.evaluate import evaluate
from irmas_dist.training.ensemble import join_models
from irmas_dist.training.load import open_training_data
from irmas_dist.training.model_description import read_description
from irmas_dist.training.train import train

RECIPES = ("seed", "han2016", "irmas", "irmas-gpu")
KINDS = ("real", "twin", "both", "then")
FIGURES = ("macro_f1", "micro_f1", "lrap", "map")


def stores(work: Path, manifests: dict[str, str], recipe: Recipe) -> dict[str, str]:
    """Extract what has not been extracted with a recipe's settings; return the stores."""
    vocabulary = recipe.corpus.vocabulary
    digest = settings_fingerprint(recipe.features, vocabulary)
    found = {}
    for name, manifest in manifests.items():
        found[name] = str(work / "features" / f"{name}-{digest}")
        extract(manifest, found[name], recipe.features, vocabulary)
    return found


def trained(
    work: Path, name: str, kind: str, seed: int, stores: dict[str, str], changes: list[str]
) -> tuple[Path, dict[str, float]]:
    """Train one model, unless there is one; return its directory, and what it cost if it did."""
    out, recipe = work / f"{name}-{kind}-{seed}", load_recipe(name, [*changes, f"seed={seed}"])
    there = (out / "model.json").exists()
    init = str(trained(work, name, "twin", seed, stores, changes)[0]) if kind == "then" else None
    further = [FurtherStore(location=stores["twin"])] if kind == "both" else []
    first = stores["twin" if kind == "twin" else "real"]
    began = time.perf_counter()
    description = train(recipe, first, str(out), WorkerSettings(), further=further, init=init)
    if there:
        return out, {}
    minutes = (time.perf_counter() - began) / 60
    examples = open_training_data(first, recipe, further).stores.examples(
        recipe.training.windows_per_clip
    )
    return out, {"minutes": minutes, "windows": sum(examples) * len(description.history)}


def figures(model: Path, real: str) -> dict[str, Any]:
    """Return the figures on the testing clips, each with its interval."""
    own, description = evaluate(str(model), real, str(model)), read_description(str(model))
    found = {
        "validation": of_protocol(own, "validation"),
        "oracle": of_protocol(own, "oracle"),
        "parameters": description.parameters,
    }
    if not description.members:  # Those are adapted one by one.
        adapted = evaluate(str(model), real, f"{model}-adapted", adapt_to=real)
        found["adapted"] = of_protocol(adapted, "adapted")
    return found


def of_protocol(evaluation: Evaluation, protocol: Any) -> dict[str, tuple[float, float, float]]:
    result = evaluation.results[protocol]
    return {name: (result.metrics[name], *result.intervals[name]) for name in FIGURES}


def line(name: str, found: list[dict[str, Any]]) -> str:
    """Say the means over the seeds, and the intervals of the first."""
    cells = []
    for protocol, figure in (
        ("validation", "macro_f1"), ("adapted", "macro_f1"), ("oracle", "macro_f1"),
        ("validation", "lrap"), ("validation", "map"),
    ):  # fmt: skip
        if protocol not in found[0]:
            cells.append(f"{'':22s}")
            continue
        mean = np.mean([one[protocol][figure][0] for one in found])
        _, low, high = found[0][protocol][figure]
        cells.append(f"{mean:.3f} ({low:.3f} to {high:.3f})")
    return f"{name:24s} " + "  ".join(cells)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("real", nargs="?")
    parser.add_argument("twin", nargs="?")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--recipes", nargs="+", default=RECIPES)
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=KINDS)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of each recipe")
    given = parser.parse_args()
    if not (given.real and given.twin and given.work):
        print("recipes are compared on recordings of yours: name REAL, TWIN and --work")
        return
    given.work.mkdir(parents=True, exist_ok=True)
    path = given.work / "recipes.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    print(
        f"{machine()}\n{'':24s} macro F1 of validation, adapted, oracle; LRAP; mean AP", flush=True
    )
    changes = ["tracking.mode=disabled", *given.set]
    for name in given.recipes:
        recipe = load_recipe(name, changes)
        places = stores(given.work, {"real": given.real, "twin": given.twin}, recipe)
        for kind in given.kinds:
            models, found = [], []
            for seed in range(given.seeds):
                model, cost = trained(given.work, name, kind, seed, places, changes)
                one = results.setdefault(model.name, {"machine": machine()})
                one |= figures(model, places["real"]) | cost
                models.append(str(model))
                found.append(one)
                path.write_text(json.dumps(results, indent=2) + "\n")
            first = found[0]
            spent = (
                f"{first['parameters']:,} parameters, {first.get('windows', 0):,} windows, "
                f"{first.get('minutes', 0):.1f} min"
            )
            print(f"{line(f'{name}, {kind}', found)}  {spent}", flush=True)
            if len(models) > 1:
                joint = given.work / f"{name}-{kind}-of-{len(models)}"
                join_models(models, str(joint))
                print(
                    line(f"{name}, {kind}, ensemble", [figures(joint, places["real"])]), flush=True
                )


if __name__ == "__main__":
    main()
