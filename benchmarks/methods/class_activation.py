"""Methods that explain the output of the layer; their maps are enlarged to the input."""

from __future__ import annotations

import torch
from captum.attr import GuidedBackprop, LayerActivation, LayerGradCam
from torch import Tensor, nn

from benchmarks.methods.gradients import check_relu
from benchmarks.methods.query import Query
from benchmarks.methods.region_maps import enlarged
from benchmarks.methods.registry import method


@method("LayerGradCam")
def _grad_cam(query: Query) -> Tensor:
    return enlarged(LayerGradCam(query.model, query.layer).attribute(query.inputs, query.target), query)


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
    at_layer = LayerGradCam(query.model, query.layer).attribute(query.inputs, query.target, relu_attributions=True)
    return GuidedBackprop(query.model).attribute(query.inputs, query.target) * enlarged(at_layer, query)


@method("CAM")
def _cam(query: Query) -> Tensor:
    """Class activation mapping (arXiv 1512.04150): what each cell adds to the logit.

    Raises:
        TypeError: the modules after the layer are not pooling and one linear layer.
    """
    features = LayerActivation(query.model, query.layer).attribute(query.inputs)  # (clip, channel, frequency, time)
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
