"""Whether the inputs of a classifier are spectrograms on its axes."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.layers.layout import input_axes

__all__ = ["check_time_axis", "warn_of_missing_axes"]


def check_time_axis(shape: Sequence[int], axes: SpectrogramAxes, input_layout: str | None, name: str) -> None:
    """Raises where the axis of an input that is read as time has the bins of the axes, and that of frequency has not.

    Args:
        shape: shape of the input, without the clip axis.
        axes: axes of the input.
        input_layout: layout of the input with its clip axis; None where the last axis is time.
        name: name of the clip, for the message.

    Raises:
        ValueError: frequency and time are swapped.

    Example:
        >>> from captum_apex import SpectrogramAxes
        >>> from captum_apex.classifiers.spectrogram_inputs import check_time_axis
        >>> axes = SpectrogramAxes(8000, 256, 80, n_mels=40)
        >>> check_time_axis((101, 40), axes, "n t f", "new.wav")
        >>> try:
        ...     check_time_axis((101, 40), axes, None, "new.wav")
        ... except ValueError as error:
        ...     print(str(error).partition('; ')[2])
        give the Classifier input_layout="n t f"
    """
    letters = _letters(shape, input_layout)
    if "f" not in letters or len(letters) != len(shape):
        return
    sizes = dict(zip(letters, shape, strict=True))
    if sizes["f"] == axes.n_bins or sizes["t"] != axes.n_bins:
        return
    swapped = " ".join(["n", *letters]).translate(str.maketrans("ft", "tf"))
    raise ValueError(
        f"expected inputs of {axes.n_bins} bins for frequency, as `axes` has, but the transform gives shape "
        f"{tuple(shape)} for {name}, read as {' '.join(letters)!r}: time is where the bins are; give the Classifier "
        f'input_layout="{swapped}"'
    )


def warn_of_missing_axes(shape: Sequence[int], input_layout: str | None, sample_rate: float) -> None:
    """Warns where inputs have a frequency axis, but the classifier has no axes.

    Args:
        shape: shape of the inputs, without the clip axis.
        input_layout: layout of the inputs with their clip axis; None for inputs that are understood without it.
        sample_rate: sample rate of the clips, in Hz.

    Example:
        >>> import warnings
        >>> from captum_apex.classifiers.spectrogram_inputs import warn_of_missing_axes
        >>> warn_of_missing_axes((1, 8000), None, 8000)  # a waveform
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_missing_axes((1, 64, 216), None, 8000)
        >>> str(caught[0].message)[:61]
        'the inputs have 64 bins for frequency, but the Classifier has'
    """
    letters = _letters(shape, input_layout) if input_layout is not None or len(shape) > 2 else []
    if "f" not in letters or len(letters) != len(shape) or shape[letters.index("f")] == 1:
        return
    warnings.warn(
        f"the inputs have {shape[letters.index('f')]} bins for frequency, but the Classifier has no `axes`: they are "
        f"shown as if spread evenly from 0 to {sample_rate / 2:g} Hz, and mel bands at wrong frequencies; give it "
        "axes=SpectrogramAxes.from_transform(transform)",
        stacklevel=4,
    )


def _letters(shape: Sequence[int], input_layout: str | None) -> list[str]:
    """The axes of an input by letter, without the clip axis; without a layout, the last two are frequency and time."""
    if input_layout is not None:
        return input_axes(input_layout)[1:]
    return ["t"] if len(shape) < 2 else ["c", "f", "t"][-len(shape) :]
