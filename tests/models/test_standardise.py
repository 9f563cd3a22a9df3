"""Windows are standardised per band."""

import torch

from irmas_dist.models.standardise import Standardise


def test_windows_have_zero_mean_and_unit_variance_in_every_band() -> None:
    windows = 3 * torch.randn(50, 20, 2) + torch.tensor([-9.0, 4.0])
    mean, std = windows.mean(dim=(0, 1)), windows.std(dim=(0, 1))
    standardised = Standardise(mean.tolist(), std.tolist())(windows)
    assert standardised.shape == (50, 2, 20)
    torch.testing.assert_close(standardised.mean(dim=(0, 2)), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(standardised.std(dim=(0, 2)), torch.ones(2))
