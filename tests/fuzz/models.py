"""Models of random shape: what is explained adds up, a batch is what its clips are, and the model stays as it was."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from captum_apex import (
    APEX,
    SCHEMES,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    RegionSearch,
    Scheme,
    basis_from_matrix,
    explain,
    fit_basis,
)
from tests.fuzz.outcomes import accepted
from tests.oracles import laid_out

ACTIVATIONS = (nn.ReLU, lambda: nn.ReLU(inplace=True), nn.GELU, nn.Tanh, lambda: nn.LeakyReLU(0.2), nn.Identity)
POOLINGS = ("mean", "mean", "adaptive", "sum", "maximum", "attention", "deviation", "root mean square")
ADDITIVE = ("mean", "adaptive", "sum")  # with these the head is affine, where no norm or activation follows the layer
PRECISIONS = {
    torch.float64: {"atol": 1e-8, "rtol": 1e-6},
    torch.float32: {"atol": 1e-3, "rtol": 1e-3},
    torch.bfloat16: {"atol": 0.1, "rtol": 0.1},
}
OUTPUTS = ("logits", "logits", "logits", "logits", "squeezed", "tuple", "pair", "dict", "one logit", "list")


@dataclass(frozen=True)
class Shape:
    """What is drawn for a model."""

    axes: int
    width: int
    n_classes: int
    kernel: int
    norm: str
    activation: int
    norm_after: str
    activation_after: int | None
    pooling: str
    norm_of_pooled: str
    output: str

    @classmethod
    def drawn(cls, random: np.random.Generator) -> Shape:
        norms = ["", "", "batch", "group", "instance"]
        return cls(
            axes=int(random.integers(1, 3)),
            width=int(random.integers(1, 7)),
            n_classes=int(random.integers(1, 5)),
            kernel=int(random.choice([1, 3])),
            norm=str(random.choice(norms)),
            activation=int(random.integers(len(ACTIVATIONS))),
            norm_after=str(random.choice(["", "", "", *norms])),
            activation_after=None if random.random() < 0.7 else int(random.integers(len(ACTIVATIONS))),
            pooling=str(random.choice(POOLINGS)),
            norm_of_pooled=str(random.choice(["", "", "", "layer", "rms", "batch"])),
            output=str(random.choice(OUTPUTS)),
        )

    @property
    def affine(self) -> bool:
        """Whether the score is an affine function of the layer's output, in evaluation mode."""
        identity = self.activation_after is None or ACTIVATIONS[self.activation_after] is nn.Identity
        norms_are_affine = self.norm_after in ("", "batch") and self.norm_of_pooled in ("", "batch")
        return self.pooling in ADDITIVE and identity and norms_are_affine

    @property
    def differentiable_by_hand(self) -> bool:
        """Whether the gradient is torch's own: norms whose variance is held constant have another one."""
        return self.norm_after in ("", "batch") and self.norm_of_pooled in ("", "batch")


class Drawn(nn.Module):
    """Convolution, norm and activation, which are explained; then all that may follow."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        convolution = nn.Conv1d if shape.axes == 1 else nn.Conv2d
        self.features = nn.Sequential(
            convolution(1, shape.width, shape.kernel, padding=shape.kernel // 2),
            _norm(shape.norm, shape),
            ACTIVATIONS[shape.activation](),
        )
        self.after = nn.Sequential(_norm(shape.norm_after, shape))
        if shape.activation_after is not None:
            self.after.append(ACTIVATIONS[shape.activation_after]())
        self.attention = convolution(shape.width, 1, 1)
        self.dropout = nn.Dropout(0.5)
        norms = {"": nn.Identity, "layer": nn.LayerNorm, "rms": nn.RMSNorm, "batch": nn.BatchNorm1d}
        self.norm = norms[shape.norm_of_pooled](shape.width) if shape.norm_of_pooled else nn.Identity()
        self.head = nn.Linear(shape.width, 1 if shape.output == "one logit" else shape.n_classes)

    def forward(self, clips: Tensor) -> Any:
        grid = self.after(self.features(clips))
        logits = self.head(self.dropout(self.norm(self._pooled(grid))))
        return {
            "squeezed": lambda: logits.squeeze(),
            "tuple": lambda: (logits,),
            "pair": lambda: (logits, grid),
            "dict": lambda: {"logits": logits},
            "list": lambda: [logits],
            "one logit": lambda: logits[:, 0],
        }.get(self.shape.output, lambda: logits)()

    def _pooled(self, grid: Tensor) -> Tensor:
        cells = grid.flatten(2)
        weights = self.attention(grid).flatten(2).softmax(2) if self.shape.pooling == "attention" else None
        return {
            "mean": lambda: cells.mean(2),
            "adaptive": lambda: nn.functional.adaptive_avg_pool1d(cells, 1)[:, :, 0],
            "sum": lambda: cells.sum(2) / 4,
            "maximum": lambda: cells.amax(2),
            "attention": lambda: (cells * weights).sum(2),
            "deviation": lambda: cells.var(2, unbiased=False).sqrt(),
            "root mean square": lambda: cells.pow(2).mean(2).add(1e-6).sqrt(),
        }[self.shape.pooling]()


def _norm(name: str, shape: Shape) -> nn.Module:
    one = shape.axes == 1
    return {
        "": nn.Identity,
        "batch": lambda: (nn.BatchNorm1d if one else nn.BatchNorm2d)(shape.width),
        "group": lambda: nn.GroupNorm(1, shape.width),
        "instance": lambda: (nn.InstanceNorm1d if one else nn.InstanceNorm2d)(shape.width, affine=True),
    }[name]()


def models(random: np.random.Generator, folder: Path) -> None:
    """A model, its bank, a basis, and the explanations of a batch."""
    shape = Shape.drawn(random)
    model, clips = _model_and_clips(random, shape)
    before, generator, copied = _state(model), torch.get_rng_state(), clips.detach().clone()
    layer = model.features if random.random() < 0.7 else model.features[2]
    scheme = SCHEMES[int(random.integers(len(SCHEMES)))]
    layout = "n c t -> n c 1 t" if shape.axes == 1 else None
    try:
        grids, logits = _plain(model, layer, clips)
    except ValueError:  # torch's: an instance norm of one cell
        return
    right = _is_right(shape, scheme, grids, logits, len(clips))
    try:
        with accepted(right, str(shape)):
            basis = _basis(random, model, layer, clips, scheme, layout, grids)
            _check_explanations(random, model, layer, basis, clips, grids, folder)
    except BaseException as error:
        error.add_note(f"{shape} for {len(clips)} clips")
        raise
    finally:
        _check_unchanged(before, _state(model))
        assert torch.equal(generator, torch.get_rng_state()), "the global random state moved"
        assert torch.equal(copied, clips.detach()), "the inputs changed"


def _model_and_clips(random: np.random.Generator, shape: Shape) -> tuple[Drawn, Tensor]:
    with torch.random.fork_rng():
        torch.manual_seed(int(random.integers(2**31)))
        dtype = (torch.float64, torch.float32, torch.bfloat16)[int(random.choice(3, p=[0.7, 0.22, 0.08]))]
        model = Drawn(shape).to(dtype)
        for module in model.modules():
            module.training = bool(random.random() < 0.4)
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2)
        for parameter in model.parameters():
            parameter.requires_grad_(bool(random.random() < 0.8))
        sides = [int(side) for side in random.integers(1, 8, shape.axes)]
        if {shape.norm, shape.norm_after} & {"group", "instance"}:
            sides[-1] += 1  # torch's own error for a norm of one value
        clips = torch.randn(int(random.integers(1, 5)), 1, *sides, dtype=dtype)
        if random.random() < 0.1:
            clips[:, :, ...] = 0
        clips.requires_grad_(bool(random.random() < 0.2))
    return model, clips


def _plain(model: Drawn, layer: nn.Module, clips: Tensor) -> tuple[Tensor, Any]:
    """The layer's output as grids, and the model's output, both in evaluation mode, by a copy of the model."""
    twin, part = _part(model, layer)
    outputs: list[Tensor] = []
    part.register_forward_hook(lambda _, __, output: outputs.append(output.detach().clone()))
    with torch.no_grad():
        logits = twin(clips.detach().clone())
    grid = outputs[0]
    return (grid[:, :, None] if grid.dim() == 3 else grid), logits


def _is_right(shape: Shape, scheme: Scheme, grids: Tensor, logits: Any, n_clips: int) -> bool:
    """Whether nothing speaks against explaining the model."""
    plain_output = shape.output in ("logits", "one logit") or (shape.output == "squeezed" and n_clips > 1)
    smooth = shape.pooling != "deviation" and scheme.supports(*grids.shape[2:])
    return plain_output and smooth and isinstance(logits, Tensor) and bool(logits.isfinite().all())


def _basis(random, model, layer, clips, scheme, layout, grids) -> PrototypeBasis:
    items = list(clips.detach())
    batch_size = int(random.integers(1, len(clips) + 2))
    bank = FeatureBank.from_dataset(model, layer, items, schemes=[scheme], layout=layout, batch_size=batch_size)
    assert torch.allclose(bank.means.double(), grids.double().mean((2, 3)), **PRECISIONS[clips.dtype]), (
        "the means are wrong"
    )
    n_prototypes = int(random.integers(1, len(clips) + 1))
    if random.random() < 0.3:
        return fit_basis(bank, scheme, epochs=1, n_prototypes=(n_prototypes, 1), orthogonal=random.random() < 0.5)
    width = bank.n_channels
    U = torch.linalg.qr(torch.from_numpy(random.normal(size=(width, width))))[0] * random.uniform(0.3, 3)
    return basis_from_matrix(bank, scheme, U.to(grids.dtype), n_prototypes=n_prototypes)


def _check_explanations(random, model, layer, basis, clips, grids, folder) -> None:
    shape = model.shape
    precision = PRECISIONS[clips.dtype]
    target = _target(random, shape, len(clips))
    apex = LayerAPEX(model, layer, basis)
    whole, delta = apex.attribute(clips, target, n_channels=None, return_convergence_delta=True)
    assert whole.shape == (len(clips), 1, *grids.shape[2:])
    assert whole.isfinite().all(), "a map is not finite"
    contributions = apex.decompose(clips, target).contributions
    assert torch.allclose(contributions.sum(1).to(whole), whole.sum((1, 2, 3)), **precision), "maps do not add up"
    if shape.affine:
        scores = _scores(model, layer, clips, target)
        assert torch.allclose(delta.to(scores), torch.zeros_like(scores), **precision), "f(Z) − f(0) is not explained"
        assert torch.allclose(whole.sum((1, 2, 3)).to(scores), scores, **precision), "f(Z) − f(0) is not explained"
    if shape.differentiable_by_hand:
        expected = _map_by_hand(model, layer, clips, target, str(basis.scheme))
        assert torch.allclose(whole[:, 0].to(expected), expected, **precision), "the map is not that of the formula"
    alone = clips if shape.output == "squeezed" else clips[-1:]  # a squeezed output of one clip has lost its axis
    one = apex.attribute(alone, target if alone is clips else _of_clip(target, len(clips) - 1), n_channels=None)[-1:]
    assert torch.allclose(one, whole[-1:], **precision), "a clip alone has another map than in its batch"
    _check_evidence(random, model, layer, apex, basis, clips, target, precision)
    _check_saved(model, layer, basis, clips, target, folder)


def _check_evidence(random, model, layer, apex, basis, clips, target, precision) -> None:
    found = apex.attribute(clips, target, n_channels=2)
    mapped = APEX(model, layer, basis, input_layout="n c t" if model.shape.axes == 1 else None)
    at_input = mapped.attribute(clips, target, n_channels=2)
    assert at_input.shape == clips.shape
    assert torch.allclose(at_input.flatten(1).sum(1), found.flatten(1).sum(1), **precision), "the total is not kept"
    search = RegionSearch(n_random=1) if random.random() < 0.15 and model.shape.output != "squeezed" else None
    for clip, explanation in enumerate(explain(mapped, clips, target, n_channels=2, n_prototypes=1, search=search)):
        contributions = [evidence.contribution for evidence in explanation.evidence]
        assert contributions == sorted(contributions, reverse=True)
        total = found[clip].sum().item()
        assert abs(sum(contributions) - total) <= precision["atol"] + precision["rtol"] * abs(total), "evidence is lost"
        for evidence in explanation.evidence:
            for box in evidence.region.boxes:
                assert 0 <= box.low < box.high <= 1, box
                assert 0 <= box.start < box.end <= 1, box
            for prototype in evidence.prototypes:
                assert 0 <= prototype.index < basis.origin.n_clips


def _check_saved(model, layer, basis, clips, target, folder) -> None:
    path = folder / "basis.safetensors"
    basis.save(path)
    again = PrototypeBasis.load(path)
    assert torch.equal(again.U, basis.U)
    one, other = (LayerAPEX(model, layer, each).attribute(clips, target, n_channels=2) for each in (basis, again))
    assert torch.equal(one, other), "a loaded basis explains otherwise"


def _target(random: np.random.Generator, shape: Shape, n_clips: int) -> Any:
    """A target in one of the forms that Captum takes; None where there is one score per clip."""
    if shape.output == "one logit" or (shape.n_classes == 1 and random.random() < 0.5):
        return None
    if shape.output == "squeezed" and (shape.n_classes == 1 or n_clips == 1):
        return None
    each = [int(index) for index in random.integers(0, shape.n_classes, n_clips)]
    return [each[0], each, torch.tensor(each), (each[0],)][int(random.integers(4))]


def _of_clip(target: Any, clip: int) -> Any:
    if isinstance(target, list):
        return target[clip]
    return target[clip].item() if isinstance(target, Tensor) else target


def _score(output: Tensor, target: Any, clip: int) -> Tensor:
    """The score of a clip; the model gives logits, or one per clip."""
    row = output[clip].flatten()
    index = _of_clip(target, clip)
    return row[0 if index is None else index[0] if isinstance(index, tuple) else index]


def _part(model: Drawn, layer: nn.Module) -> tuple[Drawn, nn.Module]:
    """A copy of the model in evaluation mode, and its layer."""
    twin = copy.deepcopy(model).eval().requires_grad_(False)
    return twin, (twin.features if layer is model.features else twin.features[2])


def _scores(model: Drawn, layer: nn.Module, clips: Tensor, target: Any) -> Tensor:
    """f(Z) − f(0) of each clip, clip by clip."""
    twin, part = _part(model, layer)
    scores = []
    for clip in range(len(clips)):
        inputs = clips[clip : clip + 1].detach().clone()
        plain = _score(twin(inputs).reshape(1, -1), _of_clip(target, clip), 0)
        handle = part.register_forward_hook(lambda _, __, output: torch.zeros_like(output))
        without = _score(twin(inputs).reshape(1, -1), _of_clip(target, clip), 0)
        handle.remove()
        scores.append(plain - without)
    return torch.stack(scores)


def _map_by_hand(model: Drawn, layer: nn.Module, clips: Tensor, target: Any, scheme: str) -> Tensor:
    """Σ_c G ⊙ Z on the grid of each clip, laid out by the scheme; the gradient clip by clip."""
    twin, part = _part(model, layer)
    maps = []
    for clip in range(len(clips)):
        leaves: list[Tensor] = []

        def leaf(_, __, output, leaves=leaves):
            leaves.append(output.detach().clone().requires_grad_())
            return leaves[0].clone()

        handle = part.register_forward_hook(leaf)
        output = twin(clips[clip : clip + 1].detach().clone())
        handle.remove()
        (gradient,) = torch.autograd.grad(_score(output.reshape(1, -1), _of_clip(target, clip), 0), leaves)
        product = (gradient * leaves[0].detach()).sum(1)[0]
        maps.append(laid_out(product[None] if product.dim() == 1 else product, scheme))
    return torch.stack(maps)


def _state(model: nn.Module) -> dict[str, Any]:
    return {
        "tensors": {name: tensor.detach().clone() for name, tensor in model.state_dict().items()},
        "training": [module.training for module in model.modules()],
        "gradients": [(parameter.requires_grad, parameter.grad) for parameter in model.parameters()],
        "hooks": sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules()),
    }


def _check_unchanged(before: dict[str, Any], after: dict[str, Any]) -> None:
    for name, tensor in before["tensors"].items():
        assert torch.equal(tensor, after["tensors"][name]), f"{name} of the model changed"
    assert {name: before[name] for name in before if name != "tensors"} == {
        name: after[name] for name in after if name != "tensors"
    }, "flags or hooks of the model changed"
