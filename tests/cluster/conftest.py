"""What the drills share: a cluster, what is learnt on it, and what they have measured."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from irmas_dist.config.recipe import Recipe, load_recipe
from irmas_dist.corpus.manifest import read_manifest, write_manifest
from irmas_dist.training.data import open_training_data
from irmas_dist.training.learner import Learner
from tests.cluster.network import names, network
from tests.cluster.nodes import Cluster
from tests.conftest import CONFIGS, TINY
from tests.servers import missing, required

EPOCHS = 5
LONG = 60
"""Epochs of a training that nodes leave and join."""

TIMES = 60
"""How often the corpus is repeated, so that there is time to disturb its extraction."""

CALM = (
    # Batch statistics and dropout differ between workers; without them their sums agree.
    "model.normalisation=none",
    "model.dropout.blocks=0",
    "model.dropout.dense=0",
    # The first epochs are the same, however many follow.
    "training.schedule=constant",
    "training.lr=0.001",
    "training.patience=999",
    "training.windows_per_clip=24",
    # Few steps: each waits for the slowest of all workers, who share the cores of one machine.
    "training.batch_size=720",
    "tracking.mode=disabled",
)

WITHOUT_CABLES = missing("ip", root=True)
"""What is missing for nodes that have networks of their own."""

CABLES = pytest.mark.skipif(bool(WITHOUT_CABLES), reason=f"needs {', '.join(WITHOUT_CABLES)}")
"""For drills that cut a node off."""

LOSSES = [Cluster.lose, pytest.param(Cluster.cut_off, marks=CABLES)]
"""The ways to lose a node for good."""

_measured: list[tuple[str, str, float | None, float]] = []


def options(*overrides: str) -> list[str]:
    """What makes a command use the recipe of the drills; later overrides count."""
    values = [f"--set={override}" for override in (*TINY, *CALM, *overrides)]
    return ["--config", "configs/demo.yaml", *values]


@pytest.fixture(scope="session")
def calm() -> Recipe:
    """A recipe whose curve does not depend on the number of workers."""
    return load_recipe(CONFIGS / "demo.yaml", [*TINY, *CALM, f"training.epochs={LONG}"])


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A head and three nodes; a test that needs them all asks for them by `Cluster.have`."""
    where = names if WITHOUT_CABLES and not required() else network
    # Sockets lie in it, whose paths must be short.
    folder = tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True)
    with folder as temporary, where() as made:
        started = Cluster(made, Path(temporary))
        started.have(3)
        yield started


@pytest.fixture(scope="session")
def long_manifest(manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The corpus several times over, under other names."""
    path = tmp_path_factory.mktemp("long") / "manifest.parquet"
    rows = read_manifest(manifest).to_pylist()
    again = [row | {"clip_id": f"{row['clip_id']}:{n}"} for n in range(TIMES) for row in rows]
    write_manifest(path, again)
    return path


@pytest.fixture(scope="session")
def store(cluster: Cluster, manifest: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Features that the cluster has extracted while nobody disturbed it."""
    out = tmp_path_factory.mktemp("store") / "features"
    seconds = cluster.submit("extract", "extract", manifest, out, *options()).succeeds()
    _measured.append(("extract, undisturbed", "", None, seconds))
    return out


@pytest.fixture(scope="session")
def undisturbed(store: Path, calm: Recipe) -> list[dict[str, float]]:
    """The curve on one worker that nobody disturbs."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    learner = Learner(open_training_data(str(store), calm), calm)
    while not learner.finished:
        learner.run_epoch()
    torch.set_num_threads(threads)
    return learner.history


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Take down what a drill cost: what was lost, seconds until it went on, and seconds in all."""

    def take_down(lost: str, wall_s: float, went_on_s: float | None = None) -> None:
        what = request.node.name.removeprefix("test_").replace("_", " ")
        _measured.append((what, lost, went_on_s, wall_s))
        request.node.user_properties += [("lost", lost), ("went_on_s", went_on_s), ("s", wall_s)]

    return take_down


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what all drills cost, at the end."""
    if _measured:
        terminalreporter.section("what the drills cost: went on after, job in all, lost")
    for what, lost, went_on_s, wall_s in _measured:
        recovery = "     -" if went_on_s is None else f"{went_on_s:4.0f} s"
        terminalreporter.write_line(f"{recovery}  {wall_s:4.0f} s  {what}: {lost or 'nothing'}")
