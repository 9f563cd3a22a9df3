"""A small server that speaks W&B's protocol as wandb 0.31 does, with faults by switch.

For tests only: it keeps everything in memory, believes any key, and answers the calls that the
client really sends. One that it does not know is an error, and is listed as such.
"""

from tests.wandb_server.faults import Fault
from tests.wandb_server.records import StoredArtifact, StoredRun
from tests.wandb_server.server import Request, WandbServer

__all__ = ["Fault", "Request", "StoredArtifact", "StoredRun", "WandbServer"]
