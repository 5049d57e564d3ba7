"""Whether a channel hears only its region: the input is changed elsewhere so that the channel falls most."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from captum_apex.layers.still_models import frozen
from captum_apex.layers.values import check_finite
from captum_apex.numbers import real_number, whole_number

__all__ = ["Misalignment", "misalignment"]


@dataclass(frozen=True, eq=False)
class Misalignment:
    """The values of all channels before and after the input was changed outside of a region.

    Args:
        before: value of each channel in the clip as it is, (clip, channel).
        after: value of each channel in the changed clip, (clip, channel).
        channels: the channel whose value was lowered, int64 (clip,).
        changed: the changed clips, in the shape of the inputs.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import Misalignment
        >>> before = torch.tensor([[4.0, 3.0, 5.0]])
        >>> after = torch.tensor([[1.0, 3.0, 5.0]])
        >>> found = Misalignment(before, after, torch.tensor([0]), changed=torch.zeros(1, 1, 2, 2))
        >>> found.fall, found.overtaking.tolist(), found.rank_change
        (tensor([0.7500], dtype=torch.float64), [[False, True, False]], tensor([1]))
    """

    before: Tensor
    after: Tensor
    channels: Tensor
    changed: Tensor

    @property
    def fall(self) -> Tensor:
        """`1 − max(v'_k, 0) / v_k`, the share of its value that the channel loses, float64 (clip,); in [0, 1].

        NaN where the value was not above zero.
        """
        value, changed = (self._of_channel(values).double() for values in (self.before, self.after))
        return (1 - changed.clamp_min(0) / value).where(value > 0, torch.nan)

    @property
    def overtaking(self) -> Tensor:
        """The channels that are above the lowered one afterwards and were not before, bool (clip, channel)."""
        return self._above(self.after) & ~self._above(self.before)

    @property
    def rank_change(self) -> Tensor:
        """By how many ranks the channel falls among all channels, int64 (clip,)."""
        return self._above(self.after).sum(1) - self._above(self.before).sum(1)

    def _of_channel(self, values: Tensor) -> Tensor:
        return values.gather(1, self.channels[:, None])[:, 0]

    def _above(self, values: Tensor) -> Tensor:
        return values > self._of_channel(values)[:, None]


def misalignment(
    forward_func: Callable[[Tensor], Tensor],
    inputs: Tensor,
    inside: Tensor,
    channels: Sequence[int] | Tensor,
    *,
    epsilon: float = 0.1,
    step: float = 0.01,
    n_steps: int = 20,
    batch_size: int = 32,
) -> Misalignment:
    """Lowers a channel by changes of the input outside of its region, by the gradient of the channel.

    `x ← clip(x − step · sign(∇ v_k(x)), x_0 − ε, x_0 + ε)` outside of the region, `n_steps` times; inside it the clip
    stays as it is. Of all steps the one with the lowest value counts. A channel that hears only its region does not
    fall. With a region of nothing (`inside` all False) the whole clip may change, which says how far ε goes at all.

    Args:
        forward_func: function of the inputs that gives the value of every channel, (clip, channel), such as
            `ChannelOutputs(model, layer, basis)`.
        inputs: the clips, (clip, channel, frequency, time), (clip, channel, sample) or (clip, sample).
        inside: the region of the channel in each clip, bool (clip, frequency, time) or (clip, sample).
        channels: the channel of each clip, (clip,).
        epsilon: largest change of a bin, in units of the inputs.
        step: change of a bin in a step.
        n_steps: number of steps.
        batch_size: number of clips per forward pass.

    Returns:
        The values before and after, with the share that the channel loses and the channels that overtake it.

    Raises:
        TypeError: the region is not bool.
        ValueError: shapes do not fit each other, values are not finite, the function gives no gradient, or a setting is
            out of range.

    Example:
        >>> import torch
        >>> from captum_apex.metrics.prototypes import misalignment
        >>> clips = torch.ones(1, 1, 1, 2)
        >>> inside = torch.tensor([[[True, False]]])  # the first of two bins
        >>> sum_and_first = lambda x: torch.stack([x.sum((1, 2, 3)), x[:, 0, 0, 0]], 1)
        >>> misalignment(sum_and_first, clips, inside, [0], epsilon=0.5, step=0.1).fall  # 1.5 remains of 2
        tensor([0.2500], dtype=torch.float64)
        >>> misalignment(sum_and_first, clips, inside, [1]).fall
        tensor([0.], dtype=torch.float64)

    Source: Sacha et al., "Interpretability Benchmark for Evaluating Spatial Misalignment of Prototypical Parts
    Explanations" (AAAI 2024, arXiv 2308.08162): `fall` is its change of activation (PAC) as a share, and `rank_change`
    its change of ranking (PRC), of one channel at a time. Its attack begins at a random point and takes the last step;
    here it begins at the clip, and repeats exactly. Its regions have a margin of 10 pixels, which here the caller adds.
    """
    channels = torch.as_tensor(channels, device=inputs.device).long()
    inside = _checked(inputs, inside, channels)
    epsilon = real_number(epsilon, "epsilon", 0)
    step = real_number(step, "step", 0)
    n_steps = whole_number(n_steps, "n_steps", least=0)
    batch_size = whole_number(batch_size, "batch_size", least=1)
    batches = zip(*(each.split(batch_size) for each in (inputs.detach(), inside, channels)), strict=True)
    settings = (epsilon, step, n_steps)
    with frozen(forward_func):
        found = [_lowered(forward_func, clips, regions, of_clips, *settings) for clips, regions, of_clips in batches]
    before, after, changed = (torch.cat(each) for each in zip(*found, strict=True))
    return Misalignment(before, after, channels, changed)


def _lowered(
    forward_func: Callable[[Tensor], Tensor],
    clips: Tensor,
    inside: Tensor,
    channels: Tensor,
    epsilon: float,
    step: float,
    n_steps: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """The values of a batch before and after, and the changed clips."""
    current = clips
    best = clips
    for number in range(n_steps + 1):
        values, gradient = _values(forward_func, current, channels, needs_gradient=number < n_steps)
        if number == 0:
            before = after = values
        lower = values.gather(1, channels[:, None]) < after.gather(1, channels[:, None])  # (clip, 1)
        after = values.where(lower, after)
        best = current.where(lower.view(-1, *[1] * (clips.dim() - 1)), best)
        if gradient is not None:
            moved = (current - step * gradient.sign()).clamp(clips - epsilon, clips + epsilon)
            current = clips.where(inside, moved)
    return before, after, best


def _values(
    forward_func: Callable[[Tensor], Tensor], clips: Tensor, channels: Tensor, needs_gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The values of all channels, and the gradient of that of each clip's channel at the clip."""
    with torch.inference_mode(False), torch.set_grad_enabled(needs_gradient):
        at = clips.clone().requires_grad_(needs_gradient)
        values = forward_func(at)
        if values.dim() != 2 or len(values) != len(clips) or (len(channels) and channels.max() >= values.shape[1]):
            raise ValueError(
                f"expected `forward_func` to give values (clip, channel) of {len(clips)} clips and of the channels "
                f"{channels.unique().tolist()}, but got shape {tuple(values.shape)}"
            )
        check_finite(values.detach(), "the channels")
        if not needs_gradient:
            return values.detach(), None
        if not values.requires_grad:
            raise ValueError("expected `forward_func` to give a gradient at the inputs, but it gives none")
        (gradient,) = torch.autograd.grad(values.gather(1, channels[:, None]).sum(), at)
    return values.detach(), gradient


def _checked(inputs: Tensor, inside: Tensor, channels: Tensor) -> Tensor:
    """The region with the axes of the inputs."""
    if inside.dtype != torch.bool:
        raise TypeError(f"expected `inside` to be bool, but got {inside.dtype}")
    check_finite(inputs, "`inputs`")
    shape = inputs.shape if inputs.dim() == 2 else (len(inputs), *inputs.shape[2:])
    if inputs.dim() not in (2, 3, 4) or inside.shape != shape or channels.shape != inputs.shape[:1]:
        raise ValueError(
            "expected `inside` of the shape of the inputs without their channel axis, and one channel per clip, but "
            f"got inputs {tuple(inputs.shape)}, regions {tuple(inside.shape)} and channels {tuple(channels.shape)}"
        )
    if len(channels) and channels.min() < 0:
        raise ValueError(f"expected channels from 0 on, but got {channels.min()}")
    inside = inside.to(inputs.device)
    return inside if inputs.dim() == 2 else inside[:, None]
