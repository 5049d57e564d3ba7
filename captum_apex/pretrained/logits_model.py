"""A Hugging Face classifier as a module that returns its logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_apex.layers.padding import Columns

__all__ = ["LogitsModel", "frames_of"]


class LogitsModel(nn.Module):
    """A model of transformers as a forward function: time last in, logits out, also for clips that were padded to one length.

    With `lengths`, a batch gives what each clip gives alone: an attention mask keeps the padding out, a normalisation over time
    (`feat_extract_norm="group"`, as in wav2vec 2.0 base, which transformers itself can only run without a mask) is computed on each clip's
    own frames, and convolutions find zeros after a clip's end. Hooks do this, and are taken off again; the model stays as it is.

    Args:
        model: of transformers.
        columns: from the clips' lengths in the input to their columns at the layer, int64 (clip,) both; None where all clips must have one
            length.
        n_rows: for a model that takes (clip, time, row), how many rows there are; the inputs are (clip, row, time) here all the same.
    """

    def __init__(self, model: nn.Module, columns: Columns | None = None, n_rows: int | None = None) -> None:
        super().__init__()
        self.model: Any = model
        self.columns, self.n_rows = columns, n_rows
        self.training = model.training

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The logits, (clip, class).

        Args:
            inputs: (clip, time), (clip, row, time) or (clip, channel, frequency, time), as `Classifier.inputs` gives them; cast to the
                model's dtype.
            lengths: of the clips along the last axis, int64 (clip,), where they were padded at their ends; whatever the padding holds.

        Raises:
            TypeError: the lengths are no tensor of integers.
            ValueError: the inputs' axes are others, the lengths do not fit them, or this model cannot take padded clips.
        """
        inputs = self._in_order(inputs)
        if lengths is None:
            return self.model(inputs, return_dict=True).logits
        lengths = self._checked(lengths, inputs).to(inputs.device)
        n_samples = inputs.shape[1]  # time comes second in every model that takes a mask
        mask = (torch.arange(n_samples, device=inputs.device) < lengths[:, None]).long()
        with self._each_clip_alone(lengths):
            return self.model(inputs, attention_mask=mask, return_dict=True).logits

    def _in_order(self, inputs: Tensor) -> Tensor:
        inputs = inputs.to(next(self.model.parameters()).dtype)
        if self.n_rows is None:
            return inputs
        if inputs.dim() != 3 or inputs.shape[1] != self.n_rows:
            raise ValueError(
                f"expected inputs (clip, {self.n_rows}, time), time last, as the classifier's `transform` gives them, but got shape "
                f"{tuple(inputs.shape)}; what the feature extractor itself gives has time first"
            )
        return inputs.transpose(1, 2)

    def _checked(self, lengths: Tensor, inputs: Tensor) -> Tensor:
        if self.columns is None:
            raise ValueError(
                f"expected clips of one length, without `lengths`: {type(self.model).__name__} cannot take padded ones"
            )
        if not isinstance(lengths, Tensor) or lengths.is_floating_point():
            got = getattr(lengths, "dtype", type(lengths).__name__)
            raise TypeError(f"expected `lengths` to be a tensor of integers (clip,), but got {got}")
        longest = inputs.shape[1]
        if lengths.shape != inputs.shape[:1] or lengths.max() > longest or self.columns(lengths).min() < 1:
            raise ValueError(
                f"expected `lengths` of shape ({len(inputs)},), at most {longest} and enough for one column of the layer, but got "
                f"{lengths.tolist()}"
            )
        return lengths

    @contextmanager
    def _each_clip_alone(self, lengths: Tensor) -> Iterator[None]:
        """Inside, what lies after a clip's end takes part neither in a normalisation over time nor in a convolution over tokens."""
        assert self.columns is not None
        handles = []
        for module in self.model.modules():
            if isinstance(module, nn.GroupNorm):  # there is one, after the first convolution
                first = partial(
                    frames_of, lengths, self.model.config.conv_kernel[:1], self.model.config.conv_stride[:1]
                )
                handles.append(module.register_forward_hook(partial(_normalised_alone, first().tolist())))
            elif isinstance(module, nn.Conv1d) and module.padding != (0,):
                handles.append(module.register_forward_pre_hook(partial(_silent_after, self.columns(lengths))))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()


def frames_of(lengths: Tensor, kernels: Sequence[int], strides: Sequence[int]) -> Tensor:
    """How many frames a stack of convolutions without padding gives, int64 (clip,)."""
    for kernel, stride in zip(kernels, strides, strict=True):
        lengths = (lengths - kernel) // stride + 1
    return lengths


def _normalised_alone(n_frames: Sequence[int], norm: nn.GroupNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """A group normalisation with the statistics of each clip's own frames; zeros after its end."""
    alone = torch.zeros_like(output)
    for clip, n in enumerate(n_frames):
        alone[clip, :, :n] = F.group_norm(
            inputs[0][clip : clip + 1, :, :n], norm.num_groups, norm.weight, norm.bias, norm.eps
        )[0]
    return alone


def _silent_after(n_columns: Tensor, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:  # noqa: ARG001 - a hook's signature
    """Zeros after each clip's end, (clip, channel, time): what a convolution pads with where the clip is alone."""
    return (
        inputs[0].masked_fill(
            torch.arange(inputs[0].shape[-1], device=n_columns.device) >= n_columns[:, None, None], 0
        ),
    )
