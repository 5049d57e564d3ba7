"""Waveforms as spectra and back, so that a model that takes waveforms can be masked in time and frequency."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import pad


class InverseSTFT(nn.Module):
    """Spectra → the waveforms that they are of. Put before a model of waveforms, it makes a model of spectra.

    `nn.Sequential(inverse, model)` takes `inverse.spectra(waveforms)`, says of them what the model says of the waveforms, and can be
    explained and masked bin by bin: what is removed from a spectrum is removed from the sound, and the rest keeps the clip's own phase.
    With hard edges a little of the neighbouring bins and frames goes too, or stays, as wide as the window is blurred.

    The inverse is exact, at both ends and for any length. Among the spectra that are nobody's, as masked ones are, it finds the waveform
    whose own spectrum is closest (Griffin and Lim, "Signal estimation from modified short-time Fourier transform", 1984, Equation 6).

    Args:
        n_samples: length of the waveforms.
        n_fft: length of the Fourier transform, in samples, even. Frequencies are `n_fft // 2 + 1` bins from 0 to half the sample rate.
        hop_length: samples between neighbouring frames; frame 0 is centred on the first sample.
        win_length: length of the Hann window, in samples; None for `n_fft`.

    The axes are those of `SpectrogramAxes(sample_rate, n_fft, hop_length)`. Where the model makes a mel spectrogram of the waveform, its
    layers have other rows than the spectra: a map that is enlarged from there belongs on the mel bands, and from these on the bins by
    `SpectrogramAxes.shares_of`.

    Raises:
        ValueError: where a length is below 1, the transform's odd or less than the window, or the hop longer than half the window.

    Example:
        >>> inverse, waveforms = InverseSTFT(1000, n_fft=256, hop_length=64), torch.randn(3, 1000)
        >>> spectra = inverse.spectra(waveforms)
        >>> spectra.shape
        torch.Size([3, 2, 129, 17])
        >>> torch.allclose(inverse(spectra), waveforms, atol=1e-5)
        True
    """

    window: Tensor

    def __init__(self, n_samples: int, n_fft: int, hop_length: int, win_length: int | None = None) -> None:
        super().__init__()
        self.n_samples, self.n_fft, self.hop_length = n_samples, n_fft, hop_length
        self.win_length = n_fft if win_length is None else win_length
        for name in ("n_samples", "n_fft", "hop_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"expected `{name}` to be at least 1, but got {getattr(self, name)}")
        if n_fft % 2:
            raise ValueError(f"expected `n_fft` to be even, but got {n_fft}")
        if not 2 * hop_length <= self.win_length <= n_fft:
            raise ValueError(
                f"expected `win_length` between twice the hop and `n_fft`, {2 * hop_length} and {n_fft}, but got {self.win_length}; "
                "with fewer windows over a sample it is not heard evenly"
            )
        self.register_buffer("window", torch.hann_window(self.win_length, dtype=torch.float64), persistent=False)

    def spectra(self, waveforms: Tensor) -> Tensor:
        """The short-time Fourier transform whose inverse this is.

        Args:
            waveforms: (clip, sample).

        Returns:
            Real and imaginary parts, (clip, 2, frequency, time), in the waveforms' dtype; frequencies from 0 Hz up.

        Raises:
            ValueError: for another shape, or another number of samples.
        """
        if waveforms.dim() != 2 or waveforms.shape[1] != self.n_samples:
            raise ValueError(
                f"expected `waveforms` of shape (clip, {self.n_samples}), but got {tuple(waveforms.shape)}"
            )
        whole = pad(
            waveforms, (0, -self.n_samples % self.hop_length)
        )  # so that the last sample lies between two frames' centres
        window = self.window.to(waveforms)
        spectra = torch.stft(
            whole, self.n_fft, self.hop_length, self.win_length, window, pad_mode="constant", return_complex=True
        )
        return torch.stack([spectra.real, spectra.imag], 1)

    def forward(self, spectra: Tensor) -> Tensor:
        """Spectra (clip, 2, frequency, time) → waveforms (clip, sample).

        Raises:
            ValueError: for another shape.
        """
        expected = (2, self.n_fft // 2 + 1, 1 - -self.n_samples // self.hop_length)
        if spectra.shape[1:] != expected:
            raise ValueError(
                f"expected `spectra` of shape (clip, {', '.join(map(str, expected))}), but got {tuple(spectra.shape)}"
            )
        parts, window = torch.complex(spectra[:, 0].contiguous(), spectra[:, 1].contiguous()), self.window.to(spectra)
        return torch.istft(parts, self.n_fft, self.hop_length, self.win_length, window, length=self.n_samples)
