"""The way from an audio file to the input of a model, and to a picture of it."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property, partial

import torch
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import Clip
from captum_apex.classifiers.spectrogram_inputs import check_axes, picture, warn_of_other_units
from captum_apex.classifiers.transform_times import check_times, keeps_duration
from captum_apex.recordings.decoding import read
from captum_apex.recordings.short_sounds import lengthened
from captum_apex.recordings.slices import file_duration

__all__ = ["ClipReading"]

_ROUNDING = 1e-6  # of a sample
_MOST_PROBES = 8  # lengths of sounds for which the transform is tried with clicks


class ClipReading:
    """What a `Classifier` does with files and waveforms; the attributes are its fields.

    Example:
        >>> import torch
        >>> from captum_apex import Classifier
        >>> from captum_apex.classifiers.clip_reading import ClipReading
        >>> classifier = Classifier(torch.nn.Linear(3, 1), torch.square, 8000, ["dog"], length=3)
        >>> isinstance(classifier, ClipReading), classifier.inputs(classifier.fitted(torch.ones(1)))
        (True, tensor([1., 0., 0.]))
    """

    transform: Callable[[Tensor], Tensor]
    sample_rate: int
    axes: SpectrogramAxes | None
    decibels: Callable[[Tensor], Tensor] | None
    length: int | None
    convert: bool
    input_layout: str | None
    short: str

    def waveform(self, path: str | os.PathLike) -> Tensor:
        """The waveform of a file at the classifier's sample rate and length, (sample,); errors as in `read`."""
        return self.fitted(self.sound(path))

    def sound(self, path: str | os.PathLike) -> Tensor:
        """The waveform of a file, (sample,), which is not repeated yet where short ones are; errors as in `read`."""
        return read(path, self.sample_rate, self.read_length, convert=self.convert)

    @property
    def read_length(self) -> int | None:
        """The length to which a file is read, in samples; None for the whole file, where short ones are not padded."""
        return self.length if self.short == "pad" else None

    def fitted(self, waveform: Tensor) -> Tensor:
        """A waveform cut or lengthened to the length of the classifier's clips, (sample,), as files are.

        Args:
            waveform: samples at the classifier's sample rate, (sample,).

        Example:
            >>> import torch
            >>> from captum_apex import Classifier
            >>> classifier = Classifier(torch.nn.Linear(5, 1), torch.square, 8000, ["dog"], length=5, short="repeat")
            >>> classifier.fitted(torch.tensor([1.0, 2.0]))
            tensor([1., 2., 1., 2., 1.])
        """
        return waveform if self.length is None else lengthened(waveform, self.length, self.short)[: self.length]

    def unfilled(self, waveform: Tensor, duration: Callable[[], float]) -> Tensor:
        """A waveform without the zeros that pad a shorter sound to the length of the classifier's clips, (sample,).

        Args:
            waveform: samples at the classifier's sample rate, (sample,).
            duration: gives the duration of the sound in s; it is only asked for where the last sample is a zero.

        Example:
            >>> import torch
            >>> from captum_apex import Classifier
            >>> classifier = Classifier(torch.nn.Linear(4, 1), torch.square, 2, ["dog"], length=4)
            >>> classifier.unfilled(torch.tensor([1.0, 2.0, 0.0, 0.0]), lambda: 1.5)
            tensor([1., 2., 0.])
        """
        if self.short != "pad" or self.length is None or waveform[-1] != 0:
            return waveform
        return waveform[: max(1, math.ceil(duration() * self.sample_rate - _ROUNDING))]

    @torch.no_grad()
    def inputs(self, waveform: Tensor, name: str = "the clip") -> Tensor:
        """One input of the model, without the batch axis.

        Args:
            waveform: samples at the classifier's sample rate, (sample,).
            name: name of the clip, for messages.

        Raises:
            ValueError: the transform fails, does not give a tensor of floats, or gives another number of
                bins than `axes` has, such as with frequency and time swapped.
        """
        try:
            inputs = self.transform(waveform)
        except Exception as error:  # the transform is the user's code and may raise anything
            raise ValueError(
                f"expected the transform to take the {len(waveform)} samples of {name}, but it raised "
                f"{type(error).__name__}: {error}"
            ) from error
        if not isinstance(inputs, Tensor) or not inputs.is_floating_point():
            got = getattr(inputs, "dtype", type(inputs).__name__)
            raise ValueError(f"expected the transform to give a tensor of floats, but got {got}")
        if self.axes is not None:
            check_axes(inputs.shape, self.axes, self.input_layout, name)
        return inputs

    def clip(self, path: str | os.PathLike, label: str = "") -> Clip:
        """A file as a clip to look at and to listen to; errors as in `waveform` and `drawn`."""
        sound = self.unfilled(self.sound(path), partial(file_duration, path))
        return self.drawn_whole(sound, os.fspath(path), label)

    @torch.no_grad()
    def drawn(self, waveform: Tensor, name: str = "", label: str = "") -> Clip:
        """A waveform as a clip to look at and to listen to.

        Args:
            waveform: samples at the classifier's sample rate, (sample,); it is repeated or cut where files would be.
            name: name of the clip, for its title and for messages.
            label: class of the clip in words, for its title.

        Raises:
            ValueError: the transform or `decibels` fails, the result does not fit the axes, the waveform is too short
                to draw (the message names the clip), or the transform changes the times of the sound.
        """
        n_samples = len(waveform)
        waveform = waveform if self.short == "pad" else self.fitted(waveform)
        inputs = None if self.axes is None else self.inputs(waveform, name)
        self.check_times(waveform, inputs, name)
        if inputs is not None and self.decibels is None:
            warn_of_other_units(picture(inputs, self.input_layout))
        try:
            clip = self._drawn(waveform, inputs, name, label)
        except Exception as error:  # `decibels` is the user's code and may raise anything
            raise ValueError(
                f"expected a clip that can be drawn, but {name} gives {type(error).__name__}: {error}"
            ) from error
        return clip if n_samples >= len(waveform) else replace(clip, repeats=n_samples / self.sample_rate)

    def drawn_whole(self, waveform: Tensor, name: str = "", label: str = "") -> Clip:
        """A waveform as a clip of the length that the model gets, which says where the zeros after its end begin.

        Args:
            waveform: samples at the classifier's sample rate, (sample,); it is cut or lengthened as files are.
            name: name of the clip, for its title and for messages.
            label: class of the clip in words, for its title.

        Raises:
            ValueError: as in `drawn`.

        Example:
            >>> import torch
            >>> from captum_apex import Classifier
            >>> classifier = Classifier(torch.nn.Linear(4000, 1), torch.square, 8000, ["dog"], length=4000)
            >>> clip = classifier.drawn_whole(torch.ones(2000))
            >>> clip.duration, clip.ends
            (0.5, 0.25)
        """
        if self.short != "pad" or self.length is None:
            return self.drawn(waveform, name, label)
        clip = self.drawn(self.fitted(waveform), name, label)
        return replace(clip, ends=len(waveform) / self.sample_rate) if len(waveform) < self.length else clip

    def check_times(self, waveform: Tensor, inputs: Tensor | None = None, name: str = "the clip") -> None:
        """Raises where the transform changes the times of sounds; clicks are tried for at most 8 lengths of sounds.

        Args:
            waveform: samples at the classifier's sample rate, (sample,).
            inputs: the input for this waveform; None where the transform has not run yet.
            name: name of the clip, for messages.

        Raises:
            ValueError: the input lasts longer or shorter than the sound, and the times of clicks say that the transform
                repeats, moves or stretches sounds; or the transform fails.
        """
        n_samples = len(waveform)
        if n_samples in self._checked or sum(self._checked.values()) >= _MOST_PROBES:
            return
        shape = (self.inputs(waveform, name) if inputs is None else inputs).shape
        changed = not keeps_duration(n_samples, shape, self.sample_rate, self.axes, self.input_layout)
        if changed:
            check_times(self.transform, n_samples, self.sample_rate, self.axes, self.input_layout)
        self._checked[n_samples] = changed

    @cached_property
    def _checked(self) -> dict[int, bool]:
        """The lengths of the sounds whose times were checked, and whether clicks were tried."""
        return {}

    def _drawn(self, waveform: Tensor, inputs: Tensor | None, name: str, label: str) -> Clip:
        if self.axes is None or inputs is None:
            return Clip.from_waveform(waveform, self.sample_rate, name=name, label=label)
        decibels = picture(inputs, self.input_layout) if self.decibels is None else self.decibels(inputs)
        return Clip(decibels.cpu(), self.axes, waveform, name, label)
