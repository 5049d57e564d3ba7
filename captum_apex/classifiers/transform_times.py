"""Whether the transform of a classifier keeps the times of a sound, found out with clicks at known times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.classifiers.spectrogram_inputs import input_letters

__all__ = ["check_times", "keeps_duration"]

_CLICKS = (1 / 8, 1 / 2, 7 / 8)  # of the duration of the sound
_CLICK_SECONDS = 0.002
_NOISE = 1e-3  # amplitude of the sound around the click, because the level of digital silence has no end
_CHANGED = 0.5  # of the largest change by a click: a step of time that changes at least so much shows the click
_FOUND = 0.05  # of the largest change by any click
_TOLERANCE = 0.05  # of the time axis
_FEWEST_STEPS = 8  # with fewer, the tolerance would be the whole axis


def keeps_duration(
    n_samples: int, shape: Sequence[int], sample_rate: float, axes: SpectrogramAxes | None, input_layout: str | None
) -> bool:
    """Whether an input lasts as long as its sound, by the length of its time axis.

    Args:
        n_samples: length of the sound, in samples.
        shape: shape of the input, without the clip axis.
        sample_rate: sample rate of the sound, in Hz.
        axes: axes of the input; None for others than spectrograms.
        input_layout: layout of the input with its clip axis; None where the last axis is time.

    Example:
        >>> from captum_apex import SpectrogramAxes
        >>> from captum_apex.classifiers.transform_times import keeps_duration
        >>> axes = SpectrogramAxes(8000, 256, 80)
        >>> [keeps_duration(8000, (129, n_frames), 8000, axes, None) for n_frames in (101, 401)]
        [True, False]
    """
    letters = input_letters(shape, input_layout)
    if len(letters) != len(shape) or "t" not in letters:
        return True
    n_steps = shape[letters.index("t")]
    if axes is None:
        return n_steps == n_samples
    around = max(axes.n_fft, 2 * axes.hop_length) / sample_rate
    return abs(axes.seconds(float(n_steps)) - n_samples / sample_rate) <= around


def check_times(
    transform: Callable[[Tensor], Tensor],
    n_samples: int,
    sample_rate: float,
    axes: SpectrogramAxes | None,
    input_layout: str | None,
) -> None:
    """Raises where a transform shows a click at another time than it sounds, or several times.

    Nothing is raised where that cannot be found out, such as for a transform that fails for noise.

    Args:
        transform: function from a waveform (sample,) to one input of the model.
        n_samples: length of the sound, in samples.
        sample_rate: sample rate of the sound, in Hz.
        axes: axes of the inputs; None for others than spectrograms, which cover the sound from its start to its end.
        input_layout: layout of the inputs with their clip axis; None where the last axis is time.

    Raises:
        ValueError: the transform repeats, moves or stretches the sound; the message says what to give the Classifier.

    Example:
        >>> import torch
        >>> from captum_apex.classifiers.transform_times import check_times
        >>> check_times(lambda waveform: waveform[::2], 8000, 8000, None, None)  # half the sample rate
        >>> try:
        ...     check_times(lambda waveform: waveform.repeat(2), 8000, 8000, None, None)
        ... except ValueError as error:
        ...     print(str(error)[65:143])
        a click at 0.125 s of a clip of 1 s appears at 0.063 and 0.563 s of the input:
    """
    places = [round(share * n_samples) for share in _CLICKS]
    changes = _changes(transform, n_samples, places, round(_CLICK_SECONDS * sample_rate), input_layout)
    if changes is None:
        return
    fault = _fault(changes, places, n_samples, sample_rate, axes)
    if not fault:
        return
    is_waveform = changes.shape[1] == n_samples and not _fault(changes, places, n_samples, sample_rate, None)
    if axes is not None and is_waveform:
        fault = (
            f"expected inputs that are spectrograms on `axes`, but the transform gives {n_samples} steps of time for "
            f"{n_samples} samples: the input is the waveform; leave `axes` and `decibels` out of the Classifier, which "
            "draws a spectrogram of the waveform itself"
        )
    raise ValueError(fault)


def _fault(
    changes: Tensor, places: Sequence[int], n_samples: int, sample_rate: float, axes: SpectrogramAxes | None
) -> str:
    """What is wrong with the times at which clicks appear; empty where nothing is."""
    n_steps = changes.shape[1]
    found = [_clusters(change, n_steps) if change.max() >= _FOUND * changes.max() else [] for change in changes]
    duration = n_samples / sample_rate
    for sample, steps in zip(places, found, strict=True):
        seconds = sample / sample_rate
        middle = min(seconds + _CLICK_SECONDS / 2, duration)
        expected = middle / duration * n_steps if axes is None else axes.frame_position(middle)
        is_inside = 0 <= expected < n_steps
        if not steps and not is_inside:
            continue
        tolerance = max(2.0, _TOLERANCE * n_steps)
        if len(steps) != 1 or not is_inside or abs(steps[0] - expected) > tolerance:
            times = [step / n_steps * duration if axes is None else axes.seconds(step) for step in steps]
            return _message(seconds, duration, times)
    return ""


def _message(seconds: float, duration: float, times: Sequence[float]) -> str:
    appears = f"appears at {' and '.join(f'{time:.3g}' for time in times[:4])} s" if times else "does not appear"
    return (
        f"expected a transform whose input has the times of the sound, but a click at {seconds:.3g} s of a clip of "
        f"{duration:.3g} s {appears} of the input: the transform cuts, pads, repeats or moves clips; the Classifier "
        'can do that before the transform: give it the `length` of the model\'s clips in samples, and short="repeat" '
        "where short clips are repeated"
    )


@torch.no_grad()
def _changes(
    transform: Callable[[Tensor], Tensor], n_samples: int, places: Sequence[int], width: int, input_layout: str | None
) -> Tensor | None:
    """How much each step of time changes by a click, (click, time); None where that is not known.

    The input with a click is compared with those with other clicks, because a click may also change the level of all
    steps, where a transform normalises. Only the click itself differs from all of the others.
    """
    generator = torch.Generator().manual_seed(0)
    noise = _NOISE * torch.randn(n_samples, generator=generator)
    sounds = []
    for place in places:
        clicked = noise.clone()
        clicked[place : place + max(1, width)] += 0.5
        sounds.append(clicked)
    try:
        inputs = [torch.as_tensor(transform(sound.clone())).detach().double().cpu() for sound in sounds]
    except Exception:  # the transform is the user's code, and need not take noise
        return None
    letters = input_letters(inputs[0].shape, input_layout)
    if len({each.shape for each in inputs}) > 1 or len(letters) != inputs[0].dim() or "t" not in letters:
        return None
    steps = torch.stack(inputs).movedim(letters.index("t") + 1, -1)
    steps = steps.reshape(len(inputs), -1, steps.shape[-1])  # (click, feature, time)
    apart = (steps[:, None] - steps).abs().sum(2)  # (click, other click, time)
    apart[range(len(apart)), range(len(apart))] = torch.inf
    changes = apart.amin(1)
    if changes.shape[1] < _FEWEST_STEPS or not changes.isfinite().all() or not changes.max() > 0:
        return None
    return changes


def _clusters(change: Tensor, n_steps: int) -> list[float]:
    """The middle of each group of steps that a click changes, in steps."""
    steps = (change >= _CHANGED * change.max()).nonzero()[:, 0]
    gaps = (steps.diff() > max(2.0, _TOLERANCE * n_steps)).nonzero()[:, 0] + 1
    groups = steps.tensor_split(gaps)
    return [(group[0].item() + group[-1].item() + 1) / 2 for group in groups]
