"""Captum's methods that propagate a gradient back to the input."""

from __future__ import annotations

import torch
from captum.attr import (
    Deconvolution,
    DeepLift,
    DeepLiftShap,
    GradientShap,
    GuidedBackprop,
    InputXGradient,
    IntegratedGradients,
    NoiseTunnel,
    Saliency,
)
from torch import Tensor, nn

from benchmarks.methods.prototype_maps import STEPS
from benchmarks.methods.query import CLIPS_AT_ONCE, Query
from benchmarks.methods.registry import Explained, method

NOISE = 0.1  # standard deviation of the noise in methods that add noise, as a share of the clip's range
NOISY_COPIES = 8  # copies of the clip in the noise tunnel
BASELINES = 4  # baselines of DeepLiftShap: the fill, and noisy copies of it


@method("Saliency")
def _saliency(query: Query) -> Tensor:
    return Saliency(query.model).attribute(query.inputs, query.target)


@method("InputXGradient")
def _input_x_gradient(query: Query) -> Tensor:
    return InputXGradient(query.model).attribute(query.inputs, query.target)


@method("IntegratedGradients", uses_fill=True)
def _integrated_gradients(query: Query) -> Explained:
    batch_size = max(CLIPS_AT_ONCE, len(query.inputs))  # Captum warns if it is smaller than the number of clips
    return IntegratedGradients(query.model).attribute(
        query.inputs,
        query.fill,
        query.target,
        n_steps=STEPS,
        internal_batch_size=batch_size,
        return_convergence_delta=True,
    )


@method("DeepLift", uses_fill=True)
def _deep_lift(query: Query) -> Explained:
    return DeepLift(query.model).attribute(query.inputs, query.fill, query.target, return_convergence_delta=True)


# These get one clip per call: Captum pairs every clip with every baseline, while here each clip has its own baseline,
# and it takes one standard deviation of the noise per call.


@method("DeepLiftShap", uses_fill=True, batch=1)
def _deep_lift_shap(clip: Query) -> Explained:
    noise = torch.randn(BASELINES, *clip.fill.shape[1:]).to(clip.fill) * _noise(clip)
    noise[0] = 0  # the fill itself
    attributions, deltas = DeepLiftShap(clip.model).attribute(
        clip.inputs, clip.fill + noise, clip.target, return_convergence_delta=True
    )
    return attributions, deltas.mean(0, keepdim=True)


@method("GradientShap", uses_fill=True, batch=1)
def _gradient_shap(clip: Query) -> Tensor:
    return GradientShap(clip.model).attribute(
        clip.inputs, clip.fill, n_samples=STEPS, stdevs=_noise(clip), target=clip.target
    )


@method("NoiseTunnel (Saliency)", batch=1)
def _noise_tunnel(clip: Query) -> Tensor:
    """SmoothGrad (arXiv 1706.03825): the mean absolute gradient of noisy copies of the clip."""
    tunnel = NoiseTunnel(Saliency(clip.model))
    return tunnel.attribute(
        clip.inputs, nt_type="smoothgrad", nt_samples=NOISY_COPIES, stdevs=_noise(clip), target=clip.target
    )


@method("NoiseTunnel (IntegratedGradients)", uses_fill=True, default=False, batch=1)
def _noisy_integrated_gradients(clip: Query) -> Tensor:
    """SmoothGrad of Integrated Gradients (arXiv 1706.03825): their mean over noisy copies of the clip.

    Each copy is integrated from the fill to the copy. The map adds up to the mean logit of the copies over that of the
    fill, so there is no delta for the clip itself. It takes as many gradients as there are copies times steps, so a run
    has to name it.
    """
    tunnel = NoiseTunnel(IntegratedGradients(clip.model))
    return tunnel.attribute(
        clip.inputs,
        nt_type="smoothgrad",
        nt_samples=NOISY_COPIES,
        stdevs=_noise(clip),
        baselines=clip.fill,
        target=clip.target,
        n_steps=STEPS,
        internal_batch_size=CLIPS_AT_ONCE,
    )


@method("GuidedBackprop")
def _guided_backprop(query: Query) -> Tensor:
    check_relu(query.model)
    return GuidedBackprop(query.model).attribute(query.inputs, query.target)


@method("Deconvolution")
def _deconvolution(query: Query) -> Tensor:
    check_relu(query.model)
    return Deconvolution(query.model).attribute(query.inputs, query.target)


def check_relu(model: nn.Module) -> None:
    """Refuses a model without ReLU modules: methods that change the gradient of ReLU would return the plain gradient.

    Raises:
        NotImplementedError: the model has no `nn.ReLU`.
    """
    if not any(isinstance(module, nn.ReLU) for module in model.modules()):
        raise NotImplementedError(
            "expected a model with nn.ReLU modules, whose gradient the method changes, but it has none"
        )


def _noise(clip: Query) -> float:
    return NOISE * (clip.inputs.max() - clip.inputs.min()).item()
