"""What would make explanations of a classifier wrong, in words."""

from __future__ import annotations

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.transform_frequencies import check_frequencies
from captum_apex.classifiers.transform_times import check_times

__all__ = ["TOLERANCE", "are_flipped", "faults_of_output", "faults_of_transform"]

_OUTPUTS = {
    "softmax": (
        "The model ends in a softmax: contributions would be those to a probability. Explain "
        "`captum_apex.SelectedOutput(model, module)`, with the module inside the model that gives the logits."
    ),
    "log-softmax": (
        "The model ends in a log-softmax: contributions would be those to the logarithm of a probability. Explain "
        "`captum_apex.SelectedOutput(model, module)`, with the module inside the model that gives the logits."
    ),
    "sigmoid": (
        "The model ends in a sigmoid: contributions would be those to a probability. Explain "
        "`captum_apex.SelectedOutput(model, torch.logit)`, whose scores are the logits."
    ),
}


def faults_of_transform(classifier: Classifier, n_samples: int, input_layout: str | None) -> list[str]:
    """Where the inputs have other times or frequencies than the classifier says, found with clicks and tones.

    Args:
        classifier: the classifier.
        n_samples: length of the clip, in samples.
        input_layout: axes of the inputs; None where the last two axes are frequency and time.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.examination.faults import faults_of_transform
        >>> classifier = Classifier(torch.nn.Linear(800, 1), lambda waveform: waveform.flip(0), 8000, ["dog"])
        >>> [fault[:75] for fault in faults_of_transform(classifier, 800, None)]
        ['expected a transform whose input has the times of the sound, but a click at']
    """
    about = (n_samples, classifier.sample_rate, classifier.axes, input_layout)
    faults = []
    try:
        check_times(classifier.transform, *about)
    except ValueError as error:
        faults.append(str(error))
    try:
        if classifier.axes is not None:
            check_frequencies(classifier.transform, n_samples, classifier.sample_rate, classifier.axes, input_layout)
    except ValueError as error:
        faults.append(str(error))
    return faults


def are_flipped(classifier: Classifier, n_samples: int, input_layout: str | None) -> bool:
    """Whether the inputs have the frequencies of the classifier's axes in reverse order.

    Args:
        classifier: the classifier.
        n_samples: length of the clip, in samples.
        input_layout: axes of the inputs; None where the last two axes are frequency and time.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier, SpectrogramAxes
        >>> from captum_apex.examination.faults import are_flipped
        >>> from torchaudio.transforms import Spectrogram
        >>> spectrogram = Spectrogram(n_fft=256, hop_length=80)
        >>> axes = SpectrogramAxes(8000, 256, 80)
        >>> def upside_down(waveform):
        ...     return spectrogram(waveform).flip(0)
        >>> are_flipped(Classifier(torch.nn.Flatten(), upside_down, 8000, ["dog"], axes), 8000, None)
        True
    """
    if classifier.axes is None or not _fits(classifier, classifier.axes.flipped(), n_samples, input_layout):
        return False
    return not _fits(classifier, classifier.axes, n_samples, input_layout)


def _fits(classifier: Classifier, axes: SpectrogramAxes, n_samples: int, input_layout: str | None) -> bool:
    try:
        check_frequencies(classifier.transform, n_samples, classifier.sample_rate, axes, input_layout)
    except ValueError:
        return False
    return True


def faults_of_output(scores_are: str, batch_difference: float | None, repeat_difference: float) -> list[str]:
    """What is wrong with the scores.

    Args:
        scores_are: what they are, from `captum_apex.classifiers.logits.kind_of_scores`.
        batch_difference: largest difference between the scores of clips in a batch and one by one, as a share of the
            largest score; None where the model takes no batch of two.
        repeat_difference: the same for a clip that runs twice.

    Example:
        >>> from captum_apex.examination.faults import faults_of_output
        >>> faults_of_output("logits", 1e-7, 0.0)
        []
    """
    faults = [_OUTPUTS[scores_are]] if scores_are in _OUTPUTS else []
    if repeat_difference > TOLERANCE:
        faults.append(
            f"The model gives other scores when a clip runs a second time, by up to {repeat_difference:.0%} of the "
            "largest score: something in it is random also in evaluation mode."
        )
    elif batch_difference is not None and batch_difference > TOLERANCE:
        faults.append(
            f"The scores of a clip depend on the others of its batch, by up to {batch_difference:.0%} of the largest "
            "score, as where a normalisation takes the statistics of the batch: explain clips one by one, with "
            "`batch_size=1` in the bank."
        )
    return faults


TOLERANCE = 1e-4
"""Difference of scores, as a share of the largest one, that is taken for rounding."""
