"""A classifier from a function that gives embeddings, with classes that are fitted to labelled recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from captum_apex.classifiers.classifier import Classifier
from captum_apex.extras import missing_package
from captum_apex.pretrained.embedded_windows import EmbeddedWindows
from captum_apex.recordings.folders import AudioDataset

__all__ = ["from_embeddings"]


def from_embeddings(
    embed: Callable[[NDArray[np.float32]], Any],
    recordings: AudioDataset,
    unseen: AudioDataset,
    *,
    sample_rate: int,
    window: int,
    hop: int | None = None,
    length: int | None = None,
    batch_size: int = 32,
) -> Classifier:
    """A `Classifier` from a function that gives embeddings and nothing else.

    The classes are those of the labelled recordings. A logistic regression (of scikit-learn, on standardised
    embeddings) is fitted to the mean embedding of each clip, and becomes the head of an `EmbeddedWindows`. What is
    explained is this head: the function itself knows nothing of the classes. `classifier.model.accuracy` says how many
    of the unseen clips it classifies correctly; explanations of a head that guesses say nothing.

    Args:
        embed: function from windows, a float32 array (window, sample), to their embeddings (window, dimension).
        recordings: labelled clips that the classes are fitted to, with one label each; `Explainer.fit` takes the same.
        unseen: labelled clips on which the accuracy is measured: of other sources or speakers where the collection has
            groups.
        sample_rate: sample rate of the windows in Hz.
        window: length of a window, in samples: what `embed` takes.
        hop: samples from the start of one window to that of the next; by default `window`.
        length: length of every clip in samples, as in `Classifier`; several windows, so that there is something to
            choose from. By default `window`: one window, for which only the prototypes are of use.
        batch_size: largest number of windows that `embed` gets at once; 1 for a network that takes a single window.

    Returns:
        The classifier, of waveforms; `layer` is the embeddings, and `exclusive` is True.

    Raises:
        ValueError: the recordings have no labels, several labels each, or no clip of a class; the classes of the unseen
            recordings are others; an embedding is NaN; or an error of `EmbeddedWindows` or `Classifier`.
        ImportError: scikit-learn cannot be imported.

    Example:
        >>> import torch
        >>> from captum_apex.pretrained import from_embeddings
        >>> class Tones:
        ...     class_names = ("quiet", "loud")
        ...     labels = (0, 1, 0, 1)
        ...     def __len__(self):
        ...         return 4
        ...     def name(self, index):
        ...         return f"tone {index}"
        ...     def waveform(self, index, sample_rate, length=None, *, convert=True):
        ...         return torch.full((4,), 1.0 + index % 2)
        >>> def embed(windows):
        ...     return abs(windows).mean(axis=1, keepdims=True)
        >>> classifier = from_embeddings(embed, Tones(), Tones(), sample_rate=8000, window=2, length=4)
        >>> classifier.model.accuracy, classifier.model
        (1.0, EmbeddedWindows(
          window=2, hop=2, accuracy on unseen clips=1.00
          (embed): ArrayFunction()
          (embeddings): Identity()
          (head): Linear(in_features=1, out_features=2, bias=True)
        ))
    """
    model = EmbeddedWindows(embed, nn.Identity(), window, hop, batch_size)
    names = recordings.class_names
    shape: dict[str, Any] = {"length": window if length is None else length, "layer": model.embeddings}
    classifier = Classifier(model, torch.clone, sample_rate, names, **shape, exclusive=len(names) > 1 or None)
    embeddings, labels = _labelled(classifier, recordings, "recordings")
    missing = sorted(set(range(len(names))) - set(labels.tolist()))
    if missing or len(names) < 2:
        classes = ", ".join(names[index] for index in missing) or "a second class"
        raise ValueError(f"expected recordings of at least two classes, and of each class, but got none of {classes}")
    head = _fitted(embeddings, labels)
    unseen_embeddings, unseen_labels = _labelled(classifier, unseen, "unseen")
    model.head = head
    with torch.no_grad():
        model.accuracy = (head(unseen_embeddings).argmax(1) == unseen_labels).double().mean().item()
    return replace(classifier)


def _labelled(classifier: Classifier, recordings: AudioDataset, name: str) -> tuple[Tensor, Tensor]:
    """The mean embedding of each clip, (clip, dimension), and the labels, (clip,)."""
    dataset = classifier.dataset(recordings)
    if recordings.labels is None or not len(recordings):
        raise ValueError(f"expected `{name}` to be clips with labels, but got {len(recordings)} clips without labels")
    labels = torch.as_tensor(np.asarray(recordings.labels))
    if labels.dim() != 1:
        raise ValueError(f"expected `{name}` with one label for each clip, but got labels {tuple(labels.shape)}")
    with torch.no_grad():
        embeddings = [classifier.model(dataset.input(index)[None])[0] for index in range(len(dataset))]
    for index, embedding in enumerate(embeddings):
        if not embedding.isfinite().all():
            raise ValueError(f"expected finite embeddings, but got NaN or infinity for {recordings.name(index)}")
    return torch.stack(embeddings), labels


def _fitted(embeddings: Tensor, labels: Tensor) -> nn.Linear:
    """The logits of a logistic regression, as a linear layer of the embeddings as they are."""
    try:
        from sklearn.linear_model import LogisticRegression
    except ImportError as error:
        raise missing_package("scikit-learn, which fits the classes", "benchmarks", error) from error
    values = embeddings.double().numpy()
    mean = values.mean(0)
    scale = values.std(0)
    scale[scale == 0] = 1  # a dimension that is constant says nothing
    fitted = LogisticRegression(max_iter=1000).fit((values - mean) / scale, labels.numpy())
    weights = fitted.coef_ / scale
    biases = fitted.intercept_ - weights @ mean
    if len(weights) == 1:  # of two classes, the logit of the second one: half for it, half against the first
        weights = np.concatenate([-weights, weights]) / 2
        biases = np.concatenate([-biases, biases]) / 2
    head = nn.Linear(weights.shape[1], weights.shape[0])
    head.load_state_dict({"weight": torch.from_numpy(weights), "bias": torch.from_numpy(biases)})
    return head.requires_grad_(False)
