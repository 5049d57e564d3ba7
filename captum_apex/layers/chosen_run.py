"""A model with a module through which the output of one run of a layer goes that runs several times in a pass."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from functools import partial
from typing import Any, cast

from torch import nn

from captum_apex.layers.changes import noted
from captum_apex.layers.holding import removed
from captum_apex.layers.kinds import takes_hooks
from captum_apex.layers.layer_output import tensor_in, with_tensor
from captum_apex.layers.selected_output import SelectedOutput
from captum_apex.layers.values import described_output
from captum_apex.numbers import whole_number

__all__ = ["ChosenRun", "RunOutput", "named_layers"]


class RunOutput(nn.Identity):
    """What a module gives in one of its runs, as a layer.

    Example:
        >>> from captum_apex.layers.chosen_run import RunOutput
        >>> RunOutput()
        RunOutput()
    """


class ChosenRun(nn.Module):
    """A model in which one run of a module that runs several times in a pass can be explained, as its `layer`.

    A block that is applied again and again with the same weights, or a cell that takes one frame after another, gives
    several outputs in a pass, so that it is no layer. This is the model as it is, but the output of one of the runs
    goes through a module of its own, an identity: the layer to explain. The model is not changed: its module has a hook
    as long as a pass of this one lasts, which acts in no other pass and in no other thread.

    It stands for the model wherever one is given: `FeatureBank.from_dataset`, `suggest_layers`, `APEX`, `Classifier`,
    `metrics`. Names of the layers and the fingerprint of the weights are those of the model, so that a basis of another
    layer fits both. A second run can be chosen from the first `ChosenRun`, and a `SelectedOutput` made from it or given
    to it.

    Args:
        model: the model.
        module: a module in it that runs several times in a pass.
        run: which of its runs, counted from 0 in the order in which they end. The last one has a number too, which may
            depend on the length of the clip: how often a module runs is known only after the pass.

    Attributes:
        layer: the layer to explain, which gives what the module gives in this run. Its name in the model is that of the
            module and of the run, such as `block_run_1`.

    Raises:
        TypeError: the model or the module is no module, or `run` is no integer.
        ValueError: the module is not inside the model, or is inside TorchScript, or `run` is negative; or, in a pass,
            the module runs less often, or gives no tensor.

    Example:
        >>> import torch
        >>> from captum_apex import ChosenRun, FeatureBank
        >>> class Again(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.block = torch.nn.Conv2d(1, 1, 1, bias=False)
        ...         torch.nn.init.constant_(self.block.weight, 2.0)
        ...     def forward(self, inputs):
        ...         return self.block(self.block(self.block(inputs))).mean((2, 3))
        >>> model = Again()
        >>> chosen = ChosenRun(model, model.block, run=1)
        >>> bank = FeatureBank.from_dataset(chosen, chosen.layer, torch.ones(2, 1, 1, 2))
        >>> bank.origin.layer, bank.means.flatten().tolist()  # 2 · 2 of each clip
        ('block_run_1', [4.0, 4.0])
    """

    def __init__(self, model: nn.Module, module: nn.Module, run: int) -> None:
        super().__init__()
        for value, argument in ((model, "model"), (module, "module")):
            if not isinstance(value, nn.Module):
                raise TypeError(f"expected `{argument}` to be a torch.nn.Module, but got {type(value).__name__}")
        self.run = whole_number(run, "run")
        if self.run < 0:
            raise ValueError(
                f"expected `run` to be at least 0, but got {self.run}; count from the first run on, because how often "
                "a module runs is known only after the pass"
            )
        self.model = getattr(model, "_orig_mod", model)  # compiled code would not run the hook
        self._chosen = (_name_inside(self._inside, module), module)  # a tuple, so that it is no module of this one
        self._layer_name = f"{self._chosen[0].replace('.', '_')}_run_{self.run}"
        while hasattr(self._inside, self._layer_name):
            self._layer_name += "_"
        self.add_module(self._layer_name, RunOutput())
        self.layer.training = self.training = model.training

    @property
    def layer(self) -> nn.Module:
        """The layer to explain: what the module gives in the chosen run goes through it."""
        return cast(nn.Module, self._modules[self._layer_name])

    @property
    def _inside(self) -> nn.Module:
        """The model whose names of modules are those of this one."""
        model = self.model
        while isinstance(model, (SelectedOutput, nn.DataParallel, nn.parallel.DistributedDataParallel)):
            model = model.model if isinstance(model, SelectedOutput) else model.module
        return model

    def forward(self, *inputs: Any, **further: Any) -> Any:
        """What the model gives; the arguments are those of the model."""
        name, module = self._chosen
        thread = threading.get_ident()
        n_runs = 0

        def pass_on(_module: nn.Module, _inputs: tuple, output: Any) -> Any:
            nonlocal n_runs
            if threading.get_ident() != thread:
                return None
            n_runs += 1
            return self._through_layer(output) if n_runs == self.run + 1 else None

        with noted(partial(removed, module._forward_hooks, pass_on)):
            module.register_forward_hook(pass_on)
            given = self.model(*inputs, **further)
        if n_runs <= self.run:
            times = "once" if n_runs == 1 else f"{n_runs} times"
            raise ValueError(
                f"expected the module {name!r} to have a run {self.run} in a pass, counted from 0, but it ran {times}"
            )
        return given

    def extra_repr(self) -> str:
        """The module and the run, as torch shows them."""
        return f"module={self._chosen[0]!r}, run={self.run}"

    def get_submodule(self, target: str) -> nn.Module:
        """A module by its name in the model, or by its name in this one, such as that of the layer.

        Args:
            target: the name.

        Example:
            >>> from torch import nn
            >>> from captum_apex import ChosenRun
            >>> model = nn.Sequential(nn.ReLU())
            >>> chosen = ChosenRun(model, model[0], 0)
            >>> chosen.get_submodule("0"), chosen.get_submodule("0_run_0")
            (ReLU(), RunOutput())
        """
        return self._inside.get_submodule(target) if self._is_inside(target) else super().get_submodule(target)

    def set_submodule(self, target: str, module: nn.Module, strict: bool = False) -> None:
        """Puts a module in the place of another, by the name that `get_submodule` takes.

        Args:
            target: the name.
            module: the new module.
            strict: whether there must be such a module already, as in torch.

        Example:
            >>> from torch import nn
            >>> from captum_apex import ChosenRun
            >>> model = nn.Sequential(nn.ReLU(), nn.ReLU())
            >>> ChosenRun(model, model[0], 0).set_submodule("1", nn.Tanh())
            >>> model[1]
            Tanh()
        """
        if self._is_inside(target):
            self._inside.set_submodule(target, module, strict)
        else:
            super().set_submodule(target, module, strict)

    def around(self, model: nn.Module) -> ChosenRun:
        """The same run of the same module with the same `layer`, in a model around the module.

        Args:
            model: the other model, such as the one inside a data-parallel wrapper.

        Example:
            >>> from torch import nn
            >>> from captum_apex import ChosenRun
            >>> model = nn.Sequential(nn.ReLU(), nn.ReLU())
            >>> chosen = ChosenRun(nn.DataParallel(model), model[0], 0)
            >>> chosen.around(model).layer is chosen.layer
            True
        """
        chosen = ChosenRun(model, self._chosen[1], self.run)
        chosen.add_module(chosen._layer_name, self.layer)
        return chosen

    def _is_inside(self, target: str) -> bool:
        """Whether the model has a module of this name."""
        try:
            return bool(target) and isinstance(self._inside.get_submodule(target), nn.Module)
        except AttributeError:
            return False

    def _through_layer(self, output: Any) -> Any:
        """What the module has given, with the tensor that the layer gives for it."""
        name, module = self._chosen
        tensor = tensor_in(output, module)
        if tensor is None:
            raise ValueError(
                f"expected the module {name!r} to give a tensor, or a tuple that begins with one, but got "
                f"{described_output(output)}; choose a module inside it"
            )
        return with_tensor(output, module, self.layer(tensor))


def _name_inside(model: nn.Module, module: nn.Module) -> str:
    for name, each in named_layers(model):
        if each is module and name:
            if takes_hooks(module):
                return name
            raise ValueError(f"expected a module that takes hooks as `module`, but {name!r} is TorchScript")
    raise ValueError(
        f"expected `module` to be a module inside the model, but this {type(module).__name__} is not in "
        f"{type(model).__name__}"
    )


def named_layers(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The modules of a model by name, as `named_modules` gives them; those of a `ChosenRun` by their names without it.

    Args:
        model: the model.

    Example:
        >>> from torch import nn
        >>> from captum_apex.layers.chosen_run import ChosenRun, named_layers
        >>> model = nn.Sequential(nn.ReLU())
        >>> [name for name, _ in named_layers(ChosenRun(model, model[0], 0))]
        ['', '', '0', '0_run_0']
    """
    for path, module in model.named_modules():
        wrapper: nn.Module = model
        name = path
        while isinstance(wrapper, (ChosenRun, SelectedOutput)) and f"{name}.".startswith("model."):
            wrapper = wrapper.model
            name = name.removeprefix("model").removeprefix(".")
        yield name, module
