"""NVIDIA's Multi-Process Service (MPS), by which processes that share a GPU compute side by side.

Without it, a GPU turns from one process to the next: eight small trials on one GPU are then no
faster than one. Processes find the service by an environment variable, so that it must run before
Ray starts its workers. On a cluster, each node with a GPU starts it before Ray.
"""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from irmas_dist.environment import set_variables
from irmas_dist.terminal import say

PROGRAM = "nvidia-cuda-mps-control"
"""Its control program, which comes with the driver."""

PIPES = "CUDA_MPS_PIPE_DIRECTORY"
DEFAULT_PIPES = "/tmp/nvidia-mps"
CONTROL_TIMEOUT_S = 30.0


@contextmanager
def multi_process_service(wanted: bool = True) -> Iterator[None]:
    """Run the block with MPS, if this machine has it; one that runs already is used and left.

    A failure to start it costs speed only, and is told in a line. If it is not ``wanted``,
    nothing is done.
    """
    program = shutil.which(PROGRAM) if wanted else None
    pipes = Path(os.environ.get(PIPES, DEFAULT_PIPES))
    if program is None or (pipes / "control").exists():
        yield
        return
    with tempfile.TemporaryDirectory(prefix="irmas-mps-", ignore_cleanup_errors=True) as folder:
        own = {PIPES: folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        if reason := _control(program, ["-d"], "", own):
            say(f"trials take turns on a GPU, as MPS did not start ({reason})")
            yield
            return
        try:
            with set_variables(own):
                yield
        finally:
            _control(program, [], "quit\n", own)


def _control(program: str, options: list[str], command: str, own: dict[str, str]) -> str:
    """Run the control program and return why it failed, or nothing."""
    try:
        # Its daemon keeps the streams open: they must not be pipes that are read to their end.
        with tempfile.TemporaryFile("w+") as output:
            done = subprocess.run(
                [program, *options],
                input=command,
                stdout=output,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=CONTROL_TIMEOUT_S,
                check=False,
                env=os.environ | own,
            )
            output.seek(0)
            lines = output.read().strip().splitlines()
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (lines or [f"exit code {done.returncode}"])[-1] if done.returncode else ""
