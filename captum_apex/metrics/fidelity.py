"""What the part of a clip that a map marks says by itself, and what the rest says without it.

A mask `m` in [0, 1] splits a clip `x` into the masked-in clip `fill + m · (x − fill)` and the masked-out clip `x + m · (fill − x)`. All
measures compare what the model says of these with what it says of the whole clip. They are about *probabilities*: of softmax or sigmoid
outputs, never of logits. Each is a value per clip; the "average" of a name is the mean of these over clips, which is left to the caller.

Source: the metrics of L-MAC (arXiv 2403.13086), which took average drop and increase from Grad-CAM++ (arXiv 1710.11063) and average gain
from Opti-CAM (arXiv 2301.07002). There the fill is silence and the mask acts on the spectrogram's magnitude; here both are the caller's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from captum_apex.masking.grids import n_regions, region_sums
from captum_apex.masking.rankings import check_attributions
from captum_apex.metrics.passes import check_fills, check_target, mixed_outputs, selected

TOLERANCE = 1e-3
"""How far past 0 and 1 a probability may be for rounding, in half precision too."""


@dataclass(frozen=True)
class Fidelity:
    """What a mask keeps and takes away, one value per clip; each of shape (batch,).

    Args:
        average_drop: in percent, lower is better; see `average_drop`.
        average_increase: 0 or 100 percent, higher is better; see `average_increase`.
        average_gain: in percent, higher is better; see `average_gain`.
        faithfulness: in [-1, 1], higher is better; see `faithfulness`.
        input_fidelity: 0 or 1, higher is better; see `input_fidelity`.
    """

    average_drop: Tensor
    average_increase: Tensor
    average_gain: Tensor
    faithfulness: Tensor
    input_fidelity: Tensor

    @classmethod
    def of(cls, outputs: Tensor, masked_in: Tensor, masked_out: Tensor, target: Any) -> Fidelity:
        """All five from the probabilities of the whole, the masked-in and the masked-out clips, each (batch, class).

        Raises:
            ValueError: for outputs that are no probabilities.
        """
        for each in (outputs, masked_in, masked_out):
            _check_probabilities(each, len(outputs))
        probability, inside, outside = (selected(each, target) for each in (outputs, masked_in, masked_out))
        return cls(
            average_drop=average_drop(probability, inside),
            average_increase=average_increase(probability, inside),
            average_gain=average_gain(probability, inside),
            faithfulness=faithfulness(probability, outside),
            input_fidelity=input_fidelity(outputs, masked_in),
        )


def mask_fidelity(
    forward_func: Callable[..., Tensor],
    inputs: Tensor,
    masks: Tensor,
    fills: Tensor,
    *,
    target: Any,
    additional_forward_args: Any = None,
    outputs: Tensor | None = None,
    batch_size: int = 32,
) -> Fidelity:
    """All five measures of one mask per clip, for two forward passes per clip, and one for the clip itself.

    Args:
        forward_func: gives a probability for every class, shape (batch, class): a model that ends in a softmax or a sigmoid. Logits are
            refused rather than sent through a softmax, since a softmax of probabilities would pass unnoticed.
        inputs: shape (batch, channel, frequency, time), or (batch, channel, samples).
        masks: how much of each bin the explanation marks, in [0, 1], bool or floating, shape (batch, 1, frequency, time), for all channels,
            or that of the inputs; see `soft_mask`.
        fills: what replaces the inputs, same shape as the inputs; see `captum_apex.masking.fills.named_fill`.
        target: class whose probability is followed, in any form that Captum takes; L-MAC follows the predicted class.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        outputs: what `forward_func` gives for the inputs, where that is known already; it saves a pass per clip.
        batch_size: how many clips the model gets at once.

    Returns:
        Fidelity, in the dtype of the probabilities.

    Raises:
        TypeError: for inputs, fills or masks that are not tensors.
        ValueError: for shapes that do not belong together, a mask outside [0, 1], and for outputs that are no probabilities.

    Example:
        >>> inputs, mask = torch.tensor([[[4.0, 0.0, 0.0]]]), torch.tensor([[[1.0, 0.0, 0.0]]])
        >>> classify = lambda clips: clips[:, 0].softmax(1)
        >>> found = mask_fidelity(classify, inputs, mask, torch.zeros_like(inputs), target=0)
        >>> found.average_drop, found.input_fidelity, found.faithfulness  # the marked bin is all that counts
        (tensor([0.]), tensor([1.]), tensor([0.6313]))
    """
    check_fills(_checked_inputs(inputs), fills, batch_size)
    check_target(target, len(inputs))
    masks = _aligned(masks, inputs)
    common = (additional_forward_args, batch_size)
    if outputs is None:
        outputs = mixed_outputs(forward_func, inputs, fills, torch.ones_like(masks), *common)
    masked_in = mixed_outputs(forward_func, inputs, fills, masks, *common)
    masked_out = mixed_outputs(forward_func, inputs, fills, 1 - masks, *common)
    _check_probabilities(outputs, len(inputs))
    return Fidelity.of(outputs, masked_in, masked_out, target)


def average_drop(probability: Tensor, masked_in: Tensor) -> Tensor:
    """How much of the probability is lost when only the marked part is left: `100 · max(0, p − p_in) / p`.

    Args:
        probability: of the followed class for the whole clip, shape (batch,).
        masked_in: of the same class for the masked-in clip, shape (batch,).

    Returns:
        Tensor of shape (batch,), in percent, in [0, 100], lower is better; 0 where there was no probability to lose.

    Example:
        >>> average_drop(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
        tensor([50.,  0.])
    """
    _check_pair(probability, masked_in, "masked_in")
    return 100 * _ratio((probability - masked_in).clamp_min(0), probability)


def average_increase(probability: Tensor, masked_in: Tensor) -> Tensor:
    """Whether the marked part alone is more probable than the whole clip: 100 where `p_in > p`, else 0. Arguments as in `average_drop`.

    Returns:
        Tensor of shape (batch,), 0 or 100 percent, higher is better.

    Example:
        >>> average_increase(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.75]))
        tensor([  0., 100.])
    """
    _check_pair(probability, masked_in, "masked_in")
    return 100 * (masked_in > probability).to(probability.dtype)


def average_gain(probability: Tensor, masked_in: Tensor) -> Tensor:
    """How much of the missing probability the marked part alone wins: `100 · max(0, p_in − p) / (1 − p)`. Arguments as in `average_drop`.

    Returns:
        Tensor of shape (batch,), in percent, in [0, 100], higher is better; 0 where no probability was missing.

    Example:
        >>> average_gain(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
        tensor([ 0., 50.])
    """
    _check_pair(probability, masked_in, "masked_in")
    return 100 * _ratio((masked_in - probability).clamp_min(0), 1 - probability)


def faithfulness(probability: Tensor, masked_out: Tensor) -> Tensor:
    """How much probability goes with the marked part: `p − p_out`.

    Args:
        probability: of the followed class for the whole clip, shape (batch,).
        masked_out: of the same class for the masked-out clip, shape (batch,).

    Returns:
        Tensor of shape (batch,), in [-1, 1], higher is better.

    Example:
        >>> faithfulness(torch.tensor([0.75]), torch.tensor([0.5]))
        tensor([0.2500])
    """
    _check_pair(probability, masked_out, "masked_out")
    return probability - masked_out


def input_fidelity(outputs: Tensor, masked_in_outputs: Tensor) -> Tensor:
    """Whether the model still predicts the same class when only the marked part is left.

    Args:
        outputs: probabilities or logits for the whole clips, shape (batch, class).
        masked_in_outputs: the same for the masked-in clips.

    Returns:
        Tensor of shape (batch,): 1 where the largest output is of the same class, else 0; higher is better.

    Example:
        >>> input_fidelity(torch.tensor([[0.25, 0.75], [0.25, 0.75]]), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
        tensor([0., 1.])
    """
    _check_outputs(outputs, masked_in_outputs)
    return (outputs.argmax(1) == masked_in_outputs.argmax(1)).to(outputs.dtype)


def speechbrain_average_drop(outputs: Tensor, masked_in_outputs: Tensor) -> Tensor:
    """The average drop as SpeechBrain's recipes compute it: after a second softmax over what are probabilities already.

    Only for comparison with published numbers: the second softmax squeezes every probability of C classes into
    `[1 / (C − 1 + e), e / (C − 1 + e)]`, so no drop exceeds 63.2%. It always follows the predicted class.

    Args:
        outputs: probabilities for the whole clips, shape (batch, class).
        masked_in_outputs: the same for the masked-in clips.

    Returns:
        Tensor of shape (batch,), in percent, lower is better.

    Example:
        >>> whole, inside = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
        >>> speechbrain_average_drop(whole, inside), average_drop(whole[:, 0], inside[:, 0])
        (tensor([63.2121]), tensor([100.]))

    Source: SpeechBrain, recipes/ESC50/interpret: `compute_AD` of interpreter_brain.py, as train_lmac.py calls it.
    """
    _check_outputs(outputs, masked_in_outputs)
    predicted = outputs.argmax(1, keepdim=True)
    once_more = (
        each.softmax(1).gather(1, predicted).squeeze(1) for each in (outputs, masked_in_outputs)
    )  # (clip, class) → (clip,)
    return average_drop(*once_more)


def soft_mask(attributions: Tensor, grid: Tensor) -> Tensor:
    """A map as a mask for `mask_fidelity`: each region marked as strongly as its positive attribution per bin, the strongest fully.

    Args:
        attributions: shape (batch, channel, frequency, time); the channel axis may be absent.
        grid: the region that each bin belongs to, int64, shape (frequency, time).

    Returns:
        Tensor of shape (batch, 1, frequency, time) in [0, 1], constant within a region; 0 everywhere where no region is positive. In the
        attributions' dtype.

    Raises:
        TypeError: for attributions that are not a tensor, or a grid that is not int64.
        ValueError: where the last axes are not those of the grid, and for attributions that are not finite, naming the clip.

    Example:
        >>> soft_mask(torch.tensor([[[1.0, 3.0, 1.0, -5.0]]]), torch.tensor([0, 0, 1, 2]))
        tensor([[[1.0000, 1.0000, 0.5000, 0.0000]]])
    """
    check_attributions(attributions)
    shares = region_shares(region_sums(attributions, grid), grid)
    per_bin = shares.index_select(1, grid.flatten().to(shares.device))  # (clip, region) → (clip, bin)
    return per_bin.reshape(len(shares), 1, *grid.shape).to(attributions.dtype)


def region_shares(sums: Tensor, grid: Tensor) -> Tensor:
    """How strongly `soft_mask` marks each region, in [0, 1].

    Args:
        sums: the attribution of each region, (batch, region), as `captum_apex.masking.grids.region_sums` gives it.
        grid: the region that each bin belongs to, int64, shape (frequency, time).

    Returns:
        Tensor of the shape of `sums`.

    Example:
        >>> region_shares(torch.tensor([[4.0, 1.0, -5.0]]), torch.tensor([0, 0, 1, 2]))
        tensor([[1.0000, 0.5000, 0.0000]])
    """
    sizes = (
        grid.flatten().bincount(minlength=n_regions(grid)).clamp_min(1)
    )  # a number may be left out of a grid: its sum is 0
    strength = (sums / sizes.to(sums.device)).clamp_min(0)
    return _ratio(strength, strength.amax(1, keepdim=True))


def _ratio(part: Tensor, whole: Tensor) -> Tensor:
    """The quotient, and 0 where there is nothing to take a part of."""
    return part / whole.where(whole > 0, 1)


def _aligned(masks: Tensor, inputs: Tensor) -> Tensor:
    """The masks with the inputs' number of axes, floating; refuses what is no mask of the inputs."""
    if not isinstance(masks, Tensor):
        raise TypeError(f"expected `masks` to be a tensor, but got {type(masks).__name__}")
    aligned = masks
    if masks.dim() == inputs.dim() - 1:
        aligned = masks.unsqueeze(1)
    elif masks.dim() == inputs.dim() + 1 and masks.shape[1] == 1:
        aligned = masks.squeeze(1)
    fits = aligned.dim() == inputs.dim() and all(
        own in (1, size) for own, size in zip(aligned.shape, inputs.shape, strict=True)
    )
    if not fits or len(aligned) != len(inputs):
        raise ValueError(
            f"expected `masks` that broadcast to the inputs' shape {tuple(inputs.shape)}, but got {tuple(masks.shape)}"
        )
    if not ((aligned >= 0) & (aligned <= 1)).all():
        raise ValueError("expected `masks` in [0, 1], but got values outside or NaN")
    return aligned.to(inputs)


def _checked_inputs(inputs: Tensor) -> Tensor:
    if not isinstance(inputs, Tensor):
        raise TypeError(f"expected `inputs` to be a tensor, but got {type(inputs).__name__}")
    if inputs.dim() < 2 or len(inputs) == 0:
        raise ValueError(f"expected `inputs` of shape (batch, channel, frequency, time), but got {tuple(inputs.shape)}")
    return inputs


def _check_probabilities(outputs: Tensor, n_clips: int) -> None:
    if outputs.dim() != 2 or len(outputs) != n_clips:
        raise ValueError(f"expected probabilities of shape ({n_clips}, class), but got {tuple(outputs.shape)}")
    low, high = (float(value) for value in outputs.aminmax())
    if not (low >= -TOLERANCE and high <= 1 + TOLERANCE):
        raise ValueError(
            f"expected probabilities, in [0, 1], but got outputs from {low:.4g} to {high:.4g}; "
            "pass a `forward_func` that ends in a softmax or a sigmoid"
        )


def _check_pair(probability: Tensor, other: Tensor, name: str) -> None:
    if probability.dim() != 1 or other.shape != probability.shape:
        raise ValueError(
            f"expected `probability` and `{name}` of shape (batch,), but got {tuple(probability.shape)} and {tuple(other.shape)}"
        )


def _check_outputs(outputs: Tensor, masked_in_outputs: Tensor) -> None:
    if outputs.dim() != 2 or masked_in_outputs.shape != outputs.shape:
        got = f"{tuple(outputs.shape)} and {tuple(masked_in_outputs.shape)}"
        raise ValueError(f"expected `outputs` and `masked_in_outputs` of shape (batch, class), but got {got}")
