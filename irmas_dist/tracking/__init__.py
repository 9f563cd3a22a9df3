"""Logging to Weights & Biases, which never delays or ends the work that is logged.

A run is always written to disk first, by the driver, never by workers; no call waits for the
network. Online, wandb's own service sends what is written while it is written, see
`irmas_dist.tracking.uploads`; what could not be sent stays, and ``irmas review --sync`` sends it.
wandb is imported inside functions: it takes a second, which commands that log nothing save.
"""

import os

# wandb reports its own errors to the server, and prints when the server refuses them.
os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
