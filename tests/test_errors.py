"""Messages have one line, and no passwords."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from irmas_dist.errors import first_line, is_out_of_memory, last_line, without_password

WORD = st.text("abcXYZ019-_.%+!$", min_size=1)


@pytest.mark.parametrize(
    ("text", "without"),
    [
        ("postgresql://ada:geheim@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://:geheim@db/x", "postgresql://:***@db/x"),
        ("postgresql://ada:ge/heim@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://ada:p@ss@db/x", "postgresql://ada:***@db/x"),
        ("s3://KEY:SE%2FCRET@bucket/x", "s3://KEY:***@bucket/x"),
        ("https://h/x?X-Amz-Signature=abc&a=b", "https://h/x?X-Amz-Signature=***&a=b"),
        ("abfs://h/x?sig=abc&client_secret=d", "abfs://h/x?sig=***&client_secret=***"),
        ("postgresql://db/x?sslkey=client.key", "postgresql://db/x?sslkey=client.key"),
        ("postgresql://db/x?user=ada&password=geheim", "postgresql://db/x?user=ada&password=***"),
        ("--study=postgresql://ada:geheim@db/x#a 2", "--study=postgresql://ada:***@db/x#a 2"),
        ("two: a://b:c@d and e://f:g@h", "two: a://b:***@d and e://f:***@h"),
        ("--study 'postgresql://ada:ge im@db/x' y", "--study 'postgresql://ada:***@db/x' y"),
        ("postgresql://ada:ge im@db/x", "postgresql://ada:***@db/x"),
        ("postgresql://o'brien:geheim@db/x", "postgresql://o'brien:***@db/x"),
        ("http://127.0.0.1:8265, ask a@b.org", "http://127.0.0.1:8265, ask a@b.org"),
        ("http://head:8265: write to a@b.org", "http://head:8265: write to a@b.org"),
        ("http://[::1]:8265 sent by a@b", "http://[::1]:8265 sent by a@b"),
        ("https://token@github.com/x", "https://***@github.com/x"),
        ("https://h/p#access_token=abc", "https://h/p#access_token=***"),
        ("https://h/x?X-Amz-Credential=abc&a=b", "https://h/x?X-Amz-Credential=***&a=b"),
        (
            "http://localhost:8080 is of ada@example.org",
            "http://localhost:8080 is of ada@example.org",
        ),
        ("https://h/@ada and https://h?mail=ada@b", "https://h/@ada and https://h?mail=ada@b"),
        ('a="http://"+x+":"+y;b="q@r"', 'a="http://"+x+":"+y;b="q@r"'),
        ("ada@host and ssh://git@host/x", "ada@host and ssh://git@host/x"),
        ("postgresql://ada@db:5432/x", "postgresql://ada@db:5432/x"),
        ("http://127.0.0.1:8080/a?b=c", "http://127.0.0.1:8080/a?b=c"),
        ("s3://bucket/key --set a.b=c", "s3://bucket/key --set a.b=c"),
    ],
)
def test_passwords_of_urls_are_masked_and_nothing_else(text: str, without: str) -> None:
    assert without_password(text) == without


@given(WORD, WORD, WORD, WORD)
def test_no_password_stays(scheme: str, user: str, password: str, host: str) -> None:
    secret = f"<{password}>"
    assert secret not in without_password(f"x {scheme}://{user}:{secret}@{host}/db y")


@pytest.mark.parametrize(
    ("error", "first", "last"),
    [
        (ValueError("one\ntwo\n"), "one", "two"),
        (ValueError("\n one \n"), "one", "one"),
        (ValueError(), "ValueError", "ValueError"),
        (ValueError(" \n"), "ValueError", "ValueError"),
    ],
)
def test_an_error_is_told_in_one_line(error: ValueError, first: str, last: str) -> None:
    assert (first_line(error), last_line(error)) == (first, last)


OF_CUDA = """CUDA error: out of memory
Search for `cudaErrorMemoryAllocation' in the documentation for more information.
CUDA kernel errors might be asynchronously reported at some other API call.
Compile with `TORCH_USE_CUDA_DSA` to enable device-side assertions.
"""


def test_of_an_error_of_cuda_the_reason_is_told_and_not_how_to_debug_it() -> None:
    assert last_line(torch.AcceleratorError(OF_CUDA)) == "CUDA error: out of memory"
    assert last_line(ValueError(f"Traceback:\n  torch.AcceleratorError: {OF_CUDA}")) == (
        "CUDA error: out of memory"
    )


def test_of_a_process_that_has_died_no_common_causes_are_told() -> None:
    error = RuntimeError(
        "The actor died.\nWorker exit type: SYSTEM_ERROR Worker exit detail: Worker "
        "unexpectedly exits with a connection error code 2. End of file. Some common causes "
        "include: (1) the process was killed."
    )
    assert last_line(error) == (
        "its process has died: Worker unexpectedly exits with a connection error code 2. "
        "End of file"
    )


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (torch.OutOfMemoryError("Tried to allocate 2 GiB"), True),
        (torch.AcceleratorError(OF_CUDA), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 9 bytes"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (RuntimeError("GET was unable to find an engine to execute this computation"), True),
        (MemoryError("Unable to allocate 8 GiB for an array"), True),
        (torch.AcceleratorError("CUDA error: device-side assert triggered\nout of memory"), False),
        (RuntimeError("sizes differ"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_too_little_memory_is_told_from_a_bug(error: Exception, short: bool) -> None:
    assert is_out_of_memory(error) == short
