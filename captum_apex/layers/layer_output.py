"""The tensor in what a layer gives: the first one of a tuple, or the steps of a packed sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

__all__ = ["tensor_in", "with_tensor"]


def tensor_in(value: Any, module: nn.Module) -> Tensor | None:
    """The tensor itself, the first entry of a tuple or a list, or a packed sequence with zeros at the ends of clips.

    A recurrent layer gives (output, state), an attention (output, weights): the output is taken.

    Args:
        value: what the module gives or takes.
        module: the module; its `batch_first` says on which axis the clips of a packed sequence are, axis 0 by default.

    Returns:
        The tensor; None where there is none at this place.

    Example:
        >>> import torch
        >>> from captum_apex.layers.layer_output import tensor_in
        >>> from torch import nn
        >>> gru = nn.GRU(2, 3, batch_first=True)
        >>> tensor_in(gru(torch.zeros(1, 5, 2)), gru).shape
        torch.Size([1, 5, 3])
        >>> steps = nn.utils.rnn.pack_sequence([torch.zeros(5, 2), torch.zeros(4, 2)])
        >>> tensor_in(gru(steps), gru).shape
        torch.Size([2, 5, 3])
    """
    if isinstance(value, Tensor):
        return value
    if isinstance(value, PackedSequence):
        return pad_packed_sequence(value, batch_first=_clips_first(module))[0]
    if isinstance(value, (tuple, list)) and value:
        return tensor_in(value[0], module)
    return None


def with_tensor(value: Any, module: nn.Module, tensor: Tensor) -> Any:
    """What a layer gives with another tensor at the place that `tensor_in` reads; `value` itself is not changed.

    The last state of a recurrent layer is its output at the last frame of each clip (and, backwards, at the first
    frame), so that it changes too.

    Args:
        value: what the module gives or takes.
        module: the module.
        tensor: the other tensor, of the same shape.

    Example:
        >>> import torch
        >>> from captum_apex.layers.layer_output import with_tensor
        >>> with_tensor((torch.zeros(1), "state"), torch.nn.Identity(), torch.ones(1))
        (tensor([1.]), 'state')
    """
    if isinstance(value, PackedSequence):
        return _packed_as(value, tensor, _clips_first(module))
    if not isinstance(value, (tuple, list)):
        return tensor
    first = with_tensor(value[0], module, tensor)
    if isinstance(module, nn.RNNBase) and len(value) == 2:
        return first, _with_last_state(value[1], module, tensor, _last_frames(value[0], module, tensor))
    make: Any = getattr(value, "_make", type(value))  # a named tuple itself takes its entries one by one
    return make((first, *value[1:]))


def _last_frames(value: Any, module: nn.RNNBase, tensor: Tensor) -> Tensor:
    """The index of the last frame of each clip, (clip,); of one frame for a tensor without clips."""
    if isinstance(value, PackedSequence):
        return pad_packed_sequence(value)[1] - 1
    n_clips = 1 if tensor.dim() == 2 else tensor.shape[0 if module.batch_first else 1]
    n_frames = tensor.shape[1 if module.batch_first and tensor.dim() == 3 else 0]
    return torch.full((n_clips,), n_frames - 1)


def _with_last_state(state: Any, module: nn.RNNBase, tensor: Tensor, last: Tensor) -> Any:
    """The state of a recurrent layer, where that of its last layer is what the frames at the end of the clips say."""
    if isinstance(state, tuple):  # of an LSTM; the state of its memory is no part of its output
        return (_with_last_state(state[0], module, tensor, last), *state[1:])
    frames = tensor if tensor.dim() == 2 or not module.batch_first else tensor.transpose(0, 1)
    frames = frames[:, None] if frames.dim() == 2 else frames  # (frame, clip, channel)
    forwards, *backwards = frames.chunk(2 if module.bidirectional else 1, dim=2)
    ends = [forwards[last.to(frames.device), torch.arange(frames.shape[1], device=frames.device)]]
    ends += [each[0] for each in backwards]
    states = torch.stack(ends)  # (direction, clip, channel)
    return torch.cat([state[: -len(ends)], states if state.dim() == 3 else states[:, 0]])


def _clips_first(module: nn.Module) -> bool:
    return getattr(module, "batch_first", True) is True


def _packed_as(value: PackedSequence, tensor: Tensor, clips_first: bool) -> PackedSequence:
    """A tensor with zeros at the ends of clips, packed in the order of a packed sequence."""
    if value.sorted_indices is not None:
        tensor = tensor.index_select(0 if clips_first else 1, value.sorted_indices)
    _, lengths = pad_packed_sequence(PackedSequence(value.data.detach(), value.batch_sizes))
    packed = pack_padded_sequence(tensor, lengths, batch_first=clips_first)
    return PackedSequence(packed.data, value.batch_sizes, value.sorted_indices, value.unsorted_indices)
