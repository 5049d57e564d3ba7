"""What a run explains: a task, a trained classifier, the bank of its layer and a basis per scheme, each taken from the cache."""

from __future__ import annotations

import contextlib
import inspect
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.cache import cache_path
from benchmarks.classifiers.networks import explained_layer
from benchmarks.classifiers.training import trained_classifier
from benchmarks.classifiers.waveform_networks import ENDING, waveform_model, waveform_task
from benchmarks.tasks import Split, Task, load_task
from captum_apex import SCHEMES, FeatureBank, PrototypeBasis, Scheme, fit_basis
from captum_apex.bases import basis, features, fitting, schemes
from captum_apex.layers.models import fingerprint, layer_name

FIT = {"epochs": 20, "learning_rate": 1e-2}


@dataclass(frozen=True)
class Subject:
    """A trained classifier on a task, ready to be explained.

    Attributes:
        task: the clips.
        network: name of the classifier.
        model: the classifier, in evaluation mode.
        bank: features of the training clips.
        bases: fitted on the bank, one per scheme.
        seed: of everything that is random.
        layer_name: of the explained layer; empty for the last one before pooling.
        orthogonal: the kind of the bases.
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

    def test_clips(self, n_clips: int) -> tuple[list[int], Tensor]:
        """Test clips spread evenly over the test part: indices, and inputs (clip, channel, frequency, time) on the model's device."""
        return self.clips("test", n_clips)

    def clips(self, part: Split, n_clips: int) -> tuple[list[int], Tensor]:
        """Clips spread evenly over a part of the task; see `test_clips`."""
        dataset = getattr(self.task, part)
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
    progress: bool = False,
) -> Subject:
    """Loads or makes everything that a run needs.

    Args:
        task_name: a name in `benchmarks.tasks.TASKS`.
        network: a name in `benchmarks.classifiers.networks.NETWORKS`, or in `benchmarks.classifiers.waveform_networks.WAVEFORM_NETWORKS`.
        seed: of clips, training and fitting.
        device: where the classifier runs.
        layer_name: of the layer that is explained, see `benchmarks.classifiers.networks.explained_layer`.
        orthogonal: the kind of the bases: `U = exp(A − Aᵀ)`; otherwise `U = exp(A)`.
        progress: show progress bars.

    Raises:
        LayerError: the network has no such layer.
    """
    task = load_task(task_name, seed)
    plain = network.removesuffix(ENDING)
    model = trained_classifier(task, plain, seed=seed, device=device, progress=progress)
    layer = explained_layer(model, layer_name)
    bank = _bank(task, model, layer, progress).to(device)
    fit, key = FIT | {"orthogonal": orthogonal}, _key(task, model, layer)
    bases = {scheme: _basis(bank, scheme, seed, key, progress, fit) for scheme in SCHEMES}
    subject = Subject(task, plain, model, bank, bases, seed, layer_name, orthogonal)
    return subject if network == plain else with_spectrogram_inside(subject)


def with_spectrogram_inside(subject: Subject) -> Subject:
    """The same classifier on the clips' spectra: its layer hears the same log-mels, so the features and the bases are the same."""
    task, model = waveform_task(subject.task), waveform_model(subject.task, subject.model)
    name, shape = layer_name(model, subject.layer), tuple(task.test[0][0].shape)
    origin = replace(subject.bank.origin, layer=name, fingerprint=fingerprint(model), input_shape=shape)
    bases = {scheme: replace(basis, origin=origin) for scheme, basis in subject.bases.items()}
    return replace(
        subject,
        task=task,
        network=f"{subject.network}{ENDING}",
        model=model,
        bank=replace(subject.bank, origin=origin),
        bases=bases,
    )


def fitted(
    subject: Subject, scheme: Scheme | str, *, orthogonal: bool = True, progress: bool = False
) -> PrototypeBasis:
    """A basis of either kind, fitted as `FIT` says: the subject's own where it is of that kind, else from the cache.

    Args:
        subject: whose bank and seed.
        scheme: the perspective.
        orthogonal: `U = exp(A − Aᵀ)`; otherwise `U = exp(A)`.
        progress: show a progress bar.
    """
    scheme = Scheme(scheme)
    if orthogonal == subject.orthogonal:
        return subject.bases[scheme]
    key = _key(subject.task, subject.model, subject.layer)
    return _basis(subject.bank, scheme, subject.seed, key, progress, FIT | {"orthogonal": orthogonal})


def _bank(task: Task, model: nn.Module, layer: nn.Module, progress: bool) -> FeatureBank:
    folder = cache_path("bank", _key(task, model, layer)).with_suffix("")
    with contextlib.suppress(ValueError):  # not there, or not whole
        return FeatureBank.load(folder)
    bank = FeatureBank.from_dataset(model, layer, task.train, progress=progress)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(dir=folder.parent))
    bank.save(beside)
    shutil.rmtree(folder, ignore_errors=True)
    try:
        beside.rename(folder)
    except OSError:  # another run was faster, with the same features
        shutil.rmtree(beside)
    return bank


def _basis(bank: FeatureBank, scheme: Scheme, seed: int, key: dict, progress: bool, fit: dict) -> PrototypeBasis:
    path = cache_path("basis", {**key, "scheme": str(scheme), "seed": seed, **fit})
    with contextlib.suppress(ValueError, FileNotFoundError):
        return PrototypeBasis.load(path)
    found = fit_basis(bank, scheme, seed=seed, progress=progress, **fit)
    path.parent.mkdir(parents=True, exist_ok=True)
    found.save(path)
    return found


def _key(task: Task, model: nn.Module, layer: nn.Module) -> dict:
    code = [inspect.getsource(module) for module in (basis, features, fitting, schemes)]
    return {
        "weights": fingerprint(model),
        "layer": layer_name(model, layer),
        "clips": task.train.fingerprint(),
        "code": code,
    }
