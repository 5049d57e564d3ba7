"""The inputs of a classifier as spectrograms on its axes."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.caller import warn_caller
from captum_apex.layers.layout import input_axes

__all__ = [
    "check_axes",
    "input_letters",
    "picture",
    "swapped_layout",
    "warn_of_missing_axes",
    "warn_of_other_units",
]

_LEAST_DECIBELS = 10.0  # between the loudest and the softest bin; in dB, noise alone spans more


def check_axes(shape: Sequence[int], axes: SpectrogramAxes, input_layout: str | None, name: str) -> None:
    """Raises where the frequency axis of an input has another number of bins than the axes.

    Args:
        shape: shape of the input, without the clip axis.
        axes: axes of the input.
        input_layout: layout of the input with its clip axis; None where the last axis is time.
        name: name of the clip, for the message.

    Raises:
        ValueError: there is another number of bins; the message says what fits, such as swapped axes.

    Example:
        >>> from captum_apex import SpectrogramAxes
        >>> from captum_apex.classifiers.spectrogram_inputs import check_axes
        >>> axes = SpectrogramAxes(8000, 256, 80, n_mels=40)
        >>> check_axes((101, 40), axes, "n t f", "new.wav")
        >>> try:
        ...     check_axes((101, 40), axes, None, "new.wav")
        ... except ValueError as error:
        ...     print(str(error).partition('; ')[2])
        give the Classifier input_layout="n t f"
    """
    letters = input_letters(shape, input_layout)
    if "f" not in letters or len(letters) != len(shape):
        return
    sizes = dict(zip(letters, shape, strict=True))
    if sizes["f"] in (axes.n_bins, 1):
        return
    if sizes["t"] != axes.n_bins:
        raise ValueError(
            f"expected inputs of {axes.n_bins} bins for frequency, as `axes` has, but the transform gives shape "
            f"{tuple(shape)} for {name}, with {sizes['f']} bins; where the transform resizes or crops the spectrogram, "
            "or leaves bins out, say so by axes.resized(...) or axes.cropped(...), and by SpectrogramAxes.cqt or "
            "from_centres where the bins are others"
        )
    swapped = swapped_layout(shape, input_layout)
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
    letters = input_letters(shape, input_layout) if input_layout is not None or len(shape) > 2 else []
    if "f" not in letters or len(letters) != len(shape) or shape[letters.index("f")] == 1:
        return
    warn_caller(
        f"the inputs have {shape[letters.index('f')]} bins for frequency, but the Classifier has no `axes`: they are "
        f"shown as if spread evenly from 0 to {sample_rate / 2:g} Hz, and mel bands at wrong frequencies; give it "
        "axes=SpectrogramAxes.from_transform(transform)"
    )


def picture(inputs: Tensor, input_layout: str | None) -> Tensor:
    """The spectrogram in an input, (frequency, time): of several channels, such as log-mel and its deltas, the first.

    Args:
        inputs: the input, without the clip axis.
        input_layout: layout of the input with its clip axis; None where the last two axes are frequency and time.

    Example:
        >>> import torch
        >>> from captum_apex.classifiers.spectrogram_inputs import picture
        >>> picture(torch.zeros(3, 64, 101), None).shape, picture(torch.zeros(101, 64), "n t f").shape
        (torch.Size([64, 101]), torch.Size([64, 101]))
    """
    letters = input_letters(inputs.shape, input_layout)
    if len(letters) != inputs.dim() or not {"f", "t"} <= set(letters):
        return inputs.squeeze()
    if "c" in letters:
        inputs = inputs.select(letters.index("c"), 0)
        letters = [letter for letter in letters if letter != "c"]
    return inputs if letters == ["f", "t"] else inputs.T


def warn_of_other_units(spectrogram: Tensor) -> None:
    """Warns where a picture that is taken for one in dB spans a few units, as after a normalisation.

    Args:
        spectrogram: the picture, (frequency, time).

    Example:
        >>> import warnings
        >>> import torch
        >>> from captum_apex.classifiers.spectrogram_inputs import warn_of_other_units
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     warn_of_other_units(torch.tensor([[-80.0, 0.0]]))
        ...     warn_of_other_units(torch.tensor([[-2.0, 1.2]]))
        >>> [str(warning.message)[:47] for warning in caught]
        ['the inputs span less than 10 units, and a spect']
    """
    if spectrogram.numel() and 0 < spectrogram.max() - spectrogram.min() < _LEAST_DECIBELS:
        # The warning has no number of the clip, so that Python shows it once and not for every clip.
        warn_caller(
            f"the inputs span less than {_LEAST_DECIBELS:g} units, and a spectrogram in dB spans tens of them, so that "
            "pictures show hardly any shades; if the transform normalises, give the Classifier `decibels`, which takes "
            "an input back to dB, such as decibels=lambda inputs: inputs[0] * 25 - 30 where the transform ends in "
            "(spectrogram + 30) / 25"
        )


def swapped_layout(shape: Sequence[int], input_layout: str | None) -> str:
    """The layout of an input with frequency and time the other way round, with its clip axis.

    Args:
        shape: shape of the input, without the clip axis.
        input_layout: layout of the input as it is read now; None where the last two axes are frequency and time.

    Example:
        >>> from captum_apex.classifiers.spectrogram_inputs import swapped_layout
        >>> swapped_layout((1, 101, 64), None)
        'n c t f'
    """
    return " ".join(["n", *input_letters(shape, input_layout)]).translate(str.maketrans("ft", "tf"))


def input_letters(shape: Sequence[int], input_layout: str | None) -> list[str]:
    """The axes of an input by letter, without the clip axis; without a layout, the last two are frequency and time.

    Args:
        shape: shape of the input, without the clip axis.
        input_layout: layout of the input with its clip axis.

    Example:
        >>> from captum_apex.classifiers.spectrogram_inputs import input_letters
        >>> input_letters((1, 64, 101), None), input_letters((101, 64), "n t f")
        (['c', 'f', 't'], ['t', 'f'])
    """
    if input_layout is not None:
        return input_axes(input_layout)[1:]
    return ["t"] if len(shape) < 2 else ["c", "f", "t"][-len(shape) :]
