"""What replaces a masked region: silence, the mean, a blurred copy, noise."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from captum_apex.masking.grids import TILE

Fill = Callable[[Tensor], Tensor]
"""Inputs → what replaces them where they are masked, of the same shape."""


def silence_fill(inputs: Tensor, silence: float | Tensor) -> Tensor:
    """Silence in place of the inputs.

    Args:
        inputs: shape (batch, channel, frequency, time).
        silence: what the model's input holds where there is no sound: for a log-mel, the dB floor *mapped through the normalisation*
            (0 on a z-scored log-mel is the mean level). A tensor that broadcasts, such as (frequency, 1), where it differs between bands.

    Returns:
        Tensor of the shape, dtype and device of the inputs.
    """
    return torch.as_tensor(silence).to(inputs).expand_as(inputs).contiguous()


def mean_fill(inputs: Tensor) -> Tensor:
    """Each clip's own mean in every band, over time; it takes away what changes and leaves the spectrum's average.

    Args:
        inputs: shape (batch, channel, frequency, time), or (batch, channel, samples).

    Returns:
        Tensor of the same shape, constant along the last axis.

    Example:
        >>> mean_fill(torch.tensor([[[[1.0, 3.0], [4.0, 4.0]]]]))
        tensor([[[[2., 2.],
                  [4., 4.]]]])
    """
    return inputs.mean(dim=-1, keepdim=True).expand_as(inputs).contiguous()


def blur_fill(inputs: Tensor, sigma: tuple[float, float] = TILE) -> Tensor:
    """Each clip blurred by a Gaussian over frequency and time: it takes away shapes and edges, and leaves the level around each bin.

    The clip is mirrored at its ends, so no silence comes in from outside, and the mean of each clip stays. With a standard deviation of
    one region's side, what alternates from region to region fades to `exp(-π²/2)`, less than 1%, of its contrast; the default is the side
    of a `"square"` tile, which is more than that of a column or a band of the other grids.

    Args:
        inputs: shape (batch, channel, frequency, time); or (batch, channel, samples), which is blurred over time: of a waveform hardly more
            than its offset is left.
        sigma: standard deviation of the Gaussian, as a share of the frequency axis and of the time axis, each above 0.

    Returns:
        Tensor of the shape, dtype and device of the inputs.

    Raises:
        ValueError: for a standard deviation that is not above 0.

    Example:
        >>> blur_fill(torch.tensor([[[[0.0, 0.0, 9.0, 0.0, 0.0]]]]), sigma=(1.0, 0.2)).round(decimals=1)
        tensor([[[[0.5000, 2.2000, 3.6000, 2.2000, 0.5000]]]])
    """
    if not all(share > 0 for share in sigma):
        raise ValueError(f"expected both numbers of `sigma` to be above 0, but got {sigma}")
    blurred = inputs.to(
        torch.promote_types(inputs.dtype, torch.float32)
    )  # there is no Fourier transform in half precision on a CPU
    for axis, share in ((-2, sigma[0]), (-1, sigma[1])) if inputs.dim() == 4 else ((-1, sigma[1]),):
        blurred = _blurred(blurred, axis, share)
    return blurred.to(inputs.dtype).contiguous()


def noise_fill(inputs: Tensor, seed: int = 0) -> Tensor:
    """Stationary noise with each clip's own long-term spectrum and level: it takes away when things happen, and what belongs together.

    A spectrogram has the frames of each band shuffled, each band by itself. So every band holds the values that it held before: its mean,
    its standard deviation and its *mean power* are the clip's own, whatever unit and normalisation the values are in, which draws from a
    normal distribution would not give (of values in dB their mean power would lie far above the clip's wherever it is loud for a moment).
    A waveform has the phases of its Fourier transform turned at random, which keeps the magnitude at every frequency and the energy, and
    spreads it over the whole time.

    Args:
        inputs: shape (batch, channel, frequency, time), or (batch, channel, samples).
        seed: of the shuffle, or of the phases. Both are the same for every clip, so that a clip's noise does not depend on its batch, and
            for every channel, so that equal channels stay equal. The global random state is neither read nor changed.

    Returns:
        Tensor of the shape, dtype and device of the inputs.

    Example:
        >>> noise_fill(torch.tensor([[[[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 9.0]]]]))
        tensor([[[[3., 2., 4., 1.],
                  [5., 9., 5., 5.]]]])

    Source: both are surrogates as in Theiler et al., "Testing for nonlinearity in time series" (Physica D 58, 1992), Section 3.
    """
    generator = torch.Generator().manual_seed(seed)
    if inputs.dim() != 4:
        return _rephased(inputs, generator)
    order = torch.rand(inputs.shape[2:], dtype=torch.float64, generator=generator).argsort(dim=1)
    return inputs.gather(-1, order.to(inputs.device).expand_as(inputs))


FILLS: dict[str, Callable[[float | Tensor], Fill]] = {
    # Each entry takes what silence is for the model and gives a function of the inputs alone.
    "silence": lambda silence: partial(silence_fill, silence=silence),
    "mean": lambda _: mean_fill,
    "blur": lambda _: blur_fill,
    "noise": lambda _: noise_fill,
}
"""Name of a fill → from the model's silence to the fill."""


def named_fill(name: str, silence: float | Tensor) -> Fill:
    """The fill that `FILLS` knows by this name.

    Args:
        name: `"silence"`, `"mean"`, `"blur"` or `"noise"`.
        silence: what the model's input holds where there is no sound, see `silence_fill`; fills that do not need it ignore it.

    Example:
        >>> named_fill("silence", silence=-80.0)(torch.zeros(1, 1, 1, 2))
        tensor([[[[-80., -80.]]]])
    """
    if name not in FILLS:
        raise ValueError(f"expected the fill's name to be one of {sorted(FILLS)}, but got {name!r}")
    return FILLS[name](silence)


def own_phase(fill: Fill, seed: int = 0) -> Fill:
    """A fill for spectra: what another fill makes of their magnitudes, with each clip's own phases.

    Means, blurs and shuffles of real and imaginary parts would let them cancel; of magnitudes they do not. A bin that holds nothing at all
    has no phase, and gets one drawn at random: else a clip that was padded with zeros would stay silent there, whatever the fill.

    Args:
        fill: a fill for (batch, 1, frequency, time), such as `named_fill("mean", silence=0.0)`.
        seed: of the phases; they are the same for every clip. The global random state is neither read nor changed.

    Returns:
        A fill for real and imaginary parts, (batch, 2, frequency, time), see `captum_apex.spectra`.

    Raises:
        ValueError: (when it is called) for inputs of another shape.

    Example:
        >>> own_phase(mean_fill)(torch.tensor([[[[3.0, -1.0]], [[4.0, 0.0]]]]))  # magnitudes 5 and 1
        tensor([[[[ 1.8000, -3.0000]],
        <BLANKLINE>
                 [[ 2.4000,  0.0000]]]])
    """
    return partial(_with_own_phase, fill=fill, seed=seed)


def masked(inputs: Tensor, fills: Tensor, mask: Tensor) -> Tensor:
    """The inputs with their fill wherever the mask is True.

    Args:
        inputs: shape (batch, channel, frequency, time).
        fills: what takes their place, of the same shape.
        mask: bool, a shape that broadcasts to that of the inputs, such as (batch, 1, frequency, time).

    Raises:
        TypeError: for a mask that is not bool.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"expected `mask` to be bool, but got {mask.dtype}")
    return torch.where(mask, fills, inputs)


def _with_own_phase(spectra: Tensor, fill: Fill, seed: int) -> Tensor:
    if spectra.dim() != 4 or spectra.shape[1] != 2:
        raise ValueError(f"expected spectra of shape (batch, 2, frequency, time), but got {tuple(spectra.shape)}")
    magnitudes = torch.hypot(spectra[:, :1], spectra[:, 1:])
    angles = torch.rand(spectra.shape[2:], dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * (
        2 * math.pi
    )
    drawn = torch.stack([angles.cos(), angles.sin()]).to(spectra)  # (2, frequency, time)
    return torch.where(magnitudes > 0, spectra / magnitudes, drawn) * fill(magnitudes)


def _blurred(values: Tensor, axis: int, share: float) -> Tensor:
    """The values under a Gaussian along one axis, mirrored at both ends again and again; `share` is its width in lengths of the axis."""
    size = values.shape[axis]
    mirrored = torch.cat(
        [values, values.flip(axis)], axis
    )  # its periodic continuation is the mirrored one: no padding, however wide
    response = torch.fft.rfft(_gaussian(2 * size, share * size)).real  # symmetric around 0, so the transform is real
    response = response.to(values).reshape(-1, *[1] * (-1 - axis))
    return torch.fft.irfft(torch.fft.rfft(mirrored, dim=axis) * response, n=2 * size, dim=axis).narrow(axis, 0, size)


def _gaussian(size: int, sigma: float) -> Tensor:
    """A Gaussian around 0 on a circle of so many bins, float64 of sum 1."""
    turns = torch.arange(-1 - math.ceil(9 * sigma / size), 2 + math.ceil(9 * sigma / size), dtype=torch.float64) * size
    distance = torch.arange(size, dtype=torch.float64)[:, None] + turns  # (bin, turn)
    kernel = (-0.5 * (distance / sigma).square()).exp().sum(1)
    return kernel / kernel.sum()


def _rephased(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    values = waveforms.to(torch.promote_types(waveforms.dtype, torch.float32))
    n_samples = values.shape[-1]
    spectrum = torch.fft.rfft(values)
    angles = torch.rand(spectrum.shape[-1], dtype=torch.float64, generator=generator) * (2 * math.pi)
    angles[0] = 0  # the offset is a real number, and so is the highest frequency of an even length: they have no phase
    if n_samples % 2 == 0:
        angles[-1] = 0
    turn = torch.polar(torch.ones_like(angles), angles).to(spectrum)
    return torch.fft.irfft(spectrum * turn, n=n_samples).to(waveforms.dtype)
