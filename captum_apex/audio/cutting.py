"""How a region is cut out of a sound: one mask per box on the short-time Fourier transform of the sound.

The edges of a mask are raised cosines *outside* the box, so that the box itself is complete. A window of τ seconds
resolves 4 / τ Hz and 5/8 τ seconds. Each box of a region gets a separate window:

- a strip (a box with edges in time only) fades over half its length, but at least 5 and at most 20 ms: long enough to
  avoid clicks, short enough to exclude its neighbours;
- a band (a box with edges in frequency only) fades over half its width, but at least 40 and at most 200 Hz;
- a box with edges of both kinds fades over the same fraction of its length and of its width.

Beyond the fades, the sound outside the region is attenuated by at least 40 dB. The page of `captum_apex.report` cuts
regions in the browser: `cutting.js` there does what `Cut` does here, and a test compares the two.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from captum_apex.audio.clip import Clip
from captum_apex.audio.regions import Box, Place, Region

__all__ = ["Cut", "cuts", "sound_of"]

# Outside the region, the mask stays at 1 for 1/8 of a window in time and then falls to 0 over 1/4; in frequency it
# falls over 3 bins. The Hann window, used twice, blurs both a little: 40 dB of attenuation are reached 5/8 of a window
# and 4 bins away, and at the edge of the region less than 0.5 dB is lost.
_LEAD = 1 / 8
_FALL = 1 / 4
_FALL_BINS = 3.0
_REACH = 5 / 8
_REACH_BINS = 4.0
_FADE_SECONDS = (0.005, 0.02)
_FADE_HERTZ = (40.0, 200.0)
_OVERLAP = 8  # number of windows over each sample, so that fades in time are smooth
_MIN_SAMPLES = 16


def cuts(clip: Clip, region: Region) -> list[Cut]:
    """What to cut out of a clip one after the other, so that the sound of the region is gone.

    Args:
        clip: a clip with a waveform.
        region: a region of the model's input.

    Returns:
        One cut per box of the region.

    Raises:
        ValueError: if the clip has no waveform, or one of less than 16 samples.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip, Region
        >>> from captum_apex.audio.cutting import cuts
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
        >>> cuts(clip, Region((Box(low=0.0, high=1.0, start=0.5, end=0.75),)))[0].place
        Place(low=-inf, high=inf, start=0.5, end=0.75)
    """
    sound_of(clip)
    # Bands are removed before strips. Otherwise the removed band would ring into the silence of the strip.
    boxes = sorted(clip.folded(region).boxes, key=lambda box: box.end - box.start, reverse=True)
    return [Cut.of(clip, box) for box in boxes]


def sound_of(clip: Clip) -> Tensor:
    """The clip's waveform, at least in float32, because there is no Fourier transform in half precision on a CPU.

    Args:
        clip: a clip with a waveform.

    Raises:
        ValueError: if the clip has no waveform, or one of less than 16 samples.

    Example:
        >>> import torch
        >>> from captum_apex import Clip
        >>> from captum_apex.audio.cutting import sound_of
        >>> sound_of(Clip.from_waveform(torch.ones(8000, dtype=torch.float64), 8000)).dtype
        torch.float64
    """
    if clip.waveform is None:
        raise ValueError(f"expected a clip with a waveform, but {clip.title or 'this clip'} has none")
    if len(clip.waveform) < _MIN_SAMPLES:
        raise ValueError(f"expected a waveform of at least {_MIN_SAMPLES} samples, but got {len(clip.waveform)}")
    return clip.waveform.to(torch.promote_types(clip.waveform.dtype, torch.float32))


class Cut(NamedTuple):
    """A box in Hz and seconds, with infinity for a side at the end of the input, and the window to cut it out with.

    Args:
        place: the box.
        window: length of the window, in seconds.

    Example:
        >>> import torch
        >>> from captum_apex import Box, Clip
        >>> from captum_apex.audio.cutting import Cut
        >>> clip = Clip.from_waveform(torch.ones(8000), 8000)
        >>> cut = Cut.of(clip, Box(low=0.0, high=1.0, start=0.5, end=0.75))
        >>> round(cut.window, 3)
        0.032
        >>> [round(sound.item(), 3) for sound in cut(clip.waveform, 8000)[[1000, 5000]]]
        [0.0, 1.0]
    """

    place: Place
    window: float

    @classmethod
    def of(cls, clip: Clip, box: Box) -> Cut:
        """The cut of one box.

        Args:
            clip: a clip with a waveform.
            box: a box of the model's input.
        """
        low, high, start, end = clip.place(box)
        box = clip.upright(box)
        has_edges_in_time = box.start > 0 or box.end < 1
        has_edges_in_frequency = box.low > 0 or box.high < 1
        window = _window(
            seconds=end - start if has_edges_in_time else math.inf,
            hertz=high - low if has_edges_in_frequency else math.inf,
        )
        place = Place(
            low if box.low > 0 else -math.inf,
            high if box.high < 1 else math.inf,
            start if box.start > 0 else -math.inf,
            end if box.end < 1 else math.inf,
        )
        return cls(place, window)

    def __call__(self, waveform: Tensor, sample_rate: float) -> Tensor:
        """The sound of the box.

        Args:
            waveform: the sound, shape (sample,).
            sample_rate: its sample rate, in Hz.

        Returns:
            Tensor of shape (sample,).
        """
        hop = max(1, min(round(self.window * sample_rate), len(waveform)) // _OVERLAP)
        n_fft = hop * _OVERLAP  # not longer than the clip
        window = torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device)
        spectrum = torch.stft(waveform, n_fft, hop, window=window, return_complex=True)
        hertz = torch.arange(spectrum.shape[0], dtype=torch.float64) * (sample_rate / n_fft)
        seconds = torch.arange(spectrum.shape[1], dtype=torch.float64) * (hop / sample_rate)
        length = n_fft / sample_rate
        rows = _fade(hertz, self.place.low, self.place.high, 0.0, _FALL_BINS / length)
        columns = _fade(seconds, self.place.start, self.place.end, _LEAD * length, _FALL * length)
        mask = (rows[:, None] * columns).to(waveform)  # (frequency, time)
        return torch.istft(spectrum * mask, n_fft, hop, window=window, length=len(waveform))


def _window(seconds: float, hertz: float) -> float:
    """The length of the window for a box of this size, in seconds; a side is infinite if the box has no edge there."""
    if math.isinf(hertz):
        return _clamped(seconds / 2, _FADE_SECONDS) / _REACH
    if math.isinf(seconds):
        return _REACH_BINS / _clamped(hertz / 2, _FADE_HERTZ)
    balanced = math.sqrt(_REACH_BINS / _REACH * seconds / max(hertz, _FADE_HERTZ[0]))
    return _clamped(balanced, (_FADE_SECONDS[0] / _REACH, _REACH_BINS / _FADE_HERTZ[0]))


def _clamped(value: float, bounds: tuple[float, float]) -> float:
    return min(max(value, bounds[0]), bounds[1])


def _fade(positions: Tensor, low: float, high: float, lead: float, width: float) -> Tensor:
    """1 from `low − lead` to `high + lead`, and a raised cosine to 0 over `width` on either side."""
    outside = torch.maximum(low - positions, positions - high)
    return 0.5 + 0.5 * torch.cos(math.pi * ((outside - lead) / width).clamp(0, 1))
