"""Shared by the tests of clusters: a node for jobs, the drills' nodes, and what drills cost."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from irmas_dist.config.recipe import Recipe, load_recipe
from irmas_dist.corpus.manifest import read_manifest, write_manifest
from irmas_dist.training.learner import Learner
from irmas_dist.training.load import open_training_data
from tests.cluster.network import names, network
from tests.cluster.nodes import Cluster
from tests.conftest import CONFIGS, TINY
from tests.ray_cluster import RunningCluster, running_cluster
from tests.servers import missing, required

LARGEST_PACKAGE = 16 << 20
"""Bytes that the node for jobs accepts with a job; by default they are 512 MiB."""

EPOCHS = 5
LONG = 150
"""Epochs of a training that nodes leave and join."""

TIMES = 60
"""How often the corpus is repeated, so that its extraction takes long enough to be disturbed."""

CALM = (
    # Batch statistics and dropout depend on the number of workers.
    "model.normalisation=none",
    "model.dropout.blocks=0",
    "model.dropout.dense=0",
    # The first epochs do not depend on the number of epochs.
    "training.schedule=constant",
    "training.lr=0.001",
    "training.patience=999",
    "training.windows_per_clip=24",
    # Few steps: each waits for the slowest worker, and all share the cores of one machine.
    "training.batch_size=720",
    "tracking.mode=disabled",
)

WITHOUT_CABLES = missing("ip", root=True)
"""What this machine lacks for nodes with networks of their own."""

CABLES = pytest.mark.skipif(bool(WITHOUT_CABLES), reason=f"needs {', '.join(WITHOUT_CABLES)}")
"""For drills that disconnect a node."""

LOSSES = [Cluster.lose, pytest.param(Cluster.disconnect, marks=CABLES)]
"""The ways to lose a node for good."""

_measured: list[tuple[str, str, float | None, float]] = []


def options(*overrides: str) -> list[str]:
    """Return the options of the drills' recipe; later overrides win."""
    values = [f"--set={override}" for override in (*TINY, *CALM, *overrides)]
    return ["--config", "configs/demo.yaml", *values]


def extract_options() -> list[str]:
    """Return those of the options that an extraction uses."""
    values = [f"--set={override}" for override in TINY if override.startswith("features.")]
    return ["--config", "configs/demo.yaml", *values]


@pytest.fixture(scope="package")
def one_node() -> Iterator[RunningCluster]:
    """A cluster of one node with 2 CPUs, for jobs."""
    with running_cluster(RAY_max_grpc_message_size=str(LARGEST_PACKAGE)) as running:
        yield running


@pytest.fixture
def url(one_node: RunningCluster, monkeypatch: pytest.MonkeyPatch) -> str:
    """The dashboard of that node, whose token is in the environment."""
    for name in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("RAY_AUTH_TOKEN", one_node.environment["RAY_AUTH_TOKEN"])
    return one_node.dashboard_url


@pytest.fixture(scope="session")
def calm() -> Recipe:
    """A recipe whose learning curve does not depend on the number of workers."""
    return load_recipe(CONFIGS / "demo.yaml", [*TINY, *CALM, f"training.epochs={LONG}"])


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A head and three nodes; `Cluster.have` replaces those that other tests have lost."""
    where = names if WITHOUT_CABLES and not required() else network
    # It holds sockets, whose paths must be short.
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
    """Features that the cluster extracts undisturbed."""
    out = tmp_path_factory.mktemp("store") / "features"
    seconds = cluster.submit("extract", "extract", manifest, out, *extract_options()).succeeds()
    _measured.append(("extract, undisturbed", "", None, seconds))
    return out


@pytest.fixture(scope="session")
def undisturbed(store: Path, calm: Recipe) -> list[dict[str, float]]:
    """The learning curve of an undisturbed training on one worker."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    learner = Learner(open_training_data(str(store), calm), calm)
    while not learner.finished:
        learner.run_epoch()
    torch.set_num_threads(threads)
    return learner.history


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[..., None]:
    """Record what a drill cost: what was lost, seconds in all, and seconds until it resumed."""

    def record(lost: str, wall_s: float, resumed_s: float | None = None) -> None:
        what = request.node.name.removeprefix("test_").replace("_", " ")
        _measured.append((what, lost, resumed_s, wall_s))
        request.node.user_properties += [("lost", lost), ("resumed_s", resumed_s), ("s", wall_s)]

    return record


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what all drills cost."""
    if _measured:
        terminalreporter.section("cost of the drills: resumed after, job in all, lost")
    for what, lost, resumed_s, wall_s in _measured:
        recovery = "     -" if resumed_s is None else f"{resumed_s:4.0f} s"
        terminalreporter.write_line(f"{recovery}  {wall_s:4.0f} s  {what}: {lost or 'nothing'}")
