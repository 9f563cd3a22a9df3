"""Decisions on music never heard: thresholds of validation, adapted, and those of the test itself.

    irmas index --table CLIPS.csv --out CLIPS.parquet  # with a column `source`
    PYTHONPATH=. python benchmarks/new_sources.py CLIPS.parquet --work WORK [--splits 4] [--seeds 3]

CLIPS.parquet is a manifest of training clips of one instrument each, at 22,050 Hz, whose groups are
known by their source, such as a sample library. In each split one source of every instrument is
held out, or a third of the groups of an instrument that has only one; 200 mixtures of one to five
instruments are made of what is held out, and the recipe `irmas` learns from the rest. ``--and
MANIFEST``, with training and testing clips, is one more split. ``--also MANIFEST`` is learnt beside
each. ``--seeds`` trains as many models of each split, and joins them.

Stated are macro F1 by the thresholds of validation, adapted to the mixtures without their labels,
and by the oracle; LRAP and mean AP before and after; of an ensemble, macro F1 of its thresholds and
by the oracle, LRAP and mean AP. Then the limits of adaptation: the wrong instruments per clip that
it adds to clips of one instrument, and to clips of five, and whether it matched their logits. What
WORK holds is not trained again. Writes ``WORK/new_sources.json``.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from processes.arguments import parser_of
from processes.machine import machine
from recipes import figures

from irmas_dist.config.adaptation import AdaptationSettings
from irmas_dist.config.recipe import Recipe, load_recipe
from irmas_dist.config.training import FurtherStore, WorkerSettings
from irmas_dist.corpus.groups import source_of
from irmas_dist.corpus.index import index_tree
from irmas_dist.corpus.manifest import TESTING, TRAINING, read_manifest, write_manifest
from irmas_dist.features.extract import extract
from irmas_dist.inference.adapt_model import adapted_predictor
from irmas_dist.inference.predictor import Predictor
from irmas_dist.training.ensemble import join_models
from irmas_dist.training.train import train

RATE = 22_050
MIXTURES = 200
COUNTS = (0.2, 0.35, 0.25, 0.15, 0.05)
"""Shares of mixtures with one to five instruments."""

FEW = (1, 5)
"""Numbers of instruments whose clips the limits of adaptation are shown by."""

LEVEL_DB = 8.0
FEWEST = 20
"""Clips that an instrument has on either side of a split, if a source can be held out at all."""

Row = dict[str, Any]


def hold_out(rows: list[Row], rng: np.random.Generator) -> set[str]:
    """Return the clips of one source of each instrument, or of a third of its groups."""
    chosen: set[str] = set()
    for code in sorted({row["instruments"][0] for row in rows}):
        clips = [row for row in rows if row["instruments"] == [code]]
        sources = sorted({source_of(row["group"]) for row in clips})
        sizes = [sum(source_of(row["group"]) == source for row in clips) for source in sources]
        wide = [
            source
            for source, size in zip(sources, sizes, strict=True)
            if FEWEST <= size <= len(clips) - FEWEST
        ]
        if wide:
            source = rng.choice(wide)
            chosen |= {row["clip_id"] for row in clips if source_of(row["group"]) == source}
            continue
        groups = sorted({row["group"] for row in clips})
        third = set(rng.permutation(groups)[: -(-len(groups) // 3)])
        chosen |= {row["clip_id"] for row in clips if row["group"] in third}
    return chosen


def mix(rows: list[Row], out: Path, rng: np.random.Generator) -> list[Row]:
    """Write mixtures of five to ten seconds, each with a file of its labels; return their rows."""
    shutil.rmtree(out, ignore_errors=True)  # Of a run that was killed while mixing.
    out.mkdir(parents=True)
    clips: dict[str, list[str]] = {}
    for row in rows:
        clips.setdefault(row["instruments"][0], []).append(row["path"])
    codes = sorted(clips)
    used = dict.fromkeys(codes, 0)
    for number in range(MIXTURES):
        size = min(rng.choice(len(COUNTS), p=COUNTS) + 1, len(codes))
        # Every instrument is in as many, to within one.
        drawn = sorted(codes, key=lambda code: (used[code], rng.random()))[:size]
        for code in drawn:
            used[code] += 1
        length = int(rng.uniform(5.0, 10.0) * RATE)
        total = sum(played(clips[code], length, rng) for code in drawn)
        name = f"mixture {number:03d}-1"
        soundfile.write(out / f"{name}.wav", 0.5 * total / np.abs(total).max(), RATE)
        (out / f"{name}.txt").write_text("".join(f"{code}\n" for code in drawn))
    return index_tree(str(out))


def played(paths: list[str], length: int, rng: np.random.Generator) -> np.ndarray:
    """Return clips one after the other, at a level of their own."""
    parts: list[np.ndarray] = []
    while sum(map(len, parts)) < length:
        samples, rate = soundfile.read(rng.choice(paths), always_2d=True)
        if rate != RATE:
            raise SystemExit(f"clips of {RATE:,} Hz are mixed, not of {rate:,}")
        parts.append(samples.mean(axis=1))
    samples = np.concatenate(parts)[:length]
    power = np.sqrt(np.mean(samples**2)) + 1e-9
    return samples / power * 10 ** (-rng.uniform(0, LEVEL_DB) / 20)


def split(rows: list[Row], work: Path, number: int) -> dict[str, Path]:
    """Make the manifests of a split, unless they are there: `all`, and those of few instruments."""
    found = {"all": work / f"split-{number}.parquet"}
    found |= {f"{few}": work / f"split-{number}-of-{few}.parquet" for few in FEW}
    if found["all"].exists():
        return found
    rng = np.random.default_rng(number)
    chosen = hold_out(rows, rng)
    kept = [row for row in rows if row["clip_id"] not in chosen]
    held_out = [row for row in rows if row["clip_id"] in chosen]
    codes = rng.permutation(sorted({row["instruments"][0] for row in rows}))
    for few in FEW:
        of_few = [row for row in held_out if row["instruments"][0] in codes[:few]]
        write_manifest(found[f"{few}"], mix(of_few, work / f"split-{number}-of-{few}", rng))
    mixtures = mix(held_out, work / f"split-{number}", rng)
    write_manifest(found["all"], [*kept, *mixtures])
    return found


def added(model: str, manifest: Path, recipe: Recipe) -> dict[str, Any]:
    """Return how many wrong instruments a clip has more of once a model is adapted to the clips."""
    store = str(manifest.with_suffix(""))
    extract(str(manifest), f"{store}-features", recipe.features, recipe.corpus.vocabulary)
    adapted, _ = adapted_predictor(model, f"{store}-features", AdaptationSettings())
    wrong = []
    for predictor in (Predictor.load(model), adapted):
        scores = predictor.score_store(f"{store}-features", TESTING)
        decisions = scores.scores >= predictor.description.threshold_array()
        wrong.append(float((decisions & (scores.labels < 1)).sum(axis=1).mean()))
    done = adapted.description.adapted
    return {"added": wrong[1] - wrong[0], "matched": done is not None and done.match > 0}


def measure(
    manifests: dict[str, Path], changes: list[str], also: str | None, work: Path, seeds: int
) -> dict[str, Any]:
    """Train on a split, and state figures of its testing clips."""
    changes = ["tracking.mode=disabled", *changes]
    recipe = load_recipe("irmas", changes)
    stem = str(manifests["all"].with_suffix(""))
    store = f"{stem}-features"
    extract(str(manifests["all"]), store, recipe.features, recipe.corpus.vocabulary)
    further = []
    if also:
        beside = str(work / "also-features")
        extract(also, beside, recipe.features, recipe.corpus.vocabulary)
        further.append(FurtherStore(location=beside))
    models = [f"{stem}-model-{seed}" for seed in range(seeds)]
    for seed, model in enumerate(models):
        seeded = load_recipe("irmas", [*changes, f"seed={seed}"])
        train(seeded, store, model, WorkerSettings(), further=further)
    found, ensemble = figures(Path(models[0]), store), []
    if seeds > 1:
        join_models(models, f"{stem}-of-{seeds}")
        joint = figures(Path(f"{stem}-of-{seeds}"), store)
        ensemble = [joint[by]["macro_f1"][0] for by in ("validation", "oracle")]
        ensemble += [joint["validation"][name][0] for name in ("lrap", "map")]
    return {
        "ensemble": ensemble,
        "macro_f1": [found[by]["macro_f1"][0] for by in ("validation", "adapted", "oracle")],
        "lrap": [found[by]["lrap"][0] for by in ("validation", "adapted")],
        "map": [found[by]["map"][0] for by in ("validation", "adapted")],
        "limits": {
            few: added(models[0], manifests[few], recipe) for few in manifests if few != "all"
        },
    }


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("clips", nargs="?")
    parser.add_argument("--and", dest="further", default=None, metavar="MANIFEST")
    parser.add_argument("--also", default=None, metavar="MANIFEST")
    parser.add_argument("--work", type=Path)
    parser.add_argument("--splits", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="of the recipe")
    given = parser.parse_args()
    if not (given.clips and given.work):
        print("new sources are measured on recordings of yours: name CLIPS and --work")
        return
    given.work.mkdir(parents=True, exist_ok=True)
    rows = [row for row in read_manifest(given.clips).to_pylist() if row["part"] == TRAINING]
    manifests = {str(number): split(rows, given.work, number) for number in range(given.splits)}
    if given.further:
        (given.work / "further.parquet").write_bytes(Path(given.further).read_bytes())
        manifests["further"] = {"all": given.work / "further.parquet"}
    results: dict[str, Any] = {}
    print("split  macro F1 of validation, adapted, oracle; LRAP, mean AP before and after; limits")
    for name, of_split in manifests.items():
        results[name] = measure(of_split, given.set, given.also, given.work, given.seeds)
        print(line(name, results[name]), results[name]["limits"], flush=True)
    means = {
        figure: np.mean([one[figure] for one in results.values()], axis=0).tolist()
        for figure in ("macro_f1", "lrap", "map", "ensemble")
    }
    print(line("mean", means))
    written = {
        "machine": machine(),
        "set": given.set,
        "also": given.also,
        "splits": results,
        "mean": means,
    }
    (given.work / "new_sources.json").write_text(json.dumps(written, indent=2) + "\n")


def line(name: str, found: dict[str, Any]) -> str:
    figures = [*found["macro_f1"], *found["lrap"], *found["map"], *found["ensemble"]]
    return f"{name:8s}" + "  ".join(f"{one:.3f}" for one in figures)


if __name__ == "__main__":
    main()
