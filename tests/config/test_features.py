"""Settings of the log-mel spectrogram, and the refusals."""

import math

import pytest
from pydantic import ValidationError

from irmas_dist.config.features import LogMelSettings


def test_the_highest_band_ends_at_half_the_sample_rate_by_default() -> None:
    assert LogMelSettings(sample_rate=16_000).top == 8_000
    assert LogMelSettings(fmax=5_000.0).top == 5_000


@pytest.mark.parametrize("power", [1.0, 2.0])
def test_a_stored_value_is_turned_into_power(power: float) -> None:
    settings = LogMelSettings(power=power)
    magnitude = 0.3
    stored = math.log(magnitude**power)
    assert math.exp(settings.log_power_per_unit * stored) == pytest.approx(magnitude**2)


@pytest.mark.parametrize(
    "wrong",
    [
        *({"fmin": 9_000, "fmax": 8_000}, {"fmax": 12_000}, {"hop_length": 4_096}),
        *({"window": "kaiser"}, {"floor": 1e-50}, {"floor": 1e300}),
    ],
)
def test_settings_that_do_not_go_together_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LogMelSettings.model_validate(wrong)
