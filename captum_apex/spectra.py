"""Waveforms as spectra and back, so that a model that takes waveforms can be masked in frequency and time."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

__all__ = ["InverseSTFT"]


class InverseSTFT(nn.Module):
    """The inverse short-time Fourier transform, which turns a model of waveforms into a model of spectra.

    `nn.Sequential(inverse, model)` takes `inverse.spectra(waveforms)` and gives the scores that the model gives for the
    waveforms. It can be explained and masked bin by bin: a bin that is removed from a spectrum is removed from the
    sound, and the rest keeps its phase. A mask with hard edges also affects the neighbouring bins and frames, within
    the blur of the window.

    The inverse is exact for waveforms of any length, up to both ends. A masked spectrum is in general not the spectrum
    of any waveform; the result is then the waveform with the closest spectrum.

    The axes of the spectra are `SpectrogramAxes(sample_rate, n_fft, hop_length)`. If the model computes a mel
    spectrogram of the waveform, the rows of its layers are mel bands and not bins. A map that is enlarged from such a
    layer has to be converted from bands to bins by `SpectrogramAxes.shares_of`.

    Args:
        n_samples: length of the waveforms, in samples.
        n_fft: length of the Fourier transform, in samples, an even number. The frequencies are `n_fft // 2 + 1` bins
            from 0 to half the sample rate.
        hop_length: samples between neighbouring frames; frame 0 is centred on the first sample.
        win_length: length of the Hann window, in samples; None for `n_fft`.

    Raises:
        ValueError: if a length is below 1, `n_fft` is odd or less than the window, or the hop is longer than half the
            window.

    Example:
        >>> import torch
        >>> from captum_apex.spectra import InverseSTFT
        >>> inverse = InverseSTFT(1000, n_fft=256, hop_length=64)
        >>> waveforms = torch.sin(torch.arange(3000.0)).reshape(3, 1000)
        >>> spectra = inverse.spectra(waveforms)
        >>> spectra.shape
        torch.Size([3, 2, 129, 17])
        >>> torch.allclose(inverse(spectra), waveforms, atol=1e-5)
        True

    Source: Griffin and Lim, "Signal estimation from modified short-time Fourier transform" (1984), Equation 6.
    """

    window: Tensor

    def __init__(self, n_samples: int, n_fft: int, hop_length: int, win_length: int | None = None) -> None:
        super().__init__()
        self.n_samples = n_samples
        self.n_fft = n_fft
        self.hop_length = hop_length
        self.win_length = n_fft if win_length is None else win_length
        for name in ("n_samples", "n_fft", "hop_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected `{name}` to be at least 1, but got {getattr(self, name)}")
        if n_fft % 2:
            raise ValueError(f"expected `n_fft` to be even, but got {n_fft}")
        if not 2 * hop_length <= self.win_length <= n_fft:
            raise ValueError(
                f"expected `win_length` between twice the hop and `n_fft`, {2 * hop_length} and {n_fft}, "
                f"but got {self.win_length}; choose a shorter hop, so that at least two windows cover every sample"
            )
        self.register_buffer("window", torch.hann_window(self.win_length, dtype=torch.float64), persistent=False)

    def spectra(self, waveforms: Tensor) -> Tensor:
        """The short-time Fourier transform of waveforms.

        Args:
            waveforms: shape (clip, sample).

        Returns:
            Real and imaginary parts, shape (clip, 2, frequency, time), in the dtype of the waveforms; the frequencies
            begin at 0 Hz.

        Raises:
            ValueError: if the waveforms have another shape or another number of samples.
        """
        if waveforms.dim() != 2 or waveforms.shape[1] != self.n_samples:
            raise ValueError(
                f"expected `waveforms` of shape (clip, {self.n_samples}), but got {tuple(waveforms.shape)}"
            )
        # So that the last sample, too, lies between the centres of two frames.
        padded = pad(waveforms, (0, -self.n_samples % self.hop_length))
        window = self.window.to(waveforms)
        spectra = torch.stft(
            padded, self.n_fft, self.hop_length, self.win_length, window, pad_mode="constant", return_complex=True
        )
        return torch.stack([spectra.real, spectra.imag], 1)

    def forward(self, spectra: Tensor) -> Tensor:
        """The waveforms of spectra.

        Args:
            spectra: real and imaginary parts, shape (clip, 2, frequency, time).

        Returns:
            Tensor of shape (clip, sample).

        Raises:
            ValueError: if the spectra have another shape.
        """
        expected = (2, self.n_fft // 2 + 1, 1 - -self.n_samples // self.hop_length)
        if spectra.shape[1:] != expected:
            raise ValueError(
                f"expected `spectra` of shape (clip, {', '.join(map(str, expected))}), but got {tuple(spectra.shape)}"
            )
        complex_spectra = torch.complex(spectra[:, 0].contiguous(), spectra[:, 1].contiguous())
        window = self.window.to(spectra)
        return torch.istft(complex_spectra, self.n_fft, self.hop_length, self.win_length, window, length=self.n_samples)
