"""Every attribution method, one registry: a function from a query to a map of the inputs' shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import torch
from captum.attr import (
    LRP,
    DeepLift,
    FeatureAblation,
    GradientShap,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LayerAttribution,
    LayerGradCam,
    Saliency,
)
from torch import Tensor, nn

from captum_apex import APEX, SCHEMES, PrototypeBasis, Scheme

Explained = Tensor | tuple[Tensor, Tensor]
STEPS = 32  # of Integrated Gradients, in every method that uses it
CLIPS_AT_ONCE = 32  # in one forward pass; larger batches are slower: their activations no longer fit what the allocator keeps


@dataclass(frozen=True)
class Query:
    """What a method is asked to explain; each call gets a deep copy of the model, so that none can spoil it for the next.

    Attributes:
        model: the classifier, in evaluation mode.
        layer: its explained layer.
        inputs: (clip, 1, frequency, time).
        target: the class of each clip whose logit is explained, int64 (clip,).
        fill: what the inputs are judged against: the baseline of every method that takes one, of the inputs' shape.
        grid: the region of each bin, int64 (frequency, time).
        silence: a bin without sound.
        bases: the fitted bases.
        seed: of methods that draw random numbers.
    """

    model: nn.Module
    layer: nn.Module
    inputs: Tensor
    target: Tensor
    fill: Tensor
    grid: Tensor
    silence: float
    bases: Mapping[Scheme, PrototypeBasis]
    seed: int

    def clips(self) -> list[Query]:
        """The same query for each clip alone."""
        return [
            replace(self, inputs=self.inputs[i : i + 1], target=self.target[i : i + 1], fill=self.fill[i : i + 1])
            for i in range(len(self.inputs))
        ]


@dataclass(frozen=True)
class Method:
    """A method and what its map depends on, so that it is computed once for all cells that share it.

    Attributes:
        explain: gives a map (clip, 1, frequency, time), or (map, convergence delta (clip,)).
        uses_fill: whether it takes the fill as a baseline.
        uses_grid: whether it works on the regions.
    """

    explain: Callable[[Query], Explained]
    uses_fill: bool = False
    uses_grid: bool = False


METHODS: dict[str, Method] = {}


def method(name: str, *, uses_fill: bool = False, uses_grid: bool = False) -> Callable[[Callable[[Query], Explained]], Callable]:
    """Registers a function under the name that tables show."""

    def register(explain: Callable[[Query], Explained]) -> Callable[[Query], Explained]:
        METHODS[name] = Method(explain, uses_fill, uses_grid)
        return explain

    return register


def integrated(score: Callable, inputs: Tensor, additional_forward_args: tuple, baseline: Tensor) -> Tensor:
    """Integrated Gradients of a score, as `APEX` takes it for a projection."""
    at_once = max(CLIPS_AT_ONCE, len(inputs))  # Captum warns of anything smaller than the batch
    return IntegratedGradients(score).attribute(
        inputs, baseline, additional_forward_args=additional_forward_args, n_steps=STEPS, internal_batch_size=at_once
    )


def _apex(query: Query, scheme: Scheme) -> Tensor:
    return APEX(query.model, query.layer, query.bases[scheme]).attribute(query.inputs, query.target)


def _apex_integrated(query: Query, scheme: Scheme) -> Tensor:
    projection = partial(integrated, baseline=query.fill)
    return APEX(query.model, query.layer, query.bases[scheme], projection=projection).attribute(query.inputs, query.target)


for _scheme in SCHEMES:
    METHODS[f"APEX {_scheme}"] = Method(partial(_apex, scheme=_scheme))
for _scheme in SCHEMES:
    METHODS[f"APEX {_scheme}, through IG"] = Method(partial(_apex_integrated, scheme=_scheme), uses_fill=True)


@method("LayerGradCam")
def _grad_cam(query: Query) -> Tensor:
    at_layer = LayerGradCam(query.model, query.layer).attribute(query.inputs, query.target)
    return LayerAttribution.interpolate(at_layer, tuple(query.inputs.shape[2:]), "bilinear")


@method("LRP")
def _lrp(query: Query) -> Tensor:
    return LRP(query.model).attribute(query.inputs, query.target)  # its delta is what the biases absorb, by design


@method("GradientShap", uses_fill=True)
def _gradient_shap(query: Query) -> Tensor:
    # Clip by clip: Captum draws a baseline out of all that are given, and each clip has one of its own.
    maps = [
        GradientShap(clip.model).attribute(clip.inputs, clip.fill, n_samples=STEPS, stdevs=0.1, target=clip.target)
        for clip in query.clips()
    ]
    return torch.cat(maps)


@method("KernelShap", uses_fill=True, uses_grid=True)
def _kernel_shap(query: Query) -> Tensor:
    mask = query.grid[None, None]
    n_samples = 2 * int(query.grid.max() + 1)  # the least squares then have twice as many equations as unknowns
    maps = [
        KernelShap(clip.model).attribute(
            clip.inputs, clip.fill, clip.target, feature_mask=mask, n_samples=n_samples, perturbations_per_eval=CLIPS_AT_ONCE
        )
        for clip in query.clips()
    ]
    return torch.cat(maps)


@method("IntegratedGradients", uses_fill=True)
def _integrated_gradients(query: Query) -> Explained:
    at_once = max(CLIPS_AT_ONCE, len(query.inputs))
    return IntegratedGradients(query.model).attribute(
        query.inputs, query.fill, query.target, n_steps=STEPS, internal_batch_size=at_once, return_convergence_delta=True
    )


@method("InputXGradient")
def _input_x_gradient(query: Query) -> Tensor:
    return InputXGradient(query.model).attribute(query.inputs, query.target)


@method("Saliency")
def _saliency(query: Query) -> Tensor:
    return Saliency(query.model).attribute(query.inputs, query.target)


@method("Occlusion", uses_fill=True, uses_grid=True)
def _occlusion(query: Query) -> Tensor:
    # Captum's Occlusion slides one window over the input; with regions of unequal size, ablating them one by one is the same thing.
    mask = query.grid[None, None]
    return FeatureAblation(query.model).attribute(query.inputs, query.fill, query.target, feature_mask=mask)


@method("DeepLift", uses_fill=True)
def _deep_lift(query: Query) -> Explained:
    return DeepLift(query.model).attribute(query.inputs, query.fill, query.target, return_convergence_delta=True)


@method("random")
def _random(query: Query) -> Tensor:
    return torch.rand(query.inputs.shape, generator=torch.Generator().manual_seed(query.seed)).to(query.inputs)


@method("energy")
def _energy(query: Query) -> Tensor:
    """How far each bin is above silence, in the model's own units (decibels over a constant)."""
    return query.inputs - query.silence
