"""A model whose scores are one entry of what it returns, such as the logits in a dictionary."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from captum_apex.layers.changes import noted
from captum_apex.layers.holding import removed
from captum_apex.layers.kinds import takes_hooks
from captum_apex.layers.layer_output import tensor_in
from captum_apex.layers.values import described_output

__all__ = ["SelectedOutput", "one_score_per_class", "selected_as"]


class SelectedOutput(nn.Module):
    """A model that returns its scores alone, out of a tuple, a dictionary or another object.

    It stands for the model wherever one is given: `FeatureBank.from_dataset`, `APEX`, `Classifier`, `metrics`. The
    model is not changed. Names of its layers and the fingerprint of its weights are those of the model, so that a basis
    fits both. It also turns frame-wise scores into one score per class, by a function such as the mean over frames, and
    leaves out what a model does behind its logits, such as a softmax. A selection can be made from another.

    Args:
        model: the model.
        output: which entry of the output has the scores: a key or the name of an attribute; an index into a tuple or a
            list; a function from the output to the scores, (clip, class); or a module inside the model, whose output
            the scores are, such as the last linear layer before a softmax.

    Raises:
        TypeError: the model is not a module, or `output` is neither a string, an integer nor a function.
        ValueError: the module is not inside the model, or is inside TorchScript; or, when it is called, the output has
            no such entry, the entry is not one tensor, or the module does not run once.

    Example:
        >>> import torch
        >>> from captum_apex import SelectedOutput
        >>> class Tagger(torch.nn.Module):
        ...     def forward(self, frames):  # (clip, frame, class)
        ...         return {"frames": frames, "clip": frames.amax(1)}
        >>> frames = torch.tensor([[[1.0, 0.0], [3.0, 2.0]]])
        >>> SelectedOutput(Tagger(), "clip")(frames)
        tensor([[3., 2.]])
        >>> SelectedOutput(Tagger(), lambda output: output["frames"].mean(1))(frames)
        tensor([[2., 1.]])
        >>> model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Softmax(1))
        >>> SelectedOutput(model, model[0])(frames[:, 0]).shape  # its logits
        torch.Size([1, 2])
    """

    def __init__(self, model: nn.Module, output: str | int | Callable[[Any], Tensor] | nn.Module) -> None:
        super().__init__()
        if not isinstance(model, nn.Module):
            raise TypeError(
                f"expected `model` to be a torch.nn.Module, but got {type(model).__name__}; a function of yours can "
                "return the scores itself"
            )
        self._inside: tuple[str, nn.Module] | None = None  # a tuple, so that it is no module of this one
        if isinstance(output, nn.Module):
            self._inside = (_name_inside(model, output), output)
        if isinstance(output, bool) or not (isinstance(output, (str, int)) or callable(output)):
            raise TypeError(
                "expected `output` to be a key, an index or a function of the model's output, but got "
                f"{type(output).__name__} {output!r}"
            )
        self.model = model
        self.output = output if self._inside is None else self._inside[0]
        self.training = model.training

    def forward(self, *inputs: Any, **further: Any) -> Tensor:
        """The scores of each clip; the arguments are those of the model."""
        if self._inside is not None:
            return self._output_of(*self._inside, *inputs, **further)
        given = self.model(*inputs, **further)
        selected = self.output(given) if callable(self.output) else self._entry(given, self.output)
        if isinstance(selected, Tensor):
            return selected
        raise ValueError(
            f"expected `output` to select one tensor of scores, but it gives {described_output(selected)}; pass a "
            "function that reads the scores, such as lambda output: output['heads'][0]"
        )

    def extra_repr(self) -> str:
        """The selection, as torch shows it."""
        return f"output={self.output!r}"

    def around(self, model: nn.Module) -> SelectedOutput:
        """The same selection from another model that has the same modules.

        Args:
            model: the other model.

        Example:
            >>> import torch
            >>> from captum_apex import SelectedOutput
            >>> SelectedOutput(torch.nn.ReLU(), 0).around(torch.nn.Tanh()).output
            0
        """
        if self._inside is None:
            return SelectedOutput(model, self.output)
        name, module = self._inside
        is_inside = any(each is module for each in model.modules())
        return SelectedOutput(model, module if is_inside else model.get_submodule(name))

    def _output_of(self, name: str, module: nn.Module, *inputs: Any, **further: Any) -> Tensor:
        """What a module inside the model gives, of which a copy is kept because others may work in place."""
        thread = threading.get_ident()
        kept: list[Tensor | None] = []
        given: list[Any] = []

        def keep(_module: nn.Module, _inputs: tuple, output: Any) -> None:
            if threading.get_ident() == thread:
                tensor = tensor_in(output, module)
                kept.append(None if tensor is None else tensor.clone())
                given.append(output)

        with noted(partial(removed, module._forward_hooks, keep)):
            module.register_forward_hook(keep)
            self.model(*inputs, **further)
        if len(kept) != 1:
            raise ValueError(f"expected the module {name!r} to run once in a pass, but it ran {len(kept)} times")
        if kept[0] is None:
            raise ValueError(f"expected the module {name!r} to give a tensor, but got {described_output(given[0])}")
        return kept[0]

    def _entry(self, given: Any, name: str | int) -> Any:
        """The entry of an output by its key, its attribute or its index."""
        fault = f"expected the model {type(self.model).__name__} to return {name!r}"
        if isinstance(given, Tensor):
            raise ValueError(
                f"{fault} among others, but got one tensor of shape {tuple(given.shape)}; explain the model itself, or "
                "pass a function of the tensor"
            )
        try:
            by_attribute = isinstance(name, str) and not (isinstance(given, Mapping) and name in given)
            return getattr(given, str(name)) if by_attribute else given[name]
        except (AttributeError, LookupError, TypeError):
            raise ValueError(f"{fault}, but got {described_output(given)}") from None


def _name_inside(model: nn.Module, module: nn.Module) -> str:
    for name, each in model.named_modules():
        if each is module and name:
            if takes_hooks(module):
                return name
            raise ValueError(
                f"expected a module that takes hooks as `output`, but {name!r} is TorchScript; put it into an "
                "nn.Sequential in the model, and select that"
            )
    raise ValueError(  # a module of another model would be neither held still nor in the fingerprint
        f"expected `output` to be a module inside the model, but this {type(module).__name__} is not; put a module "
        "that shall follow the model behind it by nn.Sequential"
    )


def selected_as(forward_func: Callable, model: nn.Module) -> nn.Module:
    """A model with the selection of another, or the model itself where the other selects nothing.

    Args:
        forward_func: a model or a function; it may be a `SelectedOutput`, also of another.
        model: the model that shall give the same entry.

    Example:
        >>> import torch
        >>> from captum_apex.layers.selected_output import SelectedOutput, selected_as
        >>> selected_as(SelectedOutput(torch.nn.ReLU(), 0), torch.nn.Tanh()).output
        0
        >>> selected_as(torch.nn.ReLU(), torch.nn.Tanh())
        Tanh()
    """
    if not isinstance(forward_func, SelectedOutput):
        return model
    return forward_func.around(selected_as(forward_func.model, model))


def one_score_per_class(shape: Sequence[int], n_classes: int | None = None) -> str:
    """The code of a model that gives one score per class where the user's gives more, for a message.

    Args:
        shape: shape of the output, (clip, frame, class) or (clip, class, row, frame), for example.
        n_classes: number of classes; None where it is not known.

    Returns:
        Code that takes the mean over all axes but those of the clips and of the classes. Where the number of classes
        does not say which axis they are on, it is axis 1 of four axes, and the last one of others.

    Example:
        >>> from captum_apex.layers.selected_output import one_score_per_class
        >>> one_score_per_class((1, 3, 50), n_classes=3)
        'captum_apex.SelectedOutput(model, lambda output: output.mean(2))'
        >>> one_score_per_class((1, 3, 1, 1))
        'captum_apex.SelectedOutput(model, lambda output: output.flatten(1))'
    """
    axes = range(1, len(shape))
    fitting = [axis for axis in axes if shape[axis] == n_classes] or list(axes)
    likely = 1 if len(shape) == 4 else len(shape) - 1
    classes = likely if likely in fitting else fitting[0]
    others = tuple(axis for axis in axes if axis != classes)
    mean = f"mean({others[0] if len(others) == 1 else others})"
    code = "flatten(1)" if all(shape[axis] == 1 for axis in others) else mean
    return f"captum_apex.SelectedOutput(model, lambda output: output.{code})"
