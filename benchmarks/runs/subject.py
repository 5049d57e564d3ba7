"""What a run explains: a task, a trained classifier, the bank of its layer and a basis per scheme; from the cache."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from benchmarks.cache import cache_path, cached
from benchmarks.classifiers import networks
from benchmarks.classifiers.networks import explained_layer
from benchmarks.classifiers.training import loaded_classifier, trained_classifier
from benchmarks.classifiers.waveform_networks import ENDING, waveform_model, waveform_task
from benchmarks.tasks import Split, Task, load_task
from captum_apex import SCHEMES, FeatureBank, PrototypeBasis, Scheme, fit_basis
from captum_apex.bases import (
    bank_folder,
    bank_writer,
    basis,
    clip_loading,
    collation,
    feature_pass,
    features,
    fit_plan,
    fitting,
    joined_parts,
    mapped_arrays,
    neighbours,
    part_files,
    part_writer,
    peak_search,
    polar_fit,
    processes,
    prototype_choice,
    schemes,
    shared_bank,
    sparse_labels,
)
from captum_apex.layers import (
    changes,
    holding,
    hooks,
    layer_output,
    layout,
    origin,
    padding,
    pooled_norm,
    still_models,
    values,
)
from captum_apex.layers.models import fingerprint, layer_name
from captum_apex.layers.origin import Origin
from captum_apex.layers.placing import cell_places

FIT = {"epochs": 20, "learning_rate": 1e-2}

# A bank and a basis in the cache depend on this code: what computes the features and fits the basis, and the format of
# their files. These are `features` and `fitting`, and all modules of `bases` and `layers` that they import except
# `models`: it gives names and fingerprints, which are in the key by their values. The regions of a scheme's cells
# (`audio.regions`) are not used in a fit. The text is compared with its comments: a changed comment costs one fit, a
# missed change of the code would give wrong numbers.
CODE = (
    *(bank_folder, bank_writer, basis, clip_loading, collation, feature_pass, features, fit_plan, fitting),
    *(joined_parts, mapped_arrays, neighbours, part_files, part_writer, peak_search, polar_fit, processes),
    *(prototype_choice, schemes, shared_bank, sparse_labels),
    *(changes, holding, hooks, layer_output, layout, origin, padding, pooled_norm, still_models, values),
)


@dataclass(frozen=True)
class Subject:
    """A trained classifier on a task, with fitted bases.

    Attributes:
        task: the clips.
        network: name of the classifier.
        model: the classifier, in evaluation mode.
        bank: features of the training clips.
        bases: the basis of each scheme, fitted on the bank.
        seed: seed of all random number generators.
        layer_name: name of the explained layer; empty for the last one before pooling.
        orthogonal: whether the bases are orthogonal.
        layer: the explained layer, a module of `model`.
    """

    task: Task
    network: str
    model: nn.Module
    bank: FeatureBank
    bases: Mapping[Scheme, PrototypeBasis]
    seed: int
    layer_name: str = ""
    orthogonal: bool = True
    layer: nn.Module = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "layer", explained_layer(self.model, self.layer_name))

    @property
    def norm(self) -> nn.Module | None:
        """The norm that is applied to the grid before the pooling; None where the bases are those of the layer."""
        return self.model.get_submodule(self.bank.origin.norm) if self.bank.origin.norm else None

    def test_clips(self, n_clips: int) -> tuple[list[int], Tensor]:
        """Test clips, evenly spaced in the test split; see `clips`."""
        return self.clips("test", n_clips)

    def clips(self, split: Split, n_clips: int) -> tuple[list[int], Tensor]:
        """Clips of one split of the task, evenly spaced.

        Returns:
            The indices of the clips, and their inputs (clip, channel, frequency, time) on the model's device.
        """
        dataset = getattr(self.task, split)
        n_clips = min(n_clips, len(dataset))
        indices = torch.linspace(0, len(dataset) - 1, n_clips).round().long().tolist()
        inputs = torch.stack([dataset[index][0] for index in indices])
        return indices, inputs.to(next(self.model.parameters()).device)


def prepare(
    task_name: str,
    network: str,
    *,
    seed: int = 0,
    device: str = "cpu",
    layer_name: str = "",
    orthogonal: bool = True,
    at_norm: bool = False,
    weights: Mapping[str, Tensor] | None = None,
    progress: bool = False,
) -> Subject:
    """Loads everything that a run needs from the cache; what is missing is computed and stored there.

    Args:
        task_name: a name in `benchmarks.tasks.TASKS`.
        network: a name in `benchmarks.classifiers.networks.NETWORKS`, or in
            `benchmarks.classifiers.waveform_networks.WAVEFORM_NETWORKS`.
        seed: seed of synthetic clips, training and fitting.
        device: the torch device on which the classifier runs.
        layer_name: name of the layer that is explained, see `benchmarks.classifiers.networks.explained_layer`.
        orthogonal: whether the bases are orthogonal, `U = exp(A − Aᵀ)`, or only invertible, `U = exp(A)`.
        at_norm: whether the norm behind the pooling is applied to the grid before bases are fitted; without effect for
            a network without one.
        weights: state dictionary of the network, in place of the trained one of the cache.
        progress: whether to show progress bars.

    Raises:
        FileNotFoundError: the task needs recordings that are not there.
        LayerError: the network has no such layer.

    Example:
        >>> from benchmarks.runs.subject import prepare
        >>> subject = prepare("scenes", "cnn")  # doctest: +SKIP
        >>> subject.bank.n_channels  # doctest: +SKIP
        128
    """
    task = load_task(task_name, seed)
    plain = network.removesuffix(ENDING)
    if weights is None:
        model = trained_classifier(task, plain, seed=seed, device=device, progress=progress)
    else:
        model = loaded_classifier(task, plain, weights, device=device)
    layer = explained_layer(model, layer_name)
    norm = networks.pooled_norm(model) if at_norm else None
    bank = _bank(task, model, layer, norm, progress).to(device)
    fit = FIT | {"orthogonal": orthogonal}
    key = _key(task, model, layer, norm)
    bases = {scheme: _basis(bank, scheme, seed, key, progress, fit) for scheme in SCHEMES}
    subject = _with_places(Subject(task, plain, model, bank, bases, seed, layer_name, orthogonal))
    return subject if network == plain else with_spectrogram_inside(subject)


def _with_places(subject: Subject) -> Subject:
    """The subject with the places of the layer's cells, which the library finds when it makes a bank."""
    origin = subject.bank.origin
    clip = subject.task.train[0][0][None].to(next(subject.model.parameters()).device)
    places = cell_places(subject.model, subject.layer, clip, layout=origin.layout, at_input=origin.at_input)
    return _with_origin(subject, replace(origin, places=places))


def with_spectrogram_inside(subject: Subject) -> Subject:
    """The same classifier with its log-mels inside, on the clips' spectra; features and bases are the same."""
    task = waveform_task(subject.task)
    model = waveform_model(subject.task, subject.model)
    origin_inside = replace(
        subject.bank.origin,
        layer=layer_name(model, subject.layer),
        norm="" if subject.norm is None else layer_name(model, subject.norm),
        fingerprint=fingerprint(model),
        input_shape=tuple(task.test[0][0].shape),
    )
    inside = replace(subject, task=task, network=f"{subject.network}{ENDING}", model=model)
    return _with_origin(inside, origin_inside)


def _with_origin(subject: Subject, origin: Origin) -> Subject:
    bases = {scheme: replace(fitted_basis, origin=origin) for scheme, fitted_basis in subject.bases.items()}
    return replace(subject, bank=replace(subject.bank, origin=origin), bases=bases)


def fitted(
    subject: Subject, scheme: Scheme | str, *, orthogonal: bool = True, progress: bool = False
) -> PrototypeBasis:
    """An orthogonal or invertible basis, fitted with the settings `FIT`; the subject's basis if it is of that kind.

    Args:
        subject: the bank that the basis is fitted on, and the seed.
        scheme: the scheme of the basis.
        orthogonal: whether the basis is orthogonal, `U = exp(A − Aᵀ)`, or only invertible, `U = exp(A)`.
        progress: whether to show a progress bar.
    """
    scheme = Scheme(scheme)
    if orthogonal == subject.orthogonal:
        return subject.bases[scheme]
    key = _key(subject.task, subject.model, subject.layer, subject.norm)
    other = _basis(subject.bank, scheme, subject.seed, key, progress, FIT | {"orthogonal": orthogonal})
    return replace(other, origin=subject.bank.origin)


def _bank(task: Task, model: nn.Module, layer: nn.Module, norm: nn.Module | None, progress: bool) -> FeatureBank:
    folder = cache_path("bank", _key(task, model, layer, norm)).with_suffix("")
    return cached(
        folder,
        FeatureBank.load,
        # Without places, which no feature depends on: `_with_places` finds them anew.
        make=lambda: FeatureBank.from_dataset(model, layer, task.train, norm=norm, places=False, progress=progress),
        save=FeatureBank.save,
    )


def _basis(bank: FeatureBank, scheme: Scheme, seed: int, key: dict, progress: bool, fit: dict) -> PrototypeBasis:
    return cached(
        cache_path("basis", {**key, "scheme": str(scheme), "seed": seed, **fit}),
        PrototypeBasis.load,
        make=lambda: fit_basis(bank, scheme, seed=seed, progress=progress, **fit),
        save=PrototypeBasis.save,
    )


def _key(task: Task, model: nn.Module, layer: nn.Module, norm: nn.Module | None) -> dict:
    return {
        "weights": fingerprint(model),
        "layer": layer_name(model, layer),
        "norm": "" if norm is None else layer_name(model, norm),
        "clips": task.train.fingerprint(),
        "code": [inspect.getsource(module) for module in CODE],
    }
