"""What a benchmark runs on."""

import os
from typing import Any


def machine() -> dict[str, Any]:
    """Return the number of cores and the GPU's name, None without one."""
    import torch

    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {"cores": os.cpu_count(), "gpu": gpu, "torch": torch.__version__}
