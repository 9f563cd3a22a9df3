"""What is sent with a job: the code without data, and only some of the environment."""

import os
import subprocess
from pathlib import Path

import pytest

from irmas_dist.cluster import jobs
from irmas_dist.cluster.packaging import (
    checkout,
    left_behind,
    pack,
    packed_files,
    passed_environment,
)
from irmas_dist.errors import IrmasError
from tests.cluster.conftest import LARGEST_PACKAGE


def test_only_the_variables_that_a_job_needs_are_sent_with_it() -> None:
    sent = {
        "WANDB_API_KEY": "k",
        "AWS_SECRET_ACCESS_KEY": "s",
        "AWS_ENDPOINT_URL": "http://store:8333",
        "AZURE_STORAGE_KEY": "s",
        "PGPASSWORD": "p",
    }
    withheld = {
        "AWS_CA_BUNDLE": "/f",
        "AWS_WEB_IDENTITY_TOKEN_FILE": "/f",
        "AWS_PROFILE": "section of a local file",
        "AWS_DEFAULT_PROFILE": "section of a local file",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI": "http://127.0.0.1/keys",
        "AWS_CONTAINER_AUTHORIZATION_TOKEN": "s",
        "AZURE_CLIENT_CERTIFICATE_PATH": "/f",
        "AZURE_OPENAI_API_KEY": "s",
        "IRMAS_SERVE_TOKEN": "t",
        "IRMAS_LOG_DIR": "/f",
        "IRMAS_VENV": "/f",
        "PGPASSFILE": "/f",
        "HOME": "/h",
    }
    assert passed_environment(sent | withheld | {"WANDB_DIR": "/d"}) == sent
    assert passed_environment(sent | withheld, ["HOME"]) == sent | {"HOME": "/h"}
    with pytest.raises(IrmasError, match="HF_TOKEN cannot be sent with the job: not set here"):
        passed_environment(sent, ["HF_TOKEN"])


def test_the_token_of_a_service_is_sent_with_serve_alone() -> None:
    token = {"IRMAS_SERVE_TOKEN": "t"}
    assert passed_environment(token, command="serve") == token
    assert passed_environment(token, command="train") == {}
    assert passed_environment({}, command="serve") == {}


def test_arguments_are_found_that_name_files_which_the_job_will_not_see(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, packed = tmp_path / "here", tmp_path / "code"
    for name in ("features/part.parquet", "m.parquet", "x.yaml", "runs/s.yaml"):
        for file in (here / name, packed / name):
            file.parent.mkdir(parents=True, exist_ok=True)
            file.touch()
    monkeypatch.chdir(here)
    assert left_behind(["features", "model", "--config", "x.yaml"], packed) == ["features"]
    assert left_behind(["m.parquet", "--space=runs/s.yaml"], packed) == ["m.parquet", "runs/s.yaml"]
    assert left_behind(["--config=x.yaml"], None) == ["x.yaml"]
    visible = [
        "s3://bucket/features",
        str(here / "features"),
        "--trials",
        "3",
        "--json",
        "a" * 300,
    ]
    assert left_behind(visible, packed) == []


def test_a_package_is_code_without_secrets_data_results_and_environments(tmp_path: Path) -> None:
    code = {"pyproject.toml", ".gitignore", "my.yaml", "configs/v1.2/a.yaml", "pkg/data/b.yaml"}
    code |= {"pkg/py.typed", "pkg/secrets.py", "pkg/page.html", "pkg/list.csv.xz"}
    secrets = """
        .aws/credentials .env .env.local .envrc .git-credentials .kube/config.yaml .netrc
        .ssh/id_ed25519 id_rsa key.pem kubeconfig kubeconfig.yaml secrets.yaml service-account.json
        Secret.yml token.txt project-393812-ab12.json
    """
    data = """
        a.WAV a.AIFF a.aif a.m4a a.mp4 a.h5 a.npz a.pkl a.sf2 a.flac b.Parquet model.ckpt optuna.db
        data/a.yaml a.csv a.zip
    """
    others = """
        .venv3.11/lib/a.py env/pyvenv.cfg env/lib/a.py conda/conda-meta/history conda/a.py
        sub/runs/best.yaml runs/a.yaml wandb/a.yaml pkg/__pycache__/a.pyc tests/a.py x.egg-info/a.py
    """
    for name in (*code, *secrets.split(), *data.split(), *others.split()):
        (tmp_path / "here" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "here" / name).touch()
    (tmp_path / "linked").mkdir()
    (tmp_path / "linked/c.yaml").touch()
    (tmp_path / "here/pkg/configs").symlink_to(tmp_path / "linked")
    pack(tmp_path / "here", tmp_path / "package")
    copied = {
        str(path.relative_to(tmp_path / "package"))
        for path in (tmp_path / "package").rglob("*")
        if path.is_file()
    }
    assert copied == code | {"pkg/configs/c.yaml"}


def test_what_ray_ignores_is_not_sent_and_links_to_nothing_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a.py").touch()
    (tmp_path / ".rayignore").touch()
    (tmp_path / "lost.py").symlink_to("nowhere")
    assert sorted(packed_files(tmp_path)) == [Path(".rayignore"), Path("a.py")]


def test_links_to_a_folder_above_are_not_followed(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/a.py").touch()
    (tmp_path / "pkg/up").symlink_to("..")
    assert list(packed_files(tmp_path)) == [Path("pkg/a.py")]


def test_folders_that_link_to_each_other_are_not_followed_in_circles(tmp_path: Path) -> None:
    for name, other in ("ab", "ba"):
        (tmp_path / name).mkdir()
        (tmp_path / f"{name}/{name}.py").touch()
        (tmp_path / f"{name}/to").symlink_to(f"../{other}")
    expected = ["a/a.py", "a/to/b.py", "b/b.py", "b/to/a.py"]
    assert sorted(map(str, packed_files(tmp_path))) == expected


def test_all_files_of_this_package_are_sent() -> None:
    root = checkout()
    assert root
    tracked = subprocess.run(
        ["git", "ls-files", "irmas_dist", "configs"], cwd=root, capture_output=True, text=True
    ).stdout.split()
    sent = {str(path) for path in packed_files(root)}
    assert {name for name in tracked if (root / name).is_file()} <= sent
    assert "irmas_dist/configs/demo.yaml" in sent


def test_a_folder_that_cannot_be_packed_is_refused_in_one_line(url: str, tmp_path: Path) -> None:
    nowhere = tmp_path / "nowhere"
    with pytest.raises(IrmasError, match=r"nowhere cannot be packed: .*No such file"):
        jobs.submit(["train"], address=url, name=None, working_dir=nowhere, environment={})


def test_a_package_that_is_too_large_is_refused_in_one_line(url: str, tmp_path: Path) -> None:
    (tmp_path / "random.xz").write_bytes(os.urandom(LARGEST_PACKAGE))  # no zip makes it smaller
    refusal = r"refuses: Package size \(16\.00MiB\) exceeds .* 16\.00MiB\. To exclude large files,"
    with pytest.raises(IrmasError, match=refusal) as refused:
        jobs.submit(["train"], address=url, name="large", working_dir=tmp_path, environment={})
    assert "\n" not in str(refused.value)
    assert "large" not in [job.submission_id for job in jobs.list_jobs(url)]
