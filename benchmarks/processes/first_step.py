"""One training from the command to its first step; prints when each stage ended, as JSON.

Run by ``train.py`` in a separate process.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any

done: dict[str, float] = {"interpreter": time.time()}


def work(config: dict[str, Any]) -> dict[str, float]:
    entered = {"Ray Train's controller, a worker and its imports": time.time()}
    import ray
    from ray.train.torch import prepare_model

    from irmas_dist.training.learner import Learner

    learner = Learner(ray.get(config["data"]), config["recipe"], wrap=prepare_model)
    entered["network and features"] = time.time()
    pool = next(learner._loader.epoch(0))
    plan = learner._plan(pool, 0).part(0, config["recipe"].training.batch_size)
    learner._step(pool, plan, examples=len(plan))
    return {**entered, "first step": time.time()}


def main() -> None:
    from irmas_dist.config.recipe import load_recipe
    from irmas_dist.training.data import open_training_data

    done["imports"] = time.time()
    features, *overrides = sys.argv[1:]
    recipe = load_recipe(Path(__file__).parents[2] / "configs" / "han2016.yaml", overrides)
    from irmas_dist.cluster.runtime import ray_running

    with ray_running():
        done["Ray"] = time.time()
        data = open_training_data(features, recipe)
        done["reading the features"] = time.time()
        import ray
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchTrainer

        trainer = TorchTrainer(
            work,
            train_loop_config={"data": ray.put(data), "recipe": recipe},
            scaling_config=ScalingConfig(num_workers=1),
            run_config=RunConfig(storage_path=str(Path(features).parent / "first-step")),
        )
        result = trainer.fit().return_value
    print(json.dumps(done | result))


if __name__ == "__main__":
    main()
