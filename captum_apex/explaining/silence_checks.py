"""Whether digital silence has a class for the model, so that what is explained for it need not be in the sound."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from captum_apex.caller import warn_caller
from captum_apex.classifiers.class_names import means_nothing
from captum_apex.classifiers.classifier import Classifier
from captum_apex.classifiers.logits import silence_bar
from captum_apex.result_tables import listed

if TYPE_CHECKING:
    from captum_apex.report import Page

__all__ = ["warn_of_classes_in_silence", "warn_of_pages_of_silence"]


def warn_of_classes_in_silence(classifier: Classifier) -> None:
    """Warns where digital silence has a class for the model; it takes one pass.

    Args:
        classifier: the classifier; nothing is said where it has no `length`, does not say whether its classes exclude
            each other, or takes no silence.

    Example:
        >>> import warnings
        >>> from captum_apex.demonstration import classifier
        >>> from captum_apex.explaining.silence_checks import warn_of_classes_in_silence
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warn_of_classes_in_silence(classifier())  # of eight classes; the first has 0.37
        >>> caught
        []
    """
    try:
        probabilities = classifier.silence_probabilities()
    except Exception:  # the user's code can raise anything for zeros, such as those that are no sound for it
        return
    bar = silence_bar(len(probabilities), classifier.exclusive, clearly=True)
    _warn({name: value for name, value in probabilities.items() if value > bar})


def warn_of_pages_of_silence(pages: Iterable[Page]) -> None:
    """Warns once where digital silence has a class that is explained.

    Args:
        pages: the explained clips.

    Example:
        >>> import warnings
        >>> from captum_apex.explaining.silence_checks import warn_of_pages_of_silence
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warn_of_pages_of_silence([])
        >>> caught
        []
    """
    doubted = {}
    for page in pages:
        bar = silence_bar(len(page.silence) or 1, page.exclusive, clearly=True)
        if page.silence_probability is not None and page.silence_probability > bar:
            name = page.class_name(page.target if page.explained is None else page.explained)
            doubted[name] = page.silence_probability
    _warn(doubted)


def _warn(probabilities: Mapping[str, float]) -> None:
    classes = [
        f"{name!r} (probability {value:.2f})" for name, value in probabilities.items() if not means_nothing(name)
    ]
    if classes:
        warn_caller(
            f"digital silence gets {listed(classes)}: what is explained for such a class need not be in the sound; "
            "compare with the probability in the clip"
        )
