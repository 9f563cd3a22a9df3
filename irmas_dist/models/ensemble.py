"""Several networks of one input and one set of instruments."""

from collections.abc import Sequence

from torch import nn

from irmas_dist.models.cnn import CNN


class Ensemble(nn.Module):
    """Networks whose scores are averaged after they have been aggregated and calibrated.

    Args:
        members: The networks.
    """

    def __init__(self, members: Sequence[CNN]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)


def members_of(network: CNN | Ensemble) -> list[CNN]:
    """Return the networks of an ensemble, or the single one."""
    if isinstance(network, CNN):
        return [network]
    return [member for member in network.members if isinstance(member, CNN)]
