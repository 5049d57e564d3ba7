"""How well a mask's region predicts by itself, and how well the rest of the clip predicts without it.

A mask `m` in [0, 1] splits a clip `x` into the masked-in clip `fill + m · (x − fill)` and the masked-out clip
`x + m · (fill − x)`. All measures compare the model's probabilities for these clips with those for the whole clip.
Probabilities are outputs of a softmax or a sigmoid, not logits. Each measure gives one value per clip; the "average" in
a name is the mean over clips, which the caller takes.

Source: the metrics of L-MAC (arXiv 2403.13086), which took average drop and increase from Grad-CAM++ (arXiv 1710.11063)
and average gain from Opti-CAM (arXiv 2301.07002). They use silence as the fill and mask the magnitude of the
spectrogram; here the caller chooses the fill and the representation.
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

__all__ = [
    "Fidelity",
    "average_drop",
    "average_gain",
    "average_increase",
    "faithfulness",
    "input_fidelity",
    "mask_fidelity",
    "region_shares",
    "soft_mask",
    "speechbrain_average_drop",
]

_TOLERANCE = 1e-3  # how far rounding, also in half precision, may take a probability below 0 or above 1


@dataclass(frozen=True)
class Fidelity:
    """The five measures of a mask, one value per clip; each tensor has the shape (batch,).

    Args:
        average_drop: lost share of the probability in percent, lower is better; see `average_drop`.
        average_increase: 0 or 100 percent, higher is better; see `average_increase`.
        average_gain: gained share of the missing probability in percent, higher is better; see `average_gain`.
        faithfulness: probability lost without the marked region, in [-1, 1], higher is better; see `faithfulness`.
        input_fidelity: 0 or 1, higher is better; see `input_fidelity`.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import Fidelity
        >>> whole, masked_in, masked_out = torch.tensor([[[0.5, 0.5]], [[0.75, 0.25]], [[0.25, 0.75]]])
        >>> measures = Fidelity.of(whole, masked_in, masked_out, target=0)
        >>> measures.average_gain, measures.faithfulness
        (tensor([50.]), tensor([0.2500]))
    """

    average_drop: Tensor
    average_increase: Tensor
    average_gain: Tensor
    faithfulness: Tensor
    input_fidelity: Tensor

    @classmethod
    def of(cls, outputs: Tensor, masked_in: Tensor, masked_out: Tensor, target: Any) -> Fidelity:
        """The measures from the model's probabilities.

        Args:
            outputs: probabilities of the whole clips, shape (batch, class).
            masked_in: probabilities of the masked-in clips, shape (batch, class).
            masked_out: probabilities of the masked-out clips, shape (batch, class).
            target: the class to follow, in any form that Captum takes.

        Raises:
            ValueError: the outputs are not probabilities.
        """
        for probabilities in (outputs, masked_in, masked_out):
            _check_probabilities(probabilities, len(outputs))
        of_whole = selected(outputs, target)
        of_masked_in = selected(masked_in, target)
        of_masked_out = selected(masked_out, target)
        return cls(
            average_drop=average_drop(of_whole, of_masked_in),
            average_increase=average_increase(of_whole, of_masked_in),
            average_gain=average_gain(of_whole, of_masked_in),
            faithfulness=faithfulness(of_whole, of_masked_out),
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
    """All five measures of one mask per clip, from two forward passes per clip and one for the clip itself.

    Args:
        forward_func: a model that ends in a softmax or a sigmoid, with a probability for every class, shape
            (batch, class). Logits are refused. They are not passed through a softmax here, because a second softmax
            over the probabilities of another model would go unnoticed.
        inputs: inputs of the model, (batch, channel, frequency, time), (batch, channel, sample) or (batch, sample).
        masks: how strongly the explanation marks each bin, in [0, 1], bool or floating, shape
            (batch, 1, frequency, time) for all channels, or the shape of the inputs; see `soft_mask`.
        fills: values that replace the inputs, shape of the inputs; see `captum_apex.masking.fills.named_fill`.
        target: the class to follow, in any form that Captum takes; L-MAC follows the predicted class.
        additional_forward_args: further arguments of `forward_func`; a tensor with one entry per clip follows its clip.
        outputs: outputs of `forward_func` for the inputs, where they are known; they save a forward pass per clip.
        batch_size: number of clips per forward pass.

    Returns:
        Fidelity, in the dtype of the probabilities.

    Raises:
        TypeError: inputs, fills or masks are not tensors.
        ValueError: shapes do not fit each other, a mask is not in [0, 1], or the outputs are not probabilities.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import mask_fidelity
        >>> inputs = torch.tensor([[[4.0, 0.0, 0.0]]])
        >>> mask = torch.tensor([[[1.0, 0.0, 0.0]]])
        >>> classify = lambda clips: clips[:, 0].softmax(1)
        >>> measures = mask_fidelity(classify, inputs, mask, torch.zeros_like(inputs), target=0)
        >>> measures.average_drop, measures.input_fidelity, measures.faithfulness  # the model uses the marked bin alone
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
    """Share of the probability that is lost when only the marked region is left: `100 · max(0, p − p_in) / p`.

    Args:
        probability: probability of the followed class for the whole clip, shape (batch,).
        masked_in: probability of the followed class for the masked-in clip, shape (batch,).

    Returns:
        Tensor of shape (batch,), in percent, in [0, 100], lower is better; 0 where the probability is 0.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import average_drop
        >>> average_drop(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
        tensor([50.,  0.])
    """
    _check_pair(probability, masked_in, "masked_in")
    return 100 * _ratio((probability - masked_in).clamp_min(0), probability)


def average_increase(probability: Tensor, masked_in: Tensor) -> Tensor:
    """Whether the class is more probable for the marked region alone than for the whole clip.

    100 where `p_in > p`, else 0.

    Args:
        probability: probability of the followed class for the whole clip, shape (batch,).
        masked_in: probability of the followed class for the masked-in clip, shape (batch,).

    Returns:
        Tensor of shape (batch,), 0 or 100 percent, higher is better.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import average_increase
        >>> average_increase(torch.tensor([0.5, 0.5]), torch.tensor([0.5, 0.75]))
        tensor([  0., 100.])
    """
    _check_pair(probability, masked_in, "masked_in")
    return 100 * (masked_in > probability).to(probability.dtype)


def average_gain(probability: Tensor, masked_in: Tensor) -> Tensor:
    """Share of the missing probability that the marked region alone gains.

    `100 · max(0, p_in − p) / (1 − p)`.

    Args:
        probability: probability of the followed class for the whole clip, shape (batch,).
        masked_in: probability of the followed class for the masked-in clip, shape (batch,).

    Returns:
        Tensor of shape (batch,), in percent, in [0, 100], higher is better; 0 where the probability is 1.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import average_gain
        >>> average_gain(torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75]))
        tensor([ 0., 50.])
    """
    _check_pair(probability, masked_in, "masked_in")
    return 100 * _ratio((masked_in - probability).clamp_min(0), 1 - probability)


def faithfulness(probability: Tensor, masked_out: Tensor) -> Tensor:
    """How much probability is lost without the marked region: `p − p_out`.

    Args:
        probability: probability of the followed class for the whole clip, shape (batch,).
        masked_out: probability of the followed class for the masked-out clip, shape (batch,).

    Returns:
        Tensor of shape (batch,), in [-1, 1], higher is better.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import faithfulness
        >>> faithfulness(torch.tensor([0.75]), torch.tensor([0.5]))
        tensor([0.2500])
    """
    _check_pair(probability, masked_out, "masked_out")
    return probability - masked_out


def input_fidelity(outputs: Tensor, masked_in_outputs: Tensor) -> Tensor:
    """Whether the model predicts the same class when only the marked region is left.

    Args:
        outputs: probabilities or logits for the whole clips, shape (batch, class).
        masked_in_outputs: probabilities or logits for the masked-in clips, shape (batch, class).

    Returns:
        Tensor of shape (batch,): 1 where the same class has the largest output, else 0; higher is better.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import input_fidelity
        >>> input_fidelity(torch.tensor([[0.25, 0.75], [0.25, 0.75]]), torch.tensor([[0.5, 0.5], [0.0, 1.0]]))
        tensor([0., 1.])
    """
    _check_outputs(outputs, masked_in_outputs)
    return (outputs.argmax(1) == masked_in_outputs.argmax(1)).to(outputs.dtype)


def speechbrain_average_drop(outputs: Tensor, masked_in_outputs: Tensor) -> Tensor:
    """The average drop as SpeechBrain's recipes compute it, with a second softmax over the probabilities.

    Only for comparison with published numbers: the second softmax maps every probability of C classes into
    `[1 / (C − 1 + e), e / (C − 1 + e)]`, so no drop exceeds 63.2%. It always follows the predicted class.

    Args:
        outputs: probabilities for the whole clips, shape (batch, class).
        masked_in_outputs: probabilities for the masked-in clips, shape (batch, class).

    Returns:
        Tensor of shape (batch,), in percent, lower is better.

    Example:
        >>> import torch
        >>> from captum_apex.metrics import speechbrain_average_drop
        >>> whole = torch.tensor([[1.0, 0.0]])
        >>> masked_in = torch.tensor([[0.0, 1.0]])
        >>> speechbrain_average_drop(whole, masked_in)  # `average_drop` is 100 percent
        tensor([63.2121])

    Source: SpeechBrain, recipes/ESC50/interpret: `compute_AD` of interpreter_brain.py, as train_lmac.py calls it.
    """
    _check_outputs(outputs, masked_in_outputs)
    predicted = outputs.argmax(1, keepdim=True)
    probability = outputs.softmax(1).gather(1, predicted).squeeze(1)  # (clip, class) → (clip,)
    masked_in = masked_in_outputs.softmax(1).gather(1, predicted).squeeze(1)
    return average_drop(probability, masked_in)


def soft_mask(attributions: Tensor, grid: Tensor) -> Tensor:
    """A map as a mask for `mask_fidelity`, constant within each region.

    A region is marked in proportion to its mean attribution per bin, the strongest region with 1; regions with a
    negative attribution are not marked.

    Args:
        attributions: attribution of each bin, shape (batch, channel, frequency, time); the channel axis may be absent.
        grid: the region that each bin belongs to, int64, shape (frequency, time).

    Returns:
        Tensor of shape (batch, 1, frequency, time) in [0, 1], in the dtype of the attributions; zero for a clip without
        a region of positive attribution.

    Raises:
        TypeError: the attributions are not a tensor, or the grid is not int64.
        ValueError: the last axes are not those of the grid, or the attributions are not finite (the message names the
            clip).

    Example:
        >>> import torch
        >>> from captum_apex.metrics import soft_mask
        >>> soft_mask(torch.tensor([[[1.0, 3.0, 1.0, -5.0]]]), torch.tensor([0, 0, 1, 2]))
        tensor([[[1.0000, 1.0000, 0.5000, 0.0000]]])
    """
    check_attributions(attributions)
    shares = region_shares(region_sums(attributions, grid), grid)
    per_bin = shares.index_select(1, grid.flatten().to(shares.device))  # (clip, region) → (clip, bin)
    return per_bin.reshape(len(shares), 1, *grid.shape).to(attributions.dtype)


def region_shares(sums: Tensor, grid: Tensor) -> Tensor:
    """How strongly `soft_mask` marks each region.

    Args:
        sums: attribution of each region, shape (batch, region), as `captum_apex.masking.grids.region_sums` gives it.
        grid: the region that each bin belongs to, int64, shape (frequency, time).

    Returns:
        Tensor of shape (batch, region), in [0, 1].

    Example:
        >>> import torch
        >>> from captum_apex.metrics import region_shares
        >>> region_shares(torch.tensor([[4.0, 1.0, -5.0]]), torch.tensor([0, 0, 1, 2]))
        tensor([[1.0000, 0.5000, 0.0000]])
    """
    # A grid may skip a number: that region has no bins and the sum 0.
    sizes = grid.flatten().bincount(minlength=n_regions(grid)).clamp_min(1)
    strength = (sums / sizes.to(sums.device)).clamp_min(0)
    return _ratio(strength, strength.amax(1, keepdim=True))


def _ratio(numerator: Tensor, denominator: Tensor) -> Tensor:
    """The quotient; the numerator, which is then 0, where the denominator is 0."""
    return numerator / denominator.where(denominator > 0, 1)


def _aligned(masks: Tensor, inputs: Tensor) -> Tensor:
    """The masks with the inputs' number of axes and dtype, after a check that they are masks of the inputs."""
    if not isinstance(masks, Tensor):
        raise TypeError(f"expected `masks` to be a tensor, but got {type(masks).__name__}")
    aligned = masks
    if masks.dim() == inputs.dim() - 1:
        aligned = masks.unsqueeze(1)
    elif masks.dim() == inputs.dim() + 1 and masks.shape[1] == 1:
        aligned = masks.squeeze(1)
    fits = aligned.dim() == inputs.dim() and all(
        mask_size in (1, size) for mask_size, size in zip(aligned.shape, inputs.shape, strict=True)
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
    if not (low >= -_TOLERANCE and high <= 1 + _TOLERANCE):
        raise ValueError(
            f"expected probabilities, in [0, 1], but got outputs from {low:.4g} to {high:.4g}; "
            "pass a `forward_func` that ends in a softmax or a sigmoid"
        )


def _check_pair(probability: Tensor, other: Tensor, name: str) -> None:
    if probability.dim() != 1 or other.shape != probability.shape:
        got = f"{tuple(probability.shape)} and {tuple(other.shape)}"
        raise ValueError(f"expected `probability` and `{name}` of shape (batch,), but got {got}")


def _check_outputs(outputs: Tensor, masked_in_outputs: Tensor) -> None:
    if outputs.dim() != 2 or masked_in_outputs.shape != outputs.shape:
        got = f"{tuple(outputs.shape)} and {tuple(masked_in_outputs.shape)}"
        raise ValueError(f"expected `outputs` and `masked_in_outputs` of shape (batch, class), but got {got}")
