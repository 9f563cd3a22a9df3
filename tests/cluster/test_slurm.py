"""The sbatch script on a real Slurm of two nodes, in namespaces of their own."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from irmas_dist.corpus.manifest import read_manifest
from irmas_dist.features.clips import read_clips
from tests.servers import need

ROOT = Path(__file__).parents[2]
SBATCH = ROOT / "cluster/slurm/irmas.sbatch"

JOBS = """
sbatch --wait --nodes=2 --output=two.log {sbatch} extract {manifest} {out} --set features.bands=32
echo "ended with $?"
sbatch --wait --nodes=1 --output=one.log {sbatch} nonsense
echo "ended with $?"
"""


@pytest.mark.drill
@pytest.mark.timeout(600)
def test_a_command_runs_on_all_nodes_of_a_job_and_its_exit_code_is_the_job_s(
    manifest: Path, tmp_path: Path
) -> None:
    need("slurmctld", "slurmd", "sbatch", "munged", "ip", "unshare", root=True)
    out = tmp_path / "features"
    namespaces = ["--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", "--kill-child"]
    script = JOBS.format(sbatch=SBATCH, manifest=manifest, out=out)
    slurm = [ROOT / "tests/cluster/slurm.sh", tmp_path / "slurm", "sh", "-c", script]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    done = subprocess.run(
        ["unshare", *namespaces, *slurm],
        env=clean | {"IRMAS_VENV": sys.prefix, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    two = (tmp_path / "two.log").read_text() if (tmp_path / "two.log").exists() else ""
    ends = [line for line in done.stdout.splitlines() if line.startswith("ended")]
    assert ends == ["ended with 0", "ended with 2"], done.stdout + done.stderr + two
    assert "On worker node. Connecting" in two
    assert "On head node. Starting" in two
    extracted = [read_clips(str(out), part).clip_ids for part in ("training", "testing")]
    assert sum(map(len, extracted)) == read_manifest(str(manifest)).num_rows
