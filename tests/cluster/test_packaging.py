"""What is sent with a job: the code without data, and only some of the environment."""

import os
from pathlib import Path

import pytest

from irmas_dist.cluster import jobs
from irmas_dist.cluster.packaging import left_behind, passed_environment
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


def test_a_package_that_is_too_large_is_refused_in_one_line(url: str, tmp_path: Path) -> None:
    (tmp_path / "random.bin").write_bytes(os.urandom(LARGEST_PACKAGE))  # no zip makes it smaller
    refusal = r"refuses: Package size \(16\.00MiB\) exceeds .* 16\.00MiB\. To exclude large files,"
    with pytest.raises(IrmasError, match=refusal) as refused:
        jobs.submit(["train"], address=url, name="large", working_dir=tmp_path, environment={})
    assert "\n" not in str(refused.value)
    assert "large" not in [job.submission_id for job in jobs.list_jobs(url)]
