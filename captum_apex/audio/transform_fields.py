"""The axes' fields of a torchaudio transform."""

from __future__ import annotations

from typing import Any

__all__ = ["transform_fields"]


def transform_fields(transform: Any, sample_rate: float | None = None) -> dict[str, Any]:
    """The arguments of `SpectrogramAxes` for the spectrograms that a torchaudio transform computes.

    Args:
        transform: a `torchaudio.transforms.MelSpectrogram` or `Spectrogram`, or a module with the same attributes.
        sample_rate: sample rate in Hz; needed only for a `Spectrogram`, which does not store it.

    Raises:
        TypeError: if the transform is another one, or if the sample rate of a `Spectrogram` is missing.
        ValueError: if the sample rate is not that of the transform, or the spectrogram is two-sided.

    Example:
        >>> from torchaudio.transforms import Spectrogram
        >>> from captum_apex.audio.transform_fields import transform_fields
        >>> transform_fields(Spectrogram(n_fft=512, hop_length=160), sample_rate=16000)
        {'sample_rate': 16000, 'n_fft': 512, 'hop_length': 160, 'center': True, 'pad': 0}
    """
    stft = getattr(transform, "spectrogram", transform)
    mel = getattr(transform, "mel_scale", None)
    if not all(hasattr(stft, name) for name in ("n_fft", "hop_length", "center", "pad", "onesided")):
        raise TypeError(
            "expected `transform` to be a torchaudio MelSpectrogram or Spectrogram, but got "
            f"{type(transform).__name__}; if it contains one of them, pass that one"
        )
    if not stft.onesided:
        raise ValueError("expected a one-sided spectrogram, but got onesided=False: half of its bins repeat the others")
    rate = _agreed_sample_rate(getattr(transform, "sample_rate", None), sample_rate)
    fields = {"sample_rate": rate} | {name: getattr(stft, name) for name in ("n_fft", "hop_length", "center", "pad")}
    if mel is None:
        return fields
    return fields | {name: getattr(mel, name) for name in ("n_mels", "mel_scale", "f_min", "f_max")}


def _agreed_sample_rate(of_transform: float | None, given: float | None) -> float:
    if of_transform is not None and given is not None and of_transform != given:
        raise ValueError(f"expected `sample_rate` to be that of the transform, {of_transform}, but got {given}")
    rate = given if of_transform is None else of_transform
    if rate is None:
        raise TypeError("expected a `sample_rate`, because this transform does not store it, but got None")
    return rate
