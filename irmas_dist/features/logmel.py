"""The front end: audio in any format to a log-mel spectrogram.

Decode with libsndfile, average the channels, resample with soxr at high quality, divide
by the peak, frame with zero padding, FFT, power, mel bands, natural logarithm. The same
numbers as librosa's ``melspectrogram(center=True, pad_mode="constant")``, several times faster.
"""

import os
from functools import lru_cache

import numpy as np
import numpy.typing as npt
import soundfile
import soxr
import torch
import torchaudio
from pydantic import Field, model_validator

from irmas_dist import storage
from irmas_dist.errors import IrmasError
from irmas_dist.settings import Settings

Float16 = npt.NDArray[np.float16]
Float32 = npt.NDArray[np.float32]
Samples = npt.NDArray[np.int16] | Float32

BLOCK_FRAMES = 4096
"""Frames transformed at once: 16 MB at 1,024 samples a frame, whatever the file's length."""


class LogMelSettings(Settings):
    """Settings of the log-mel spectrogram; the defaults are those of Han et al. (2016)."""

    sample_rate: int = Field(22_050, ge=1_000, le=192_000)
    """Rate to which audio is resampled, in Hz."""
    n_fft: int = Field(1_024, ge=16, le=65_536)
    """Length of a frame and of its FFT, in samples."""
    hop_length: int = Field(512, ge=1)
    """Samples from one frame to the next."""
    bands: int = Field(128, ge=8, le=1_024)
    """Number of mel bands."""
    fmin: float = Field(0.0, ge=0.0)
    """Lower edge of the lowest band, in Hz."""
    fmax: float | None = Field(None, gt=0.0)
    """Upper edge of the highest band, in Hz; none means half the sample rate."""
    floor: float = Field(1e-8, gt=0.0)
    """Mel power below this is raised to it before the logarithm."""
    peak_normalise: bool = True
    """Whether a clip is divided by its largest absolute sample after resampling."""

    @model_validator(mode="after")
    def _in_range(self) -> "LogMelSettings":
        top = self.fmax or self.sample_rate / 2
        if not self.fmin < top <= self.sample_rate / 2:
            raise ValueError(
                f"fmin {self.fmin:g} Hz and fmax {top:g} Hz must be in order "
                f"and at most half the sample rate, {self.sample_rate / 2:g} Hz"
            )
        if self.hop_length > self.n_fft:
            raise ValueError(f"hop_length {self.hop_length} exceeds n_fft {self.n_fft}")
        return self

    @property
    def frames_per_second(self) -> float:
        """Frames in one second of audio."""
        return self.sample_rate / self.hop_length

    @property
    def log_floor(self) -> float:
        """The smallest value in a spectrogram: the natural logarithm of ``floor``."""
        return float(np.log(self.floor))


class AudioError(IrmasError):
    """A file or array that holds no usable audio; the message says why."""


def read_audio(path: str | os.PathLike[str]) -> tuple[Samples, int]:
    """Decode an audio file.

    Args:
        path: Path or URL of a file in any format that libsndfile reads.

    Returns:
        Samples of shape (samples, channels), and their rate in Hz. 16-bit files stay int16:
        converting is cheaper once the channels are averaged.

    Raises:
        AudioError: The file is missing, empty or not audio.
    """
    try:
        if storage.is_url(path):
            filesystem, inner = storage.resolve(path)
            source = filesystem.open_input_file(inner)
        else:
            source = os.fspath(path)
        with soundfile.SoundFile(source) as file:
            dtype = "int16" if file.subtype in ("PCM_16", "PCM_S8", "PCM_U8") else "float32"
            return file.read(dtype=dtype, always_2d=True), file.samplerate
    except (soundfile.LibsndfileError, OSError, RuntimeError) as error:
        if not storage.exists(path):
            raise AudioError("no such file") from error
        reason = str(error).splitlines()[0].removeprefix(f"Error opening {path!r}: ")
        raise AudioError(f"cannot be decoded: {reason}") from error


def log_mel(
    audio: str | os.PathLike[str] | Samples,
    settings: LogMelSettings,
    sample_rate: int | None = None,
) -> Float16:
    """Return the log-mel spectrogram of a file or an array.

    Args:
        audio: Path or URL of an audio file, or samples of shape (samples,) or
            (samples, channels), int16 or float32 in [-1, 1].
        settings: What to compute.
        sample_rate: Rate of the samples in Hz; only for arrays, which need it.

    Returns:
        Natural logarithm of mel power, shape (bands, frames), with
        ``frames = 1 + resampled samples // hop_length``.

    Raises:
        AudioError: The audio cannot be decoded, is empty, or holds NaN or infinite samples.
    """
    if isinstance(audio, np.ndarray):
        if sample_rate is None:
            raise AudioError("an array of samples needs its sample rate")
        samples = audio
    else:
        samples, sample_rate = read_audio(audio)
    return _spectrogram(_prepare(samples, sample_rate, settings), settings)


def _prepare(samples: Samples, sample_rate: int, settings: LogMelSettings) -> Float32:
    """Mono, at the settings' rate, peak-normalised: shape (samples,)."""
    if samples.shape[0] == 0:
        raise AudioError("holds no samples")
    full_scale = 32_768.0 if samples.dtype == np.int16 else 1.0
    if samples.ndim == 2:
        # One matrix-vector product: a mean over interleaved channels is several times slower.
        weights = np.full(samples.shape[1], 1 / (samples.shape[1] * full_scale), np.float32)
        mono = samples.astype(np.float32, copy=False) @ weights
    else:
        mono = samples.astype(np.float32) / np.float32(full_scale)
    if not np.isfinite(mono).all():
        raise AudioError("holds NaN or infinite samples")
    if sample_rate != settings.sample_rate:
        mono = soxr.resample(mono, sample_rate, settings.sample_rate, quality="HQ")
    if settings.peak_normalise and mono.size and (peak := np.abs(mono).max()) > 0:
        mono = mono / peak
    return np.asarray(mono, np.float32)


def _spectrogram(mono: Float32, settings: LogMelSettings) -> Float16:
    window, filters = _kernels(settings)
    half = settings.n_fft // 2
    padded = torch.nn.functional.pad(torch.from_numpy(mono), (half, half))
    frames = padded.unfold(0, settings.n_fft, settings.hop_length)
    blocks = [
        torch.view_as_real(torch.fft.rfft(block * window)).square().sum(-1) @ filters
        for block in frames.split(BLOCK_FRAMES)
    ]
    mel = torch.cat(blocks).clamp_(min=settings.floor).log_().to(torch.float16)
    return mel.T.contiguous().numpy()


@lru_cache(maxsize=8)
def _kernels(settings: LogMelSettings) -> tuple[torch.Tensor, torch.Tensor]:
    """Hann window, shape (n_fft,), and mel filters, shape (n_fft // 2 + 1, bands)."""
    filters = torchaudio.functional.melscale_fbanks(
        n_freqs=settings.n_fft // 2 + 1,
        f_min=settings.fmin,
        f_max=settings.fmax or settings.sample_rate / 2,
        n_mels=settings.bands,
        sample_rate=settings.sample_rate,
        norm="slaney",
        mel_scale="slaney",
    )
    return torch.hann_window(settings.n_fft), filters
