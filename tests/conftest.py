"""What all tests share: a small rendered corpus, its features, and one Ray for the whole run."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from filelock import FileLock
from xdist.scheduler import LoadScopeScheduling

from tests.ray_cluster import free_port
from tests.wandb_server import WandbServer

WANDB_KEY = "0123456789" * 4

# Before torch, Ray or wandb are imported anywhere.
os.environ.setdefault("OMP_NUM_THREADS", "1")  # Processes side by side compete for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["WANDB_MODE"] = "offline"
os.environ["WANDB_BASE_URL"] = f"http://127.0.0.1:{free_port()}"  # of the tests' own server
os.environ["WANDB_API_KEY"] = WANDB_KEY
os.environ["RAY_TRAIN_HEALTH_CHECK_INTERVAL_S"] = "0.2"
os.environ["RAY_DATA_DISABLE_PROGRESS_BARS"] = "1"

# First examples import libraries, and machines are shared.
hypothesis.settings.register_profile("patient", deadline=None)
hypothesis.settings.load_profile("patient")

CONFIGS = Path(__file__).parents[1] / "configs"

WITH_RAY = (
    "cli/test_jobs.py",
    "cluster/",
    "corpus/test_index.py",
    "features/test_clips.py",
    "features/test_extract",
    "features/test_store.py",
    "inference/test_evaluate.py",
    "inference/test_ray_predict.py",
    "inference/test_thresholds.py",
    "search/",
    "serving/test_deployments.py",
    "serving/test_haproxy.py",
    "serving/test_serve_",
    "test_docs.py",
    "test_one_instrument.py",
    "test_pipeline.py",
    "training/test_actor.py",
    "training/test_data.py",
    "training/test_distributed.py",
    "training/test_ingest.py",
    "training/test_kills.py",
    "training/test_model_directory.py",
    "training/test_ray_train.py",
    "training/test_stores.py",
    "training/test_streaming.py",
    "training/test_train.py",
)
"""Beginnings of the paths, below this directory, of the tests that one process runs: two Rays at a
time are more than two cores can bear."""

TINY = (
    "features.bands=32",
    "window.seconds=1.0",
    "window.hop_seconds=1.0",
    "model.blocks=2",
    "model.width=8",
    "model.dense=32",
    "validation.mixtures=40",
    "validation.threshold_mixtures=60",
    "validation.share=0.3",
    "training.epochs=2",
    "training.windows_per_clip=1",
    "training.precision=float32",
)
"""Overrides that make any recipe small enough for a test, and the same on every CPU."""


class RayTogether(LoadScopeScheduling):
    """Tests are dealt to the processes by file, and those with Ray all to one of them."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return "with Ray" if file.removeprefix("tests/").startswith(WITH_RAY) else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> RayTogether:
    """Deal the tests, whatever ``--dist`` says."""
    return RayTogether(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need a Ray, and see that `WITH_RAY` has them."""
    for item in items:
        if "ray_cluster" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
        if item.get_closest_marker("ray"):
            file = item.nodeid.partition("::")[0].removeprefix("tests/")
            if not file.startswith(WITH_RAY):
                raise pytest.UsageError(f"{file} needs Ray: name it in WITH_RAY of conftest.py")


@pytest.fixture(scope="session", autouse=True)
def no_command_ended_unexpectedly(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end, look through the logs of all commands, in this process and in others.

    The command `noisy` of `tests/cli/test_command.py` ends so on purpose.
    """
    base = tmp_path_factory.getbasetemp()
    with pytest.MonkeyPatch.context() as patch:
        # Of commands that run elsewhere than in a temporary directory.
        patch.setenv("IRMAS_LOG_DIR", str(base / "logs"))
        yield
    found = [
        log
        for folder, _, names in os.walk(base)
        for name in names
        if re.fullmatch(r"(?!noisy)\w+-\d{8}-\d{6}-\d+\.log", name)
        for log in [Path(folder, name)]
        if "this is a bug: report it" in log.read_text(errors="replace")
    ]
    assert not found, "commands ended unexpectedly, see their logs"


@pytest.fixture(scope="session")
def tree(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """An IRMAS-shaped tree: 4 recordings of 2 clips per instrument, 6 test excerpts.

    One process renders it for all.
    """
    from irmas_dist.rendering.render import RenderSettings, render

    base = tmp_path_factory.getbasetemp()
    shared = base if worker_id == "master" else base.parent
    rendered, out = shared / "rendering", shared / "tree"
    with FileLock(shared / "tree.lock"):
        if not out.exists():
            shutil.rmtree(rendered, ignore_errors=True)
            sizes = {"recordings": 4, "clips_per_recording": 2, "songs": 3, "excerpts_per_song": 2}
            render(rendered, RenderSettings(**sizes))
            rendered.rename(out)
    return out


@pytest.fixture(scope="session")
def manifest(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tree's manifest."""
    from irmas_dist.corpus.index import index_tree
    from irmas_dist.corpus.manifest import write_manifest

    path = tmp_path_factory.mktemp("manifest") / "manifest.parquet"
    write_manifest(path, index_tree(tree))
    return path


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """One Ray on this machine, for all tests that need it."""
    import ray

    # Not one of another that happens to run on this machine.
    # Results are compared bit for bit, as GPUs do not give them.
    ray.init(address="local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def recipe() -> "object":
    """The demo's recipe, made tiny."""
    from irmas_dist.config.recipe import load_recipe

    return load_recipe(CONFIGS / "demo.yaml", TINY)


@pytest.fixture(scope="session")
def features(
    manifest: Path, recipe: "object", ray_cluster: None, tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The tree's feature store."""
    from irmas_dist.features.extract import extract

    out = str(tmp_path_factory.mktemp("features") / "store")
    extract(str(manifest), out, recipe.features, recipe.corpus.vocabulary)
    return out


@pytest.fixture(scope="session")
def relabelled(
    manifest: Path, features: str, recipe: "object", tmp_path_factory: pytest.TempPathFactory
) -> str:
    """The feature store of the same clips, two of which have each other's labels."""
    from irmas_dist.corpus.manifest import read_manifest, write_manifest
    from irmas_dist.features.extract import extract

    folder = tmp_path_factory.mktemp("relabelled")
    shutil.copytree(features, folder / "store")
    rows = read_manifest(manifest).to_pylist()
    first = next(row for row in rows if row["instruments"] == ["cel"])
    second = next(row for row in rows if row["instruments"] == ["voi"])
    first["instruments"], second["instruments"] = ["voi"], ["cel"]
    write_manifest(folder / "manifest.parquet", rows)
    extract(
        str(folder / "manifest.parquet"),
        str(folder / "store"),
        recipe.features,
        recipe.corpus.vocabulary,
    )
    return str(folder / "store")


@pytest.fixture
def no_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail where Ray is started, or would be if no other test had started it."""
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setattr("ray.init", lambda **_: pytest.fail("Ray was started for nothing"))


@pytest.fixture(scope="session")
def wandb_running() -> Iterator[WandbServer]:
    """A W&B server for the whole run, where wandb looks for one."""
    server = WandbServer(os.environ["WANDB_BASE_URL"])
    server.start()
    yield server
    server.stop()


@pytest.fixture
def wandb_server(
    wandb_running: WandbServer, monkeypatch: pytest.MonkeyPatch
) -> Iterator[WandbServer]:
    """A W&B server without runs, and W&B online."""
    import wandb

    from irmas_dist.tracking.outcome import addresses
    from irmas_dist.tracking.uploads import Uploads, uploads

    monkeypatch.setenv("WANDB_MODE", "online")
    wandb_running.reset()
    yield wandb_running
    left = any(not upload.ended.is_set() for upload in uploads.wait(0))
    if left or wandb_running.faults or not wandb_running.listening:
        wandb.teardown()  # What has not ended would go on in the next test.
    vars(uploads).update(vars(Uploads()))
    addresses.clear()
    wandb_running.start()


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[str]:
    """An empty bucket of a server that speaks S3, on this machine."""
    from tests.object_store import object_store

    with object_store(tmp_path / "object-store.log") as url:
        yield url
