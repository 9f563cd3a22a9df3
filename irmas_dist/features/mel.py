"""The window and the mel filters, from numpy alone.

Our own, since importing ``librosa.filters`` would cost every extraction worker two seconds.
"""

from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import Float32

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_WINDOWS = {
    "hann": np.hanning,
    "hamming": np.hamming,
    "blackman": np.blackman,
    "bartlett": np.bartlett,
}

_HZ_PER_MEL = 200 / 3
_BREAK_HZ = 1_000.0
_LOG_STEP = np.log(6.4) / 27


@lru_cache(maxsize=8)
def kernels(settings: LogMelSettings) -> tuple[Float32, "csr_array"]:
    """Return the window, shape (n_fft,), and the filters, shape (bands, n_fft // 2 + 1)."""
    # Imported here: training needs the bands alone.
    from scipy.sparse import csr_array

    return periodic_window(settings), csr_array(mel_filters(settings))


def periodic_window(settings: LogMelSettings) -> Float32:
    """Return one period of the window, shape (n_fft,): a symmetric one without its last value."""
    return _WINDOWS[settings.window](settings.n_fft + 1)[:-1].astype(np.float32)


def mel_filters(settings: LogMelSettings) -> Float32:
    """Return triangular filters of equal width in mel, shape (bands, n_fft // 2 + 1).

    Each is divided by its width in Hz, so that white noise is equally loud in all bands.
    Slaney's scale and this normalisation: M. Slaney, "Auditory Toolbox", Technical Report
    1998-010, Interval Research, 1998. HTK's scale: S. Young et al., "The HTK Book", 2006, eq. 5.13.
    """
    bins = np.fft.rfftfreq(settings.n_fft, 1 / settings.sample_rate)
    edges = _edges(settings)
    lower, centre, upper = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - lower) / (centre - lower), (upper - bins) / (upper - centre)
    filters = np.maximum(np.minimum(rising, falling), 0)
    filters *= 2 / (upper - lower)
    return filters.astype(np.float32)


def band_centres(settings: LogMelSettings) -> npt.NDArray[np.float64]:
    """Return the frequency in Hz at which each band peaks, shape (bands,)."""
    return _edges(settings)[1:-1]


def _edges(settings: LogMelSettings) -> npt.NDArray[np.float64]:
    """Return frequencies in Hz at equal distances in mel, shape (bands + 2,).

    Each band starts at one of them, peaks at the next and ends at the one after.
    """
    htk = settings.mel_scale == "htk"
    low, high = _to_mel(np.array([settings.fmin, settings.top]), htk).tolist()
    return _to_hz(np.linspace(low, high, settings.bands + 2), htk)


def _to_mel(hz: npt.NDArray[np.float64], htk: bool) -> npt.NDArray[np.float64]:
    if htk:
        return 2_595 * np.log10(1 + hz / 700)
    above = np.log(np.maximum(hz, _BREAK_HZ) / _BREAK_HZ) / _LOG_STEP
    return np.minimum(hz, _BREAK_HZ) / _HZ_PER_MEL + above


def _to_hz(mel: npt.NDArray[np.float64], htk: bool) -> npt.NDArray[np.float64]:
    if htk:
        return 700 * (10 ** (mel / 2_595) - 1)
    corner = _BREAK_HZ / _HZ_PER_MEL
    return np.minimum(mel, corner) * _HZ_PER_MEL * np.exp(_LOG_STEP * np.maximum(mel - corner, 0))
