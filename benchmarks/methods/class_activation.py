"""Methods that explain the output of the layer; their maps are enlarged to the input."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from captum.attr import GuidedBackprop, LayerGradCam
from torch import Tensor, nn

from benchmarks.methods.gradients import check_relu
from benchmarks.methods.query import Query, features_of
from benchmarks.methods.region_maps import enlarged
from benchmarks.methods.registry import method
from captum_apex.layers.hooks import captured, frozen
from captum_apex.layers.layout import Layout
from captum_apex.layers.normalisation import ConstantVariance


@method("LayerGradCam")
def _grad_cam(query: Query) -> Tensor:
    return enlarged(_at_layer(query), query)


def _at_layer(query: Query) -> Tensor:
    """GradCAM on the grid of the layer, (clip, 1, row, column): that of Captum, which asks for channels on axis 1."""
    if query.layout == Layout():
        return LayerGradCam(query.model, query.layer).attribute(query.inputs, query.target)
    features, gradient = _features_and_gradient(query)
    return (gradient.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True)


@method("GuidedGradCam")
def _guided_grad_cam(query: Query) -> Tensor:
    """Guided backpropagation times GradCAM, whose map is enlarged as that of all methods.

    Captum's `GuidedGradCam` would give each bin the value of one cell, as if the cells filled the input.
    """
    check_relu(query.model)
    if query.band_shares is not None:
        raise NotImplementedError(
            "expected inputs with the layer's rows, but got spectra, where a bin has only shares of the bands of a row"
        )
    return GuidedBackprop(query.model).attribute(query.inputs, query.target) * enlarged(_at_layer(query).relu(), query)


@method("CAM")
def _cam(query: Query) -> Tensor:
    """Class activation mapping (arXiv 1512.04150): what each cell adds to the logit.

    Raises:
        TypeError: the modules after the layer are not pooling and one linear layer.
    """
    features = features_of(query, query.inputs)
    weights = _linear_head(query, features).weight[query.target]  # (class, channel) → (clip, channel)
    cells = features[0, 0].numel()
    return enlarged((weights[:, :, None, None] * features).sum(1, keepdim=True) / cells, query)


def _linear_head(query: Query, features: Tensor) -> nn.Linear:
    """The model's last linear layer, if it computes the logits from the mean of each channel.

    Raises:
        TypeError: there is no linear layer, or the logits are another function of the features.
    """
    linear = next((module for module in reversed(list(query.model.modules())) if isinstance(module, nn.Linear)), None)
    with torch.no_grad():
        logits = query.model(query.inputs[:1])
        pooled = features[:1].flatten(2).mean(2)  # (clip, channel, frequency, time) → (clip, channel)
        fits = linear is not None and linear.weight.shape == (logits.shape[1], pooled.shape[1])
        if linear is None or not fits or not torch.allclose(linear(pooled), logits, rtol=1e-3, atol=1e-4):
            raise TypeError(
                "expected a head that is pooling and one linear layer, "
                "but the logits are not linear in the layer's means"
            )
    return linear


# Grad-CAM++, LayerCAM and EigenCAM end with a ReLU in their papers. Here it is left out, as that of GradCAM is: signs
# count, and a region that speaks against the class comes last. Where the layer ends with a ReLU, it changes nothing in
# Grad-CAM++ and LayerCAM, whose weights are positive.


@method("GradCAM++")
def _grad_cam_plus_plus(query: Query) -> Tensor:
    """Grad-CAM++ (arXiv 1710.11063), for the exponential of the logit.

    Its weight of a channel is `Σ α · ReLU(g)` over the cells, with the gradient `g` of the logit and
    `α = g² / (2 g² + g³ · ΣA)`, where `ΣA` is the sum of the channel's activations. That is `1 / (2 + g · ΣA)`. The sum
    counts as 0 where it is negative, which a layer without ReLU allows: otherwise the denominator may be zero, or the
    weight have the wrong sign. The factor of the exponential, the same for all bins of a clip, is left out.
    """
    features, gradient = _features_and_gradient(query, ConstantVariance())
    positive = gradient.clamp_min(0)
    sums = features.sum((2, 3), keepdim=True).clamp_min(0)  # (clip, channel, 1, 1)
    weights = (positive / (2 + positive * sums)).sum((2, 3), keepdim=True)
    return enlarged((weights * features).sum(1, keepdim=True), query)


@method("LayerCAM")
def _layer_cam(query: Query) -> Tensor:
    """LayerCAM (doi 10.1109/TIP.2021.3089943): each cell of a channel has its own weight, its positive gradient."""
    features, gradient = _features_and_gradient(query, ConstantVariance())
    return enlarged((gradient.clamp_min(0) * features).sum(1, keepdim=True), query)


@method("EigenCAM")
def _eigen_cam(query: Query) -> Tensor:
    """EigenCAM (arXiv 2008.00299): the projection of each cell on the first right singular vector of all cells.

    It is a principal component of the activations without their mean taken away, and depends on no class. A singular
    vector has no sign; here the projections of a clip have a positive sum.
    """
    features = features_of(query, query.inputs)
    cells = features.flatten(2).transpose(1, 2).double()  # (clip, channel, frequency, time) → (clip, cell, channel)
    first = torch.linalg.svd(cells, full_matrices=False).Vh[:, 0]  # (clip, channel)
    projections = torch.einsum("nkc,nc->nk", cells, first)
    signs = projections.sum(1, keepdim=True).sign()
    return enlarged((signs * projections).reshape(features[:, :1].shape).to(features), query)


def _features_and_gradient(query: Query, mode: AbstractContextManager | None = None) -> tuple[Tensor, Tensor]:
    """The layer's output and the gradient of the logit at it, both (clip, channel, row, column).

    Where normalisations after the layer count as constant scalings, as in APEX (`ConstantVariance`), the gradient has a
    component along the output; without that it has none, and its positive part says little.
    """
    inputs = query.inputs.clone().requires_grad_()
    with frozen(query.model, query.layer), mode or nullcontext():
        with captured(query.layer, "of the query", replace=True) as capture:
            logits = query.model(inputs)
        features = capture.value
        (gradient,) = torch.autograd.grad(logits.gather(1, query.target[:, None]).sum(), features)
    return query.layout.grid(features.detach()), query.layout.grid(gradient)
