"""Layer-wise relevance propagation by the rules of Captum, and by those of zennit, which also cover a ConvNeXt."""

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

from benchmarks.methods.query import Query
from benchmarks.methods.registry import method


@method("LRP")
def _lrp(query: Query) -> Tensor:
    # Captum's convergence delta is not returned: it is what the biases absorb, by design.
    return LRP(query.model).attribute(query.inputs, query.target)


@method("LRP EpsilonPlus (zennit)")
def _epsilon_plus(query: Query) -> Tensor:
    """Convolutions pass relevance to the inputs that raise their output (z⁺), linear layers follow the ε rule."""
    return _relevance(query, "epsilon_plus")


@method("LRP EpsilonGammaBox (zennit)")
def _epsilon_gamma_box(query: Query) -> Tensor:
    """Convolutions favour the inputs that raise their output (γ), linear layers follow the ε rule.

    The box of the first layer reaches from silence to the maximum of the clip.
    """
    loudest = query.inputs.amax((1, 2, 3), keepdim=True).expand_as(query.inputs)
    return _relevance(query, "epsilon_gamma_box", low=torch.full_like(loudest, query.silence), high=loudest)


def _relevance(query: Query, composite: str, **settings: Tensor) -> Tensor:
    """The logit of the target, propagated back through the network by one of zennit's composites.

    zennit has rules for modules only. A product or a sum in a `forward` would keep its gradient, which is not a rule,
    and a residual sum would pass all its relevance to both of its terms. So each ConvNeXt block temporarily gets
    modules for its layer scale and its residual sum. The residual sum divides the relevance in proportion to its two
    terms. Layer scale, activation and normalisation pass relevance on unchanged, element by element, as in AttnLRP
    (arXiv 2402.05602): the mean and the variance of a normalisation count as constants. Batch normalisation is merged
    into the convolution before it.

    The relevance that biases absorb is missing in the total. On a trained PlainCNN the maps add up to 0.6 (EpsilonPlus)
    and 0.5 (EpsilonGammaBox) of the logit, on a trained ConvNeXt to 0.8 and 1.0; without the temporary modules it is
    −8.

    Args:
        query: clips and classifier.
        composite: name of one of zennit's composites.
        settings: further arguments of the composite.

    Raises:
        NotImplementedError: zennit is not installed, or the model computes its spectrogram itself.
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
    # On leaving the context, zennit restores hooks, modules and weights.
    with attribution.Gradient(query.model, rules_of_modules) as propagate:
        return propagate(query.inputs, lambda logits: logits * F.one_hot(query.target, logits.shape[1]))[1].detach()


class _LayerScale(nn.Module):
    """The layer scale of a ConvNeXt block as a module: a factor for each channel."""

    def __init__(self, gamma: Tensor | None) -> None:
        super().__init__()
        self.gamma = 1.0 if gamma is None else gamma.detach().reshape(1, -1, 1, 1)

    def forward(self, features: Tensor) -> Tensor:
        return features * self.gamma


def _block_of_modules(_: str, module: nn.Module, total: type[nn.Module]) -> dict[str, Any] | None:
    """The attributes that zennit sets on a ConvNeXt block for a while: two modules, and a `forward` that calls them.

    None for all other modules.
    """
    if not isinstance(module, ConvNeXtBlock):
        return None
    return {"layer_scale": _LayerScale(module.gamma), "residual_sum": total(), "forward": MethodType(_forward, module)}


def _forward(block: Any, features: Tensor) -> Tensor:
    """`ConvNeXtBlock.forward` with modules for the layer scale and the residual sum."""
    branch = block.conv_dw(features)
    branch = branch if block.use_conv_mlp else branch.permute(0, 2, 3, 1)
    branch = block.mlp(block.norm(branch))
    branch = branch if block.use_conv_mlp else branch.permute(0, 3, 1, 2)
    branch = block.drop_path(block.layer_scale(branch))
    return block.residual_sum(torch.stack([branch, block.shortcut(features)], -1))
