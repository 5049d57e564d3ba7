"""What replaces the masked bins of an input: silence, the mean, a blurred copy, noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from captum_apex.choices import one_of
from captum_apex.masking.grids import TILE
from captum_apex.numbers import real_number, whole_number

__all__ = [
    "FILLS",
    "Fill",
    "blur_fill",
    "masked",
    "mean_fill",
    "named_fill",
    "noise_fill",
    "own_phase",
    "silence_fill",
]

Fill = Callable[[Tensor], Tensor]
"""A function from inputs to what replaces them where they are masked, a tensor of the same shape."""


def silence_fill(inputs: Tensor, silence: float | Tensor) -> Tensor:
    """Replaces the inputs by silence.

    Args:
        inputs: shape (batch, channel, frequency, time).
        silence: value of the model's input where there is no sound. For a log-mel spectrogram it is the dB floor
            *after normalisation* (0 in a z-scored log-mel is the mean level). A tensor that broadcasts, such as
            (frequency, 1), if the value differs between bands.

    Returns:
        Tensor of the shape, dtype and device of the inputs.

    Example:
        >>> import torch
        >>> from captum_apex.masking import silence_fill
        >>> silence_fill(torch.ones(1, 1, 2, 3), silence=torch.tensor([[-80.0], [-60.0]]))
        tensor([[[[-80., -80., -80.],
                  [-60., -60., -60.]]]])
    """
    _check_inputs(inputs)
    try:
        return torch.as_tensor(silence).to(inputs).expand_as(inputs).contiguous()
    except (TypeError, ValueError, RuntimeError) as error:  # no number, or a tensor of another shape
        raise TypeError(
            f"expected `silence` to be a number or a tensor that broadcasts to {tuple(inputs.shape)}, but got "
            f"{silence!r}"
        ) from error


def mean_fill(inputs: Tensor) -> Tensor:
    """Replaces every band of a clip by its mean over time.

    This removes what changes over time and leaves the average spectrum.

    Args:
        inputs: shape (batch, channel, frequency, time) or (batch, channel, sample).

    Returns:
        Tensor of the same shape, constant along the last axis.

    Example:
        >>> import torch
        >>> from captum_apex.masking import mean_fill
        >>> mean_fill(torch.tensor([[[[1.0, 3.0], [4.0, 4.0]]]]))
        tensor([[[[2., 2.],
                  [4., 4.]]]])
    """
    return inputs.mean(dim=-1, keepdim=True).expand_as(inputs).contiguous()


def blur_fill(inputs: Tensor, sigma: tuple[float, float] = TILE) -> Tensor:
    """Blurs each clip by a Gaussian over frequency and time.

    This removes shapes and edges and leaves the level around each bin. The clip is mirrored at its ends, so no silence
    enters from outside, and the mean of each clip stays the same.

    If the standard deviation is the side of a region, the contrast between neighbouring regions falls to `exp(-π²/2)`,
    less than 1%. The default is the side of a `"square"` tile; the columns and bands of the other grids are thinner.

    Args:
        inputs: shape (batch, channel, frequency, time); or (batch, channel, sample), which is blurred over time, so
            that little more than the offset of a waveform is left.
        sigma: standard deviation of the Gaussian, as a fraction of the frequency axis and of the time axis; 0 for an
            axis that is not blurred.

    Returns:
        Tensor of the shape, dtype and device of the inputs.

    Raises:
        ValueError: if a standard deviation is negative.

    Example:
        >>> import torch
        >>> from captum_apex.masking import blur_fill
        >>> blur_fill(torch.tensor([[[[0.0, 0.0, 9.0, 0.0, 0.0]]]]), sigma=(1.0, 0.2)).round(decimals=1)
        tensor([[[[0.5000, 2.2000, 3.6000, 2.2000, 0.5000]]]])
    """
    _check_inputs(inputs)
    if not isinstance(sigma, Sequence) or len(sigma) != 2:
        raise TypeError(f"expected `sigma` to be two numbers, for frequency and for time, but got {sigma!r}")
    sigma = (real_number(sigma[0], "sigma", low=0), real_number(sigma[1], "sigma", low=0))
    # There is no Fourier transform in half precision on a CPU.
    blurred = inputs.to(torch.promote_types(inputs.dtype, torch.float32))
    if inputs.dim() == 4 and sigma[0]:
        blurred = _blurred(blurred, -2, sigma[0])
    if sigma[1]:
        blurred = _blurred(blurred, -1, sigma[1])
    return blurred.to(inputs.dtype).contiguous()


def noise_fill(inputs: Tensor, seed: int = 0) -> Tensor:
    """Replaces each clip by stationary noise with the long-term spectrum and the level of the clip.

    This removes the times of all sounds, and which bands sound together.

    The frames of a spectrogram are shuffled, each band by itself. So every band holds the same values as before: its
    mean, its standard deviation and its *mean power* stay the same, whatever the unit and the normalisation of the
    values. Values drawn from a normal distribution would not have this property: in dB, their mean power would be far
    above that of a clip that is loud only for a moment.

    The phases of a waveform's Fourier transform are replaced by random ones. This keeps the magnitude at every
    frequency and the energy, and spreads the energy over the whole time.

    Args:
        inputs: shape (batch, channel, frequency, time) or (batch, channel, sample).
        seed: seed of the random number generator for the shuffle or the phases. They are the same for every clip, so
            that the noise of a clip does not depend on its batch, and for every channel, so that equal channels stay
            equal. The global random state is neither read nor changed.

    Returns:
        Tensor of the shape, dtype and device of the inputs.

    Example:
        >>> import torch
        >>> from captum_apex.masking import noise_fill
        >>> noise_fill(torch.tensor([[[[1.0, 2.0, 3.0, 4.0], [5.0, 5.0, 5.0, 9.0]]]]))
        tensor([[[[3., 2., 4., 1.],
                  [5., 9., 5., 5.]]]])

    Source: both are surrogates as in Theiler et al., "Testing for nonlinearity in time series" (Physica D 58, 1992),
        Section 3.
    """
    _check_inputs(inputs)
    generator = torch.Generator().manual_seed(whole_number(seed, "seed"))
    if inputs.dim() != 4:
        return _with_random_phases(inputs, generator)
    order = torch.rand(inputs.shape[2:], dtype=torch.float64, generator=generator).argsort(dim=1)
    return inputs.gather(-1, order.to(inputs.device).expand_as(inputs))


FILLS: dict[str, Callable[[float | Tensor], Fill]] = {
    "silence": lambda silence: partial(silence_fill, silence=silence),
    "mean": lambda _: mean_fill,
    "blur": lambda _: blur_fill,
    "noise": lambda _: noise_fill,
}
"""The fills by name; each entry is a function from the model's value of silence to the fill."""


def named_fill(name: str, silence: float | Tensor) -> Fill:
    """The fill with this name in `FILLS`.

    Args:
        name: `"silence"`, `"mean"`, `"blur"` or `"noise"`.
        silence: value of the model's input where there is no sound, as in `silence_fill`; the other fills ignore it.

    Raises:
        TypeError: if the name is no string.
        ValueError: if there is no fill with this name.

    Example:
        >>> import torch
        >>> from captum_apex.masking import named_fill
        >>> named_fill("silence", silence=-80.0)(torch.zeros(1, 1, 1, 2))
        tensor([[[[-80., -80.]]]])
    """
    one_of(name, "the fill's name", FILLS)
    return FILLS[name](silence)


def own_phase(fill: Fill, seed: int = 0) -> Fill:
    """A fill for complex spectra: another fill applied to the magnitudes, with the phases of the clip itself.

    If a mean, a blur or a shuffle were applied to real and imaginary parts, these would cancel. A bin of magnitude 0
    has no phase and gets a random one. Otherwise a clip padded with zeros would stay silent there, whatever the fill.

    Args:
        fill: a fill for inputs (batch, 1, frequency, time), such as `named_fill("mean", silence=0.0)`.
        seed: seed of the random number generator for the random phases, which are the same for every clip. The global
            random state is neither read nor changed.

    Returns:
        A fill for real and imaginary parts, (batch, 2, frequency, time), as in `captum_apex.spectra`. It raises a
        ValueError for inputs of another shape.

    Example:
        >>> import torch
        >>> from captum_apex.masking import mean_fill, own_phase
        >>> own_phase(mean_fill)(torch.tensor([[[[3.0, -1.0]], [[4.0, 0.0]]]]))  # magnitudes 5 and 1
        tensor([[[[ 1.8000, -3.0000]],
        <BLANKLINE>
                 [[ 2.4000,  0.0000]]]])
    """
    return partial(_fill_magnitudes, fill=fill, seed=seed)


def masked(inputs: Tensor, fills: Tensor, mask: Tensor) -> Tensor:
    """The inputs, replaced by their fill wherever the mask is True.

    Args:
        inputs: shape (batch, channel, frequency, time).
        fills: values that replace the inputs, same shape.
        mask: bool, a shape that broadcasts to that of the inputs, such as (batch, 1, frequency, time).

    Raises:
        TypeError: if the mask is not bool.

    Example:
        >>> import torch
        >>> from captum_apex.masking import masked
        >>> masked(torch.tensor([1.0, 2.0]), torch.tensor([-80.0, -80.0]), torch.tensor([False, True]))
        tensor([  1., -80.])
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"expected `mask` to be bool, but got {mask.dtype}")
    return torch.where(mask, fills, inputs)


def _fill_magnitudes(spectra: Tensor, fill: Fill, seed: int) -> Tensor:
    """The fill of `own_phase`."""
    if spectra.dim() != 4 or spectra.shape[1] != 2:
        raise ValueError(f"expected spectra of shape (batch, 2, frequency, time), but got {tuple(spectra.shape)}")
    magnitudes = torch.hypot(spectra[:, :1], spectra[:, 1:])
    generator = torch.Generator().manual_seed(whole_number(seed, "seed"))
    angles = torch.rand(spectra.shape[2:], dtype=torch.float64, generator=generator) * (2 * math.pi)
    random_phases = torch.stack([angles.cos(), angles.sin()]).to(spectra)  # (2, frequency, time)
    return torch.where(magnitudes > 0, spectra / magnitudes, random_phases) * fill(magnitudes)


def _blurred(values: Tensor, axis: int, share: float) -> Tensor:
    """Convolves one axis, mirrored at both ends, with a Gaussian.

    Args:
        values: shape (..., frequency, time) or (..., sample).
        axis: the axis, as a negative index.
        share: standard deviation of the Gaussian, as a fraction of the axis.
    """
    size = values.shape[axis]
    # The periodic continuation of the mirrored axis is the mirrored signal, so no padding is needed for any width.
    mirrored = torch.cat([values, values.flip(axis)], axis)
    response = torch.fft.rfft(_gaussian(2 * size, share * size)).real  # symmetric around 0, so the transform is real
    response = response.to(values).reshape(-1, *[1] * (-1 - axis))
    return torch.fft.irfft(torch.fft.rfft(mirrored, dim=axis) * response, n=2 * size, dim=axis).narrow(axis, 0, size)


def _gaussian(size: int, sigma: float) -> Tensor:
    """A Gaussian around 0 on a circle of `size` bins, float64, with sum 1; `sigma` in bins."""
    n_turns = math.ceil(9 * sigma / size)  # 9 standard deviations away, it is below the precision of float64
    turns = torch.arange(-1 - n_turns, 2 + n_turns, dtype=torch.float64) * size
    distance = torch.arange(size, dtype=torch.float64)[:, None] + turns  # (bin, turn)
    kernel = (-0.5 * (distance / sigma).square()).exp().sum(1)
    return kernel / kernel.sum()


def _with_random_phases(waveforms: Tensor, generator: torch.Generator) -> Tensor:
    values = waveforms.to(torch.promote_types(waveforms.dtype, torch.float32))
    n_samples = values.shape[-1]
    spectrum = torch.fft.rfft(values)
    angles = torch.rand(spectrum.shape[-1], dtype=torch.float64, generator=generator) * (2 * math.pi)
    # The offset and the highest frequency of an even length are real numbers, so they have no phase.
    angles[0] = 0
    if n_samples % 2 == 0:
        angles[-1] = 0
    turn = torch.polar(torch.ones_like(angles), angles).to(spectrum)
    return torch.fft.irfft(spectrum * turn, n=n_samples).to(waveforms.dtype)


def _check_inputs(inputs: Tensor) -> None:
    """Refuses inputs that are no batch of spectrograms or waveforms."""
    if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
        got = inputs.dtype if isinstance(inputs, Tensor) else type(inputs).__name__
        raise TypeError(f"expected `inputs` to be a tensor of floats, but got {got}")
    if inputs.dim() < 2 or not inputs.numel():
        raise ValueError(
            "expected `inputs` of shape (batch, channel, frequency, time) or (batch, channel, sample), but got "
            f"{tuple(inputs.shape)}"
        )
