"""A classifier of Hugging Face's transformers as a module that gives its logits."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from captum_apex.layers.changes import restored
from captum_apex.layers.hooks import hooked
from captum_apex.layers.padding import Columns

__all__ = ["LogitsModel", "frames_of"]


class LogitsModel(nn.Module):
    """A model of transformers as a forward function from inputs, time on the last axis, to logits.

    For clips that are padded to one length, pass their `lengths`: a batch then gives what each clip gives alone. An
    attention mask hides the padding from the tokens. A normalisation over time is computed on each clip without padding
    (`feat_extract_norm="group"`, as in wav2vec 2.0 base, for which transformers itself allows no mask). Convolutions
    find zeros after the end of a clip. Hooks do this during a call; the model is not changed.

    Args:
        model: the model of transformers.
        columns: function from the lengths of the clips to their numbers of columns at the layer, both int64 (clip,);
            None for a model that does not accept padded clips.
        n_rows: number of rows of the input, for a model of transformers that takes (clip, time, row); this module takes
            (clip, row, time). None for all other models.

    Example:
        >>> import torch
        >>> from captum_apex.pretrained import LogitsModel
        >>> from transformers import ResNetConfig, ResNetForImageClassification
        >>> config = ResNetConfig(embedding_size=8, hidden_sizes=[8], depths=[1], layer_type="basic", num_labels=2)
        >>> resnet = ResNetForImageClassification(config).eval()
        >>> _ = torch.nn.init.zeros_(resnet.classifier[1].weight)
        >>> _ = resnet.classifier[1].bias.data.copy_(torch.tensor([1.0, 2.0]))
        >>> LogitsModel(resnet)(torch.zeros(1, 3, 32, 32)).detach()
        tensor([[1., 2.]])
    """

    def __init__(self, model: nn.Module, columns: Columns | None = None, n_rows: int | None = None) -> None:
        super().__init__()
        self.model: Any = model
        self.columns = columns
        self.n_rows = n_rows
        self.training = model.training

    @restored
    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
        """The logits of each clip.

        Args:
            inputs: (clip, time), (clip, row, time) or (clip, channel, frequency, time), as `Classifier.inputs` gives
                them for each clip; converted to the dtype of the model.
            lengths: lengths of the clips without padding along the last axis, int64 (clip,). The padding is at the end
                of each clip and may hold any values. None where no clip is padded.

        Returns:
            Tensor (clip, class).

        Raises:
            TypeError: the lengths are not a tensor of integers.
            ValueError: the inputs have other axes, the lengths do not fit them, this model does not accept padded
                clips, or it gives no logits.
        """
        inputs = self._with_axes_of_model(inputs)
        if lengths is None:
            return self._logits(inputs)
        lengths = self._checked(lengths, inputs).to(inputs.device)
        n_samples = inputs.shape[1]  # time is the second axis in every model that takes a mask
        mask = (torch.arange(n_samples, device=inputs.device) < lengths[:, None]).long()
        with self._each_clip_alone(lengths):
            return self._logits(inputs, attention_mask=mask)

    def _logits(self, inputs: Tensor, **masks: Tensor) -> Tensor:
        output = self.model(inputs, **masks, return_dict=True)
        if not isinstance(getattr(output, "logits", None), Tensor):
            raise ValueError(
                f"expected {type(self.model).__name__} to give `logits`, as a classifier of transformers does, but got "
                f"{type(output).__name__} with {', '.join(output) or 'nothing'}; load it by the class that has a "
                "classifier, such as AutoModelForAudioClassification"
            )
        return output.logits

    def _with_axes_of_model(self, inputs: Tensor) -> Tensor:
        """The inputs in the dtype of the model, with its order of axes."""
        inputs = inputs.to(next(self.model.parameters()).dtype)
        if self.n_rows is None:
            return inputs
        if inputs.dim() != 3 or inputs.shape[1] != self.n_rows:
            raise ValueError(
                f"expected inputs (clip, {self.n_rows}, time), time last, as the classifier's `transform` gives them, "
                f"but got shape {tuple(inputs.shape)}; what the feature extractor itself gives has time first"
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
                f"expected `lengths` of shape ({len(inputs)},), at most {longest} and enough for one column of the "
                f"layer, but got {lengths.tolist()}"
            )
        return lengths

    @contextmanager
    def _each_clip_alone(self, lengths: Tensor) -> Iterator[None]:
        """Inside, padding changes neither a normalisation over time nor a convolution over tokens."""
        assert self.columns is not None
        with ExitStack() as hooks:
            for module in self.model.modules():
                if isinstance(module, nn.GroupNorm):  # there is only one, after the first convolution
                    config = self.model.config
                    n_frames = frames_of(lengths, config.conv_kernel[:1], config.conv_stride[:1]).tolist()
                    hooks.enter_context(hooked(module, partial(_normalised_alone, n_frames)))
                elif isinstance(module, nn.Conv1d) and module.padding != (0,):
                    n_columns = self.columns(lengths)
                    zero = partial(_zero_after_end, n_columns)
                    hooks.enter_context(hooked(module, zero, at_input=True))
            yield


def frames_of(lengths: Tensor, kernels: Sequence[int], strides: Sequence[int]) -> Tensor:
    """The number of frames after a stack of convolutions without padding.

    Args:
        lengths: lengths of the clips, int64 (clip,).
        kernels: kernel size of each convolution.
        strides: stride of each convolution.

    Returns:
        int64 tensor (clip,).

    Example:
        >>> import torch
        >>> from captum_apex.pretrained.logits_model import frames_of
        >>> frames_of(torch.tensor([400, 720]), kernels=[10, 3], strides=[5, 2])
        tensor([39, 71])
    """
    for kernel, stride in zip(kernels, strides, strict=True):
        lengths = (lengths - kernel) // stride + 1
    return lengths


def _normalised_alone(n_frames: Sequence[int], norm: nn.GroupNorm, inputs: tuple[Tensor], output: Tensor) -> Tensor:
    """A group normalisation with the statistics of each clip without padding; the output is zero in the padding."""
    alone = torch.zeros_like(output)
    for clip, n in enumerate(n_frames):
        alone[clip, :, :n] = F.group_norm(
            inputs[0][clip : clip + 1, :, :n], norm.num_groups, norm.weight, norm.bias, norm.eps
        )[0]
    return alone


def _zero_after_end(
    n_columns: Tensor,
    module: nn.Module,  # noqa: ARG001 - hooks get the module
    inputs: tuple[Tensor],
) -> tuple[Tensor]:
    """Sets (clip, channel, time) to zero after the end of each clip, as the convolution pads a clip that is alone."""
    padding = torch.arange(inputs[0].shape[-1], device=n_columns.device) >= n_columns[:, None, None]
    return (inputs[0].masked_fill(padding, 0),)
