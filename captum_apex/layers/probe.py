"""A clip that is changed at one end of an axis, to see which axis of an output follows the change."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from captum_apex.layers.kinds import KnownAxes
from captum_apex.layers.layout import Layout, pattern_of

__all__ = ["PatchGrid", "Reading", "changed_clips", "readings"]

N_CHANGED = 5
"""The number of clips that `changed_clips` gives."""

_LOUDNESS = 2.0  # standard deviations of the clip
_LOW = 0.02  # cycles per sample
_HIGH = 0.3
_LEAST = 0.1  # how far the middle of a change has to move, as a share of the axis; two thirds at best
_LEAST_WHERE_KNOWN = 0.02  # the same where the channels are known: attention spreads a change over all frames
_LEAST_ALONE = 0.3  # the same where there are no columns, only rows
_TWO_TIMES = 0.25
_MOST_CLASS_TOKENS = 16


def changed_clips(clip: Tensor, axes: Sequence[str]) -> Tensor:
    """A batch of a clip and its changes: a sound at the begin and at the end of the time, and in low and high bands.

    Args:
        clip: one clip, with a clip axis of size 1.
        axes: the axes of the clip, such as `["n", "c", "f", "t"]`. A clip without `f` is taken for a waveform.

    Returns:
        Tensor of five clips: as it is, changed at the begin, at the end, in low bands, in high bands.

    Example:
        >>> import torch
        >>> from captum_apex.layers.probe import changed_clips
        >>> clips = changed_clips(torch.zeros(1, 1, 6, 9), ["n", "c", "f", "t"])
        >>> (clips[1] != 0).any(1)[0].int().tolist(), (clips[2] != 0).any(1)[0].int().tolist()
        ([1, 1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 1, 1, 1])
    """
    values = clip.double().cpu()
    spread = float(values.std(correction=0)) if values.numel() else 0.0
    loudness = _LOUDNESS * (spread if spread > 0 and math.isfinite(spread) else 1.0)
    sound = loudness * torch.randn(clip.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    changes = [torch.zeros_like(sound), *_at_both_ends(sound, axes.index("t"))]
    if "f" in axes:
        changes += _at_both_ends(sound, axes.index("f"))
    else:
        samples = torch.arange(clip.shape[axes.index("t")], dtype=torch.float64)
        shape = [-1 if axis == "t" else 1 for axis in axes]
        tones = [torch.sin(2 * torch.pi * cycles * samples).reshape(shape) for cycles in (_LOW, _HIGH)]
        changes += [loudness * tone.expand_as(sound) for tone in tones]
    return torch.cat([values + change for change in changes]).to(clip)


def _at_both_ends(sound: Tensor, axis: int) -> list[Tensor]:
    """The sound in the first and in the last third of an axis."""
    size = sound.shape[axis]
    place = torch.arange(size).reshape([-1 if i == axis else 1 for i in range(sound.dim())])
    third = max(size // 3, 1)
    return [sound * (place < third), sound * (place >= size - third)]


@dataclass(frozen=True)
class PatchGrid:
    """The output of a convolution that may have been flattened to tokens.

    Args:
        name: name of the module that gave it.
        sizes: sizes of its two axes behind the channels.

    Example:
        >>> from captum_apex.layers.probe import PatchGrid
        >>> PatchGrid("patch_embed.proj", (8, 64)).sizes
        (8, 64)
    """

    name: str
    sizes: tuple[int, int]


@dataclass(frozen=True)
class Reading:
    """An output as a grid.

    Args:
        layout: the layout.
        channel_axis: index of the axis of the channels in the output.
        channels: number of channels.
        grid: number of rows and columns.
        follows: how far the middle of a change moves along the axes of time and of frequency, as a share of the axis.
        patches: the convolution that made the patches; None where the output is not made of patches.
        as_before: name of the module before, whose axes are taken where no axis follows a change; empty otherwise.

    Example:
        >>> from captum_apex.layers.layout import Layout
        >>> from captum_apex.layers.probe import Reading
        >>> Reading(Layout(), 1, 16, (8, 16), (0.6, 0.5)).grid
        (8, 16)
    """

    layout: Layout
    channel_axis: int
    channels: int
    grid: tuple[int, int]
    follows: tuple[float, float]
    patches: PatchGrid | None = None
    as_before: str = ""

    def carried_on(self, name: str, output: Tensor, known: KnownAxes | None) -> Reading | None:
        """The same axes of the output of a later convolution or normalisation, where no axis follows a change.

        Deep in a network every cell may hear the whole clip, so that a change moves along no axis.

        Args:
            name: name of the module that has this reading.
            output: what the later module gives.
            known: the axes that the kind of the later module fixes.

        Returns:
            The reading; None where it has other axes, or a finer grid, which says that something else happened between.
        """
        is_convolution = known is not None and (known.clips, known.channels) == (0, 1) == (0, self.channel_axis)
        axes = self.layout.pattern.partition("->")[0].split()
        if not is_convolution or self.layout.sizes or self.layout.class_tokens or len(axes) != output.dim():
            return None
        sizes = dict(zip(axes, output.shape, strict=True))
        grid = (sizes.get("f", 1), sizes.get("t", 1))
        if output.shape[0] != N_CHANGED or grid == (1, 1) or grid[0] > self.grid[0] or grid[1] > self.grid[1]:
            return None
        return replace(self, channels=output.shape[1], grid=grid, as_before=self.as_before or name)


def readings(output: Tensor, known: KnownAxes | None, patches: Sequence[PatchGrid] = ()) -> list[Reading]:
    """The ways to read an output as a grid whose axes follow the changes of the input, the likeliest first.

    Args:
        output: what a module gives for `changed_clips`.
        known: the axes that the kind of a module fixes; None where no kind says anything.
        patches: outputs of convolutions that came before.

    Example:
        >>> import torch
        >>> from captum_apex.layers.probe import changed_clips, readings
        >>> clips = changed_clips(torch.zeros(1, 1, 6, 9), ["n", "c", "f", "t"])
        >>> reading = readings(clips.expand(-1, 4, -1, -1).permute(0, 3, 2, 1), None)[0]
        >>> reading.layout.pattern, reading.channels, reading.grid
        ('n t f c -> n c f t', 4, (6, 9))
    """
    clips = _clip_axis(output, known)
    if clips is None:
        return _readings_of_frames(output, known)
    profiles = _profiles(output, clips)
    channels = None if known is None else known.channels
    likely = []
    for axes, sizes, class_tokens, patch_grid in _hypotheses(output.shape, clips, channels, patches):
        time, frequency = _along_time_and_frequency(axes, profiles, sizes, class_tokens)
        follows = (_movement(time[:2]), _movement(frequency[2:]))
        channel_axis = axes.index("c")
        if known is None and output.shape[channel_axis] == 1:
            continue  # the channels of a pooled output, whose axis may follow the frequency by chance
        grid = (frequency.shape[1], time.shape[1])
        layout = Layout(pattern_of(axes), sizes, class_tokens)
        reading = Reading(layout, channel_axis, output.shape[channel_axis], grid, follows, patch_grid)
        crosses = _movement(frequency[:2]) > _TWO_TIMES  # frames × frames, as the weights of an attention
        if _is_likely(reading, _LEAST if known is None else _LEAST_WHERE_KNOWN) and not crosses:
            likely.append(reading)
    return sorted(likely, key=_likelihood, reverse=True)


def _readings_of_frames(output: Tensor, known: KnownAxes | None) -> list[Reading]:
    """The readings of what a convolution gives where the model takes each frame of a clip for a clip."""
    is_convolution = known is not None and (known.clips, known.channels) == (0, 1)
    n_frames, rest = divmod(len(output), N_CHANGED) if output.dim() == 3 else (0, 0)
    if known is None or not is_convolution or n_frames < 2 or rest:
        return []
    kind = KnownAxes(channels=2, clips=0, kind=known.kind)
    found = []
    for reading in readings(output.unflatten(0, (N_CHANGED, n_frames)), kind):
        if reading.layout.pattern.startswith("n t c f"):
            layout = Layout("(n t) c f -> n c f t", {"t": n_frames})
            found.append(replace(reading, layout=layout, channel_axis=1))
    return found


def _clip_axis(output: Tensor, known: KnownAxes | None) -> int | None:
    """The axis of the five clips; None where there is none."""
    wanted = [0, 1] if known is None or known.clips is None else [known.clips]
    is_numeric = output.is_floating_point() and not output.is_nested and not output.is_sparse
    axes = [axis for axis in wanted if is_numeric and axis < output.dim() and output.shape[axis] == N_CHANGED]
    return axes[0] if axes and 3 <= output.dim() <= 4 and output.numel() else None


def _profiles(output: Tensor, clips: int) -> dict[int, Tensor]:
    """How much the entries along each axis differ from those of the clip as it is, (change, entry), by the axis."""
    values = output.movedim(clips, 0).float()
    change = (values[1:] - values[:1]).abs().nan_to_num(0.0, 0.0, 0.0)
    others = [axis for axis in range(output.dim()) if axis != clips]
    profiles = {}
    for place, axis in enumerate(others, start=1):
        profiles[axis] = change.mean([i for i in range(1, change.dim()) if i != place]).cpu()
    return profiles


def _along_time_and_frequency(
    axes: Sequence[str], profiles: dict[int, Tensor], sizes: dict[str, int] | None, class_tokens: int
) -> tuple[Tensor, Tensor]:
    """The profiles of time and of frequency, (change, entry); an axis that is not there has one entry."""
    along = {"t": torch.ones(4, 1), "f": torch.ones(4, 1)}
    for axis, profile in profiles.items():
        if axes[axis] in along:
            along[axes[axis]] = profile
        elif sizes and axes[axis] != "c":
            shape = (sizes["f"], -1) if axes[axis] == "(f t)" else (-1, sizes["f"])
            patches = profile[:, class_tokens:].unflatten(1, shape)
            time_axis = 2 if axes[axis] == "(f t)" else 1
            along = {"t": patches.mean(3 - time_axis), "f": patches.mean(time_axis)}
    return along["t"], along["f"]


def _hypotheses(
    shape: Sequence[int], clips: int, channels: int | None, patches: Sequence[PatchGrid]
) -> Iterator[tuple[list[str], dict[str, int] | None, int, PatchGrid | None]]:
    """Every way to name the axes of an output: the axes, sizes of those in brackets, class tokens, their patches."""
    others = [axis for axis in range(len(shape)) if axis != clips]
    for axis in others if channels is None else [channels]:
        left = [other for other in others if other != axis]
        named = {clips: "n", axis: "c"}
        for letters in ["ft", "tf"] if len(left) == 2 else ["t", "f"]:
            names = named | dict(zip(left, letters, strict=True))
            yield [names[i] for i in range(len(shape))], None, 0, None
        if len(left) > 1:
            continue
        for patch_grid in patches:
            tokens = shape[left[0]] - math.prod(patch_grid.sizes)
            if tokens and (left[0] != 1 or clips != 0 or not 0 < tokens <= _MOST_CLASS_TOKENS):
                continue  # class tokens are at the start of axis 1
            for letters in ("f t", "t f"):
                sizes = {"f": patch_grid.sizes[letters == "t f"]}
                names = named | {left[0]: f"({letters})"}
                yield [names[i] for i in range(len(shape))], sizes, tokens, patch_grid


def _movement(profiles: Tensor) -> float:
    """How far the middle of the second profile lies behind that of the first, as a share of the axis."""
    size = profiles.shape[1]
    if size == 1:
        return 0.0
    place = (torch.arange(size) + 0.5) / size
    early, late = (profiles @ place) / profiles.sum(1).clamp_min(torch.finfo().tiny)
    return float(late - early)


def _is_likely(reading: Reading, least: float) -> bool:
    """Whether every axis of the grid with several entries follows its change; frequency may do so less."""
    rows, columns = reading.grid
    time, frequency = reading.follows
    if columns > 1:
        return time > least and (rows == 1 or frequency > -_LEAST)
    return rows > 1 and frequency > _LEAST_ALONE


def _likelihood(reading: Reading) -> float:
    """How far changes move along both axes; an axis of channels may seem to follow the frequency by chance."""
    time, frequency = reading.follows
    return time + (frequency if reading.grid[1] > 1 else 0.5 * frequency)
