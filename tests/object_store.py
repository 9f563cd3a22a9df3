"""A server that speaks S3, on this machine, with one empty bucket."""

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from unittest import mock

from irmas_dist import storage
from tests.ray_cluster import free_port

START_TIMEOUT_S = 120.0


@contextmanager
def object_store(log: Path) -> Iterator[str]:
    """Serve a bucket and point this process, and those that it starts, to the server.

    Args:
        log: Where the server writes what it has to say.

    Yields:
        The bucket's URL.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    access = {
        "AWS_ENDPOINT_URL": url,
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with mock.patch.dict(os.environ, access), log.open("wb") as output:
        server = subprocess.Popen(command, stdout=output, stderr=output)
        try:
            _wait_until_up(server, url, log)
            request = urllib.request.Request(f"{url}/corpus", method="PUT")
            urllib.request.urlopen(request, timeout=30)
            # Whoever connected to another server before would go on to use it.
            storage._bucket.cache_clear()
            yield "s3://corpus"
        finally:
            storage._bucket.cache_clear()
            server.kill()
            server.wait()


def _wait_until_up(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and server.poll() is None:
        with suppress(OSError):
            urllib.request.urlopen(url, timeout=5)
            return
        time.sleep(0.1)
    raise RuntimeError(f"the object store did not start:\n{log.read_text()[-4000:]}")
