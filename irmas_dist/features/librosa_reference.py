"""The same spectrogram by librosa: the reference for the numbers and the speed of `logmel`."""

import librosa
import numpy as np

from irmas_dist.config.features import LogMelSettings
from irmas_dist.corpus.audio import Float32, Samples
from irmas_dist.errors import AudioError


def mel_by_librosa(samples: Samples, sample_rate: int, settings: LogMelSettings) -> Float32:
    """Return mel power before the logarithm, shape (bands, frames), of samples as in `log_mel`.

    Raises:
        AudioError: Some samples are NaN or infinite.
    """
    full_scale = 32_768 if samples.dtype == np.int16 else 1
    channels = np.atleast_2d(samples.T.astype(np.float32)) / full_scale
    if not np.isfinite(channels).all():
        raise AudioError("holds NaN or infinite samples")
    mono = librosa.resample(
        channels[0] if settings.downmix == "first" else librosa.to_mono(channels),
        orig_sr=sample_rate,
        target_sr=settings.sample_rate,
        res_type="soxr_hq",
    )
    if settings.peak_normalise and (peak := np.abs(mono).max()) > 0:
        mono = mono / peak
    mel: Float32 = librosa.feature.melspectrogram(
        y=mono,
        sr=settings.sample_rate,
        n_fft=settings.n_fft,
        hop_length=settings.hop_length,
        window=settings.window,
        center=True,
        pad_mode="constant",
        power=settings.power,
        n_mels=settings.bands,
        fmin=settings.fmin,
        fmax=settings.fmax,
        htk=settings.mel_scale == "htk",
    )
    return mel
