"""Layer-wise relevance propagation: by Captum's rules, and by zennit's, which find a way through a ConvNeXt."""

from __future__ import annotations

from functools import partial
from types import MethodType
from typing import Any

import torch
from captum.attr import LRP
from timm.layers import GELU
from timm.models.convnext import ConvNeXtBlock
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.methods.registry import Query, method


@method("LRP")
def _lrp(query: Query) -> Tensor:
    return LRP(query.model).attribute(query.inputs, query.target)  # its delta is what the biases absorb, by design


@method("LRP EpsilonPlus (zennit)")
def _epsilon_plus(query: Query) -> Tensor:
    """Convolutions hand relevance to what excites them (z⁺), linear layers to each input's share of the sum (ε)."""
    return _relevance(query, "epsilon_plus")


@method("LRP EpsilonGammaBox (zennit)")
def _epsilon_gamma_box(query: Query) -> Tensor:
    """Convolutions favour what excites them (γ), linear layers as above; the first layer's box is from silence to the clip's maximum."""
    loudest = query.inputs.amax((1, 2, 3), keepdim=True).expand_as(query.inputs)
    return _relevance(query, "epsilon_gamma_box", low=torch.full_like(loudest, query.silence), high=loudest)


def _relevance(query: Query, composite: str, **settings: Tensor) -> Tensor:
    """The target's logit, handed back through the network by one of zennit's composites.

    zennit sees modules only: a product or a sum in a `forward` would keep its gradient, which is no rule, and a residual sum would hand all
    its relevance to both of its sides. So each ConvNeXt block is lent modules for its layer scale and its residual sum. The sum shares the
    relevance as its two sides contribute; layer scale, activation and normalisation hand on what they get, element by element, as in
    AttnLRP (arXiv 2402.05602): a normalisation's mean and variance count as constants. Batch normalisation is merged into the convolution
    before it. What biases absorb is missing in the total: on a trained PlainCNN the maps add up to 0.6 (EpsilonPlus) and 0.5
    (EpsilonGammaBox) of the logit, on a trained ConvNeXt to 0.8 and 1.0, where without the lent modules it is −8.

    Raises:
        NotImplementedError: zennit is not installed, or the model has its spectrogram inside.
    """
    if query.band_shares is not None:
        raise NotImplementedError(
            "expected a network of layers, but its spectrogram is inside, for which there is no rule"
        )
    try:
        from zennit import attribution, canonizers, composites, layer, rules
    except ImportError as error:
        raise NotImplementedError(
            "expected the package zennit, but it is not installed; `pip install zennit` brings it"
        ) from error
    unchanged = ((nn.LayerNorm, GELU, _LayerScale), rules.Pass())
    changes = [
        canonizers.SequentialMergeBatchNorm(),
        canonizers.AttributeCanonizer(partial(_block_of_modules, total=layer.Sum)),
    ]
    rules_of_modules = composites.COMPOSITES[composite](layer_map=[unchanged], canonizers=changes, **settings)
    with attribution.Gradient(
        query.model, rules_of_modules
    ) as propagate:  # on leaving, hooks, modules and weights are put back
        return propagate(query.inputs, lambda logits: logits * F.one_hot(query.target, logits.shape[1]))[1].detach()


class _LayerScale(nn.Module):
    """A ConvNeXt block's own factor for each channel, (clip, channel, frequency, time)."""

    def __init__(self, gamma: Tensor | None) -> None:
        super().__init__()
        self.gamma = 1.0 if gamma is None else gamma.detach().reshape(1, -1, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gamma


def _block_of_modules(_: str, module: nn.Module, total: type[nn.Module]) -> dict[str, Any] | None:
    """What zennit lends a module while it works: to a ConvNeXt block, the two modules and a `forward` that uses them; else nothing."""
    if not isinstance(module, ConvNeXtBlock):
        return None
    return {"layer_scale": _LayerScale(module.gamma), "residual_sum": total(), "forward": MethodType(_forward, module)}


def _forward(block: Any, features: Tensor) -> Tensor:
    """As `ConvNeXtBlock.forward`."""
    branch = block.conv_dw(features)
    branch = branch if block.use_conv_mlp else branch.permute(0, 2, 3, 1)
    branch = block.mlp(block.norm(branch))
    branch = branch if block.use_conv_mlp else branch.permute(0, 3, 1, 2)
    branch = block.drop_path(block.layer_scale(branch))
    return block.residual_sum(torch.stack([branch, block.shortcut(features)], -1))
