"""Coarse regions of an input, what is put in their place, and which region goes first."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

Fill = Callable[[Tensor], Tensor]
"""Inputs → what replaces them where they are masked, of the same shape."""

GRIDS: dict[str, tuple[int, int]] = {"square": (4, 10), "time": (1, 25), "frequency": (16, 1)}
"""Name of a grid → its (rows, columns): tiles, columns in time, bands in frequency."""

TILE = (1 / GRIDS["square"][0], 1 / GRIDS["square"][1])
"""The largest sides that a region of these grids has where it does not span the axis, as shares of the frequency and the time axis."""


def region_grid(shape: Sequence[int], rows: int, columns: int) -> Tensor:
    """Which region of a coarse grid each input bin belongs to.

    The regions are numbered row by row, beginning with the lowest bins and the first frames; their sides differ by at most one bin.

    Args:
        shape: the input's sizes without batch and channel: (frequency, time), or (samples,) for a waveform.
        rows: how many parts the frequency axis is cut into; 1 for columns in time, and for every waveform.
        columns: how many parts the time axis is cut into; 1 for bands in frequency.

    Returns:
        int64 tensor of that shape, in [0, rows · columns); it serves Captum's methods as `feature_mask`.

    Raises:
        ValueError: where an axis has fewer bins than parts, or the shape has another number of axes.

    Example:
        >>> region_grid((2, 5), rows=2, columns=2)
        tensor([[0, 0, 0, 1, 1],
                [2, 2, 2, 3, 3]])
    """
    if len(shape) not in (1, 2):
        raise ValueError(f"expected `shape` to be (frequency, time) or (samples,), but got {tuple(shape)}")
    frequency, time = shape if len(shape) == 2 else (1, *shape)
    row, column = _parts(frequency, rows, "rows"), _parts(time, columns, "columns")
    return (row[:, None] * columns + column).reshape(*shape)


def named_grid(name: str, shape: Sequence[int]) -> Tensor:
    """The region grid that `GRIDS` knows by this name, for inputs of this shape; see `region_grid`.

    Example:
        >>> named_grid("time", (64, 500)).unique().numel()
        25
    """
    if name not in GRIDS:
        raise ValueError(f"expected the grid's name to be one of {sorted(GRIDS)}, but got {name!r}")
    return region_grid(shape, *GRIDS[name])


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
    blurred = inputs.to(torch.promote_types(inputs.dtype, torch.float32))  # there is no Fourier transform in half precision on a CPU
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


def region_sums(attributions: Tensor, grid: Tensor) -> Tensor:
    """The attribution of each region: the sum over its bins, in all channels.

    Args:
        attributions: shape (batch, channel, frequency, time); the channel axis may be absent, and the last axes are those of the grid.
        grid: the region that each bin belongs to, int64, shape (frequency, time); see `region_grid`.

    Returns:
        float64 tensor of shape (batch, region): summed in double precision, whatever the input's.

    Raises:
        TypeError: for a grid that is not int64.
        ValueError: where the last axes are not those of the grid.

    Example:
        >>> region_sums(torch.ones(1, 3, 2, 5), region_grid((2, 5), 1, 2))
        tensor([[18., 12.]], dtype=torch.float64)
    """
    check_grid(grid)
    if attributions.dim() not in (grid.dim() + 1, grid.dim() + 2) or attributions.shape[-grid.dim() :] != grid.shape:
        expected = ", ".join(map(str, grid.shape))
        raise ValueError(f"expected `attributions` of shape (batch, channel, {expected}), but got {tuple(attributions.shape)}")
    clips = len(attributions)
    per_bin = attributions.detach().to(torch.float64).reshape(clips, -1, grid.numel()).sum(1)  # (clip, channel, bin) → (clip, bin)
    regions = grid.flatten().to(per_bin.device)
    return per_bin.new_zeros(clips, n_regions(grid)).index_add_(1, regions, per_bin)  # (clip, bin) → (clip, region)


def n_regions(grid: Tensor) -> int:
    """How many regions a grid has: one more than its largest number."""
    return int(grid.max()) + 1


def check_grid(grid: Tensor) -> None:
    """Refuses what cannot number regions.

    Raises:
        TypeError: for a grid that is not an int64 tensor.
        ValueError: for one that is empty or has negative numbers.
    """
    if not isinstance(grid, Tensor) or grid.dtype != torch.int64:
        raise TypeError(f"expected `grid` to be an int64 tensor, but got {getattr(grid, 'dtype', type(grid).__name__)}")
    if grid.numel() == 0 or grid.min() < 0:
        raise ValueError(f"expected `grid` to number its regions from 0, but got {'none' if grid.numel() == 0 else int(grid.min())}")


def check_attributions(attributions: Tensor) -> None:
    """Refuses what cannot be ranked.

    Raises:
        TypeError: for attributions that are not a tensor.
        ValueError: for values that are not finite, naming the clip, and where there is no axis beside that of the clips.
    """
    if not isinstance(attributions, Tensor):
        raise TypeError(f"expected `attributions` to be a tensor, but got {type(attributions).__name__}")
    if attributions.dim() < 2:
        raise ValueError(f"expected `attributions` of shape (batch, ...), but got {tuple(attributions.shape)}")
    damaged = ~attributions.isfinite().flatten(1).all(1)
    if damaged.any():
        raise ValueError(f"expected finite `attributions`, but got NaN or infinity in clip {int(damaged.nonzero()[0])}")


def ranking(scores: Tensor, seed: int) -> Tensor:
    """The regions of each clip, the most important first.

    Ties are broken by a shuffle that is the same for every clip, so that a clip's ranking does not depend on its batch. Without the
    shuffle, a map that is zero nearly everywhere would be rewarded or punished for where region 0 happens to be.

    Args:
        scores: shape (batch, region).
        seed: of the shuffle; the global random state is neither read nor changed.

    Returns:
        int64 tensor of shape (batch, region).

    Raises:
        ValueError: for a NaN, naming the clip.

    Example:
        >>> ranking(torch.tensor([[0.1, 0.7, 0.2]]), seed=0)
        tensor([[1, 2, 0]])
    """
    damaged = scores.isnan().any(1)
    if damaged.any():
        raise ValueError(f"expected scores without NaN, but got NaN in clip {int(damaged.nonzero()[0])}")
    shuffle = torch.randperm(scores.shape[1], generator=torch.Generator().manual_seed(seed)).to(scores.device)
    return shuffle[scores[:, shuffle].argsort(dim=1, descending=True, stable=True)]


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


def _parts(size: int, parts: int, name: str) -> Tensor:
    if not 1 <= parts <= size:
        raise ValueError(f"expected `{name}` between 1 and the axis' {size} bins, but got {parts}")
    return torch.arange(size) * parts // size


def _with_own_phase(spectra: Tensor, fill: Fill, seed: int) -> Tensor:
    if spectra.dim() != 4 or spectra.shape[1] != 2:
        raise ValueError(f"expected spectra of shape (batch, 2, frequency, time), but got {tuple(spectra.shape)}")
    magnitudes = torch.hypot(spectra[:, :1], spectra[:, 1:])
    angles = torch.rand(spectra.shape[2:], dtype=torch.float64, generator=torch.Generator().manual_seed(seed)) * (2 * math.pi)
    drawn = torch.stack([angles.cos(), angles.sin()]).to(spectra)  # (2, frequency, time)
    return torch.where(magnitudes > 0, spectra / magnitudes, drawn) * fill(magnitudes)


def _blurred(values: Tensor, axis: int, share: float) -> Tensor:
    """The values under a Gaussian along one axis, mirrored at both ends again and again; `share` is its width in lengths of the axis."""
    size = values.shape[axis]
    mirrored = torch.cat([values, values.flip(axis)], axis)  # its periodic continuation is the mirrored one: no padding, however wide
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
