"""Whether the inputs of a classifier have the frequencies that its axes say, found out with tones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.classifiers.spectrogram_inputs import input_letters

__all__ = ["check_frequencies"]

_TONES = (1 / 4, 1 / 2, 3 / 4)  # of the bins
_LOUDNESS = 0.3
_NOISE = 1e-3  # amplitude of the sound beside the tone, because the level of digital silence has no end
_TOLERANCE = 0.05  # of the frequency axis
_FEWEST_BINS = 8  # with fewer, the tolerance would be the whole axis


def check_frequencies(
    transform: Callable[[Tensor], Tensor],
    n_samples: int,
    sample_rate: float,
    axes: SpectrogramAxes,
    input_layout: str | None,
) -> None:
    """Raises where a transform shows a tone at another frequency than the axes say.

    Nothing is raised where that cannot be found out, such as for a transform that fails for tones.

    Args:
        transform: function from a waveform (sample,) to one input of the model.
        n_samples: length of the sound, in samples.
        sample_rate: sample rate of the sound, in Hz.
        axes: axes of the inputs.
        input_layout: layout of the inputs with their clip axis; None where the last two axes are frequency and time.

    Raises:
        ValueError: the bins are in reverse order or elsewhere; the message says where a tone appears.

    Example:
        >>> from captum_apex import SpectrogramAxes
        >>> from captum_apex.classifiers.transform_frequencies import check_frequencies
        >>> from torchaudio.transforms import Spectrogram
        >>> spectrogram = Spectrogram(n_fft=256, hop_length=80)
        >>> axes = SpectrogramAxes(8000, 256, 80)
        >>> check_frequencies(spectrogram, 8000, 8000, axes, None)
        >>> try:
        ...     check_frequencies(lambda waveform: spectrogram(waveform).flip(0), 8000, 8000, axes, None)
        ... except ValueError as error:
        ...     print(str(error).partition("; ")[2])
        the bins are in reverse order: give the Classifier axes=axes.flipped()
    """
    frequencies = [axes.hertz(share * axes.n_bins) for share in _TONES]
    found = _loudest_bins(transform, n_samples, sample_rate, frequencies, input_layout)
    if found is None:
        return
    expected = [axes.bin_position(frequency) for frequency in frequencies]
    tolerance = max(2.0, _TOLERANCE * axes.n_bins)
    if _agree(found, expected, tolerance):
        return
    appear = ", ".join(
        f"a tone of {frequency:.0f} Hz at {axes.hertz(bin_):.0f} Hz"
        for frequency, bin_ in zip(frequencies, found, strict=True)
    )
    reason = "the bins are elsewhere: compare the parameters of `axes` with those of the transform"
    if _agree([axes.n_bins - bin_ for bin_ in found], expected, tolerance):
        reason = "the bins are in reverse order: give the Classifier axes=axes.flipped()"
    raise ValueError(f"expected inputs with the frequencies of `axes`, but they show {appear}; {reason}")


def _agree(found: Sequence[float], expected: Sequence[float], tolerance: float) -> bool:
    return all(abs(one - other) <= tolerance for one, other in zip(found, expected, strict=True))


@torch.no_grad()
def _loudest_bins(
    transform: Callable[[Tensor], Tensor],
    n_samples: int,
    sample_rate: float,
    frequencies: Sequence[float],
    input_layout: str | None,
) -> list[float] | None:
    """The centre of the bin that each tone changes most, in bins; None where that is not known.

    A tone is compared with the others, because it may also change the level of all bins, where a transform normalises.
    """
    seconds = torch.arange(n_samples) / sample_rate
    noise = _NOISE * torch.randn(n_samples, generator=torch.Generator().manual_seed(0))
    sounds = [noise + _LOUDNESS * torch.sin(2 * torch.pi * frequency * seconds) for frequency in frequencies]
    try:
        inputs = [torch.as_tensor(transform(sound)).detach().double().cpu() for sound in sounds]
    except Exception:  # the transform is the user's code, and need not take tones
        return None
    letters = input_letters(inputs[0].shape, input_layout)
    if len({each.shape for each in inputs}) > 1 or len(letters) != inputs[0].dim() or "f" not in letters:
        return None
    bins = torch.stack(inputs).movedim(letters.index("f") + 1, 1).flatten(2).mean(2)  # (tone, bin)
    apart = (bins[:, None] - bins).abs()  # (tone, other tone, bin)
    apart[range(len(apart)), range(len(apart))] = torch.inf
    changes = apart.amin(1)
    if changes.shape[1] < _FEWEST_BINS or not changes.isfinite().all() or not (changes.amax(1) > 0).all():
        return None
    return (changes.argmax(1) + 0.5).tolist()
