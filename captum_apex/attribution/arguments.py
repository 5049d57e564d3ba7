"""The arguments of an attribution method in the forms that Captum accepts: inputs and additional forward arguments."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from captum._utils.common import _format_additional_forward_args, _select_targets
from torch import Tensor

from captum_apex.layers.padding import Columns
from captum_apex.layers.selected_output import one_score_per_class
from captum_apex.layers.values import check_finite
from captum_apex.numbers import whole_number

__all__ = [
    "Inputs",
    "channel_indices",
    "check_classes",
    "check_inputs",
    "check_rows",
    "clip_lengths",
    "detached_inputs",
    "first_input",
    "forward_arguments",
    "map_dtype",
    "plain_target",
    "score_of",
    "single_input",
    "unpadded_columns",
]

Inputs = Tensor | tuple[Tensor, ...]
"""One input tensor, or a tuple of input tensors; the first axis of each is the clip."""


def first_input(inputs: Inputs) -> Tensor:
    """The input tensor, or the first tensor of a tuple.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import first_input
        >>> first_input((torch.tensor([1.0]), torch.tensor([2.0])))
        tensor([1.])
    """
    return inputs[0] if isinstance(inputs, tuple) else inputs


def single_input(inputs: Inputs) -> Tensor:
    """The input tensor, or the only tensor of a tuple.

    Raises:
        TypeError: the input is not a tensor.
        ValueError: the tuple does not have exactly one tensor.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import single_input
        >>> single_input((torch.tensor([1.0]),))
        tensor([1.])
    """
    if isinstance(inputs, tuple) and len(inputs) != 1:
        raise ValueError(
            f"expected one input tensor, but got {len(inputs)}; pass the others as `additional_forward_args`"
        )
    only = first_input(inputs)
    if not isinstance(only, Tensor):
        raise TypeError(f"expected `inputs` to be a tensor, but got {type(only).__name__}")
    return only


def detached_inputs(inputs: Inputs) -> tuple[Tensor, ...]:
    """Copies of the inputs without a graph, as a tuple.

    A model that changes its input in place changes only the copies. The copy of an inference tensor is a normal tensor.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import detached_inputs
        >>> detached_inputs(torch.ones(2, requires_grad=True))
        (tensor([1., 1.]),)
    """
    return tuple(tensor.detach().clone() for tensor in (inputs if isinstance(inputs, tuple) else (inputs,)))


def forward_arguments(additional_forward_args: Any) -> tuple:
    """The additional forward arguments as a tuple.

    Inference tensors are copied, because autograd can save only normal tensors.

    Args:
        additional_forward_args: one value, a tuple of values, or None.

    Example:
        >>> from captum_apex.attribution.arguments import forward_arguments
        >>> forward_arguments(3)
        (3,)
    """
    arguments = _format_additional_forward_args(additional_forward_args) or ()
    return tuple(value.clone() if isinstance(value, Tensor) and value.is_inference() else value for value in arguments)


def clip_lengths(additional_forward_args: Any) -> Tensor:
    """The lengths of padded clips, which are the first additional argument.

    Raises:
        ValueError: the first additional argument is no tensor.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import clip_lengths
        >>> clip_lengths(torch.tensor([16, 12]))
        tensor([16, 12])
    """
    arguments = forward_arguments(additional_forward_args)
    if not arguments or not isinstance(arguments[0], Tensor):
        raise ValueError(
            "expected the clips' lengths as the first of `additional_forward_args`, because clips are padded, but got "
            "none"
        )
    return arguments[0]


def unpadded_columns(columns: Columns | None, additional_forward_args: Any) -> Tensor | None:
    """The number of grid columns of each clip without padding, int64 (clip,); None where no clip is padded.

    Args:
        columns: function from lengths to columns; None where no clip is padded.
        additional_forward_args: further arguments of the model, the lengths of the clips first.

    Raises:
        ValueError: clips are padded, but there are no lengths.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import unpadded_columns
        >>> unpadded_columns(lambda lengths: lengths // 4, torch.tensor([16, 8]))
        tensor([4, 2])
    """
    return None if columns is None else columns(clip_lengths(additional_forward_args))


def map_dtype(inputs: Tensor, relevance: Tensor) -> torch.dtype:
    """The dtype of a map: that of the inputs, or that of the relevance where the inputs are integers.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import map_dtype
        >>> map_dtype(torch.zeros(2, dtype=torch.float64), torch.zeros(2))
        torch.float64
    """
    return inputs.dtype if inputs.is_floating_point() else relevance.dtype


def check_inputs(inputs: Inputs) -> None:
    """Refuses inputs that cannot be explained.

    Raises:
        TypeError: an input is not a tensor.
        ValueError: an input has no clips, or holds NaN or infinity.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import check_inputs
        >>> try:
        ...     check_inputs(torch.zeros(0, 1, 8, 10))
        ... except ValueError as error:
        ...     print(error)
        expected `inputs` with at least one clip, but got shape (0, 1, 8, 10)
    """
    for tensor in inputs if isinstance(inputs, tuple) else (inputs,):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"expected `inputs` to be a tensor or a tuple of tensors, but got {type(tensor).__name__}")
        if not tensor.dim() or not len(tensor):
            raise ValueError(f"expected `inputs` with at least one clip, but got shape {tuple(tensor.shape)}")
        check_finite(tensor, "the inputs")


def plain_target(target: Any) -> Any:
    """The target in a form that Captum accepts: NumPy scalars, arrays and pandas objects become ints and lists.

    Raises:
        TypeError: the target is a bool.

    Example:
        >>> import numpy as np
        >>> from captum_apex.attribution.arguments import plain_target
        >>> plain_target(np.int64(2)), plain_target(np.array([0, 1]))
        (2, [0, 1])
    """
    plain = target.tolist() if hasattr(target, "tolist") and not isinstance(target, Tensor) else target
    if isinstance(plain, bool):
        raise TypeError(f"expected `target` to be the index of a class, but got {target!r}")
    return plain


def score_of(output: Tensor, target: Any) -> Tensor:
    """The score of the target in each clip, one number per clip.

    Args:
        output: output of the model, (clip, class) or with more axes.
        target: the target, in a form that Captum accepts.

    Raises:
        AssertionError: the target does not select one number per clip, or Captum refuses it.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import score_of
        >>> frames = torch.arange(12.0).reshape(2, 3, 2)  # (clip, frame, class)
        >>> score_of(frames, (2, 1))
        tensor([ 5., 11.])
    """
    message = "Target not provided when necessary, cannot take gradient with respect to multiple outputs."
    if output.dim() > 2:
        message = (
            f"expected `target` to select one number of the {tuple(output.shape[1:])} that the model gives for each "
            f"clip, but got {target!r}; pass an index for each axis, such as {(0,) * (output.dim() - 1)}, or explain "
            f"the model `{one_score_per_class(output.shape)}` (`amax` in place of `mean` for the largest score), which "
            "gives one score per class"
        )
    try:
        score = _select_targets(output, target)
    except (AssertionError, IndexError) as error:
        if output.dim() > 2 and not isinstance(target, tuple):
            raise AssertionError(message) from error
        raise
    if score[0].numel() != 1:
        raise AssertionError(message)
    return score


def check_classes(output: Tensor) -> None:
    """Refuses scores of frames where one score per class is needed.

    Args:
        output: output of the model.

    Raises:
        ValueError: the output has more axes than (clip, class).

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import check_classes
        >>> try:
        ...     check_classes(torch.zeros(2, 50, 3))
        ... except ValueError as error:
        ...     print(str(error).partition("; ")[0])
        expected the model to give one score per class, (clip, class), but got shape (2, 50, 3)
    """
    if output.dim() > 2:
        raise ValueError(
            f"expected the model to give one score per class, (clip, class), but got shape {tuple(output.shape)}; "
            f"explain the model `{one_score_per_class(output.shape)}`, or pass `explain` a target for each axis"
        )


def check_rows(output: Tensor, n_clips: int) -> Tensor:
    """The output of the model, after a check that it has one row per clip.

    Args:
        output: output of the model.
        n_clips: number of clips in the inputs.

    Raises:
        ValueError: the output does not have one row per clip.

    Example:
        >>> import torch
        >>> from captum_apex.attribution.arguments import check_rows
        >>> try:
        ...     check_rows(torch.zeros(3), n_clips=2)
        ... except ValueError as error:
        ...     print(error)
        expected the model to give one row of scores per clip, (2, class), but got shape (3,)
    """
    if output.shape[:1] != (n_clips,):
        hint = (
            "; in `forward`, a `squeeze()` without an axis also removes the axis of the clips" if n_clips == 1 else ""
        )
        raise ValueError(
            f"expected the model to give one row of scores per clip, ({n_clips}, class), but got shape "
            f"{tuple(output.shape)}{hint}"
        )
    return output


def channel_indices(channels: Any, width: int) -> list[int]:
    """Indices of channels, from one integer or several, in a list, a range, an array or a tensor.

    Args:
        channels: the index of a channel, or the indices of several.
        width: number of channels of the basis.

    Raises:
        TypeError: `channels` holds bools, floats, or anything else that is no integer. A mask is refused, because its
            values would be read as indices.
        ValueError: there is no channel, or one that the basis does not have.

    Example:
        >>> import numpy as np
        >>> from captum_apex.attribution.arguments import channel_indices
        >>> channel_indices(np.array([5, 2]), width=8), channel_indices(3, width=8)
        ([5, 2], [3])
    """
    several = channels.tolist() if hasattr(channels, "tolist") else channels  # a tensor, an array or a scalar
    if not isinstance(several, Iterable) or isinstance(several, Mapping):
        several = [several]
    try:
        indices = [whole_number(index, "channels") for index in several]
    except TypeError as error:
        raise TypeError(
            f"expected `channels` to be the index of a channel or several indices, but got {channels!r}; for a mask, "
            "pass the places where it is True"
        ) from error
    if not indices or min(indices) < 0 or max(indices) >= width:
        raise ValueError(
            f"expected `channels` among the basis's {width} channels, 0 to {width - 1}, but got {channels}"
        )
    return indices
