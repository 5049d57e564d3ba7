"""Sounds of an evening by a pond, made from formulas: what the demonstration's classifier was trained on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["CLASS_NAMES", "SAMPLE_RATE", "SECONDS", "EveningSounds"]

CLASS_NAMES = ("bell", "cricket", "frog", "owl", "rain", "siren", "songbird", "woodpecker")
SAMPLE_RATE = 16_000  # Hz
SECONDS = 2.0
VERSION = 1  # of the sounds; other sounds need other weights and bases

Samples = NDArray[np.floating]  # (sample,)
_N_SAMPLES = int(SAMPLE_RATE * SECONDS)
_TIME = np.arange(_N_SAMPLES) / SAMPLE_RATE
_PER_CLASS = {"train": 40, "test": 12}
_SCENES = (("owl", "cricket"), ("songbird", "rain"), ("frog", "bell"), ("woodpecker", "siren"))
"""Two sounds at once, the louder one first, for the demonstration's last clips."""
_FIRST = ("woodpecker", "songbird", "siren", "owl", "cricket", "frog", "bell", "rain")
"""The order of the demonstration's clips of one sound."""


class EveningSounds:
    """Clips of two seconds, each made when it is asked for; an `AudioDataset` for `Classifier.dataset`.

    Every clip has one sound of its class over wind, with a random pitch, rhythm, place in time, level and echo.

    Args:
        part: `"train"`, 40 clips per class, on which the classifier was trained; `"test"`, 12 others per class; or
            `"demo"`, 12 clips: one of each class, and four in which a second, softer sound can be heard.

    Raises:
        ValueError: there is no such part.

    Example:
        >>> from captum_apex.demonstration import EveningSounds
        >>> sounds = EveningSounds("demo")
        >>> len(sounds), sounds.name(3), sounds.waveform(3, 16000).shape
        (12, 'owl.wav', torch.Size([32000]))
    """

    class_names = CLASS_NAMES

    def __init__(self, part: str = "train") -> None:
        if part not in (*_PER_CLASS, "demo"):
            raise ValueError(f"expected `part` to be 'train', 'test' or 'demo', but got {part!r}")
        self.part = part

    @property
    def labels(self) -> Sequence[int]:
        """Index of the class of each clip; of the louder sound where there are two."""
        if self.part == "demo":
            return [CLASS_NAMES.index(name) for name in (*_FIRST, *(loud for loud, _ in _SCENES))]
        return [label for label in range(len(CLASS_NAMES)) for _ in range(_PER_CLASS[self.part])]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """The name of a clip, such as `owl.wav` or `owl_12.wav`."""
        label = CLASS_NAMES[self.labels[index]]
        if self.part != "demo":
            return f"{label}_{index % _PER_CLASS[self.part]:02}.wav"
        soft = "" if index < len(CLASS_NAMES) else f"_and_{_SCENES[index - len(CLASS_NAMES)][1]}"
        return f"{label}{soft}.wav"

    def sounding(self, index: int) -> tuple[str, ...]:
        """The classes of all sounds in a clip, the loudest first.

        Args:
            index: index of the clip.

        Example:
            >>> from captum_apex.demonstration import EveningSounds
            >>> EveningSounds("demo").sounding(9)
            ('songbird', 'rain')
        """
        is_scene = self.part == "demo" and index >= len(CLASS_NAMES)
        return _SCENES[index - len(CLASS_NAMES)] if is_scene else (CLASS_NAMES[self.labels[index]],)

    def waveform(
        self,
        index: int,
        sample_rate: int = SAMPLE_RATE,
        length: int | None = None,
        *,
        convert: bool = True,  # noqa: ARG002
    ) -> Tensor:
        """A clip as a float32 tensor (sample,).

        Args:
            index: index of the clip.
            sample_rate: sample rate in Hz; only 16000 is made.
            length: number of samples; the clip is cut, or padded with zeros.
            convert: without effect, as nothing is converted.

        Raises:
            ValueError: another sample rate is asked for.
        """
        if sample_rate != SAMPLE_RATE:
            raise ValueError(
                f"expected the sample rate {SAMPLE_RATE}, in which the sounds are made, but got {sample_rate}"
            )
        waveform, _ = _clip(self.part, range(len(self))[index])
        if length is None:
            return waveform
        return torch.nn.functional.pad(waveform[:length], (0, max(0, length - len(waveform))))

    def class_sound(self, index: int) -> Tensor:
        """The sound of a clip's class alone, at its level in the clip: without the wind and without a second sound.

        Args:
            index: index of the clip.

        Returns:
            float32 tensor (sample,), as long as the clip.

        Example:
            >>> from captum_apex.demonstration import EveningSounds
            >>> sounds = EveningSounds("demo")
            >>> hoots, clip = sounds.class_sound(3), sounds.waveform(3)
            >>> bool((clip - hoots).abs().max() < 0.1 * clip.abs().max())  # what is left is the wind
            True
        """
        return _clip(self.part, range(len(self))[index])[1]

    def fingerprint(self) -> str:
        """A hash of the part and of the version of the sounds."""
        return hashlib.sha256(f"evening sounds {VERSION} {self.part}".encode()).hexdigest()


def _clip(part: str, index: int) -> tuple[Tensor, Tensor]:
    """A clip of a part, and the sound of its class alone, both float32 (sample,)."""
    random = np.random.default_rng([VERSION, ("train", "test", "demo").index(part), index])
    label = EveningSounds(part).labels[index]
    class_sound = _sounding(CLASS_NAMES[label], random)
    sound = class_sound
    if part == "demo" and index >= len(CLASS_NAMES):
        sound = class_sound + 0.35 * _sounding(_SCENES[index - len(CLASS_NAMES)][1], random)
    level = 10 ** random.uniform(-0.5, 0.0)
    mixture = level * sound + 10 ** random.uniform(-2.2, -1.5) * _wind(random)
    loudest = max(1.0, np.abs(mixture).max())
    clip, alone = (torch.from_numpy(0.5 * samples / loudest).float() for samples in (mixture, level * class_sound))
    return clip, alone


def _sounding(name: str, random: Generator) -> Samples:
    """A sound of a class with its echo, its loudest sample at 1."""
    sound = _echoing(_MAKERS[name](random), random)
    return sound / np.abs(sound).max()


def _echoing(sound: Samples, random: Generator) -> Samples:
    """A sound with the echo of a valley: noise that fades within half a second."""
    n_echo = int(0.5 * SAMPLE_RATE)
    echo = random.standard_normal(n_echo) * np.exp(-np.arange(n_echo) / (0.09 * SAMPLE_RATE))
    impulse = np.concatenate([[1.0], np.zeros(int(0.012 * SAMPLE_RATE)), random.uniform(0.004, 0.012) * echo])
    n_fft = 2 * _N_SAMPLES
    return np.fft.irfft(np.fft.rfft(sound, n_fft) * np.fft.rfft(impulse, n_fft), n_fft)[:_N_SAMPLES]


def _wind(random: Generator) -> Samples:
    """Noise whose power falls with the frequency, its loudest sample at 1."""
    spectrum = np.fft.rfft(random.standard_normal(_N_SAMPLES))
    frequencies = np.fft.rfftfreq(_N_SAMPLES, 1 / SAMPLE_RATE)
    noise = np.fft.irfft(spectrum / (1 + frequencies / 300) ** 0.8, _N_SAMPLES)
    return noise / np.abs(noise).max()


def _band(random: Generator, low: float, high: float) -> Samples:
    """Noise between two frequencies in Hz."""
    spectrum = np.fft.rfft(random.standard_normal(_N_SAMPLES))
    frequencies = np.fft.rfftfreq(_N_SAMPLES, 1 / SAMPLE_RATE)
    edges = 1 / (1 + np.exp((low - frequencies) / (0.04 * low))) / (1 + np.exp((frequencies - high) / (0.04 * high)))
    return np.fft.irfft(spectrum * edges, _N_SAMPLES)


def _tone(hertz: Samples | float) -> Samples:
    """A sine of a constant or changing frequency in Hz."""
    return np.sin(2 * np.pi * np.cumsum(np.broadcast_to(hertz, _TIME.shape)) / SAMPLE_RATE)


def _gate(start: float, end: float, rise: float = 0.01) -> Samples:
    """1 from a start to an end in seconds, with smooth edges, and 0 elsewhere."""
    up = np.clip((_TIME - start) / rise, 0, 1)
    down = np.clip((end - _TIME) / rise, 0, 1)
    return np.sin(np.pi / 2 * up) ** 2 * np.sin(np.pi / 2 * down) ** 2


def _decay(start: float, seconds: float) -> Samples:
    """1 at a start in seconds, falling to 1/e after some seconds, and 0 before."""
    since = _TIME - start
    return np.where(since >= 0, np.exp(-np.maximum(since, 0) / seconds) * np.clip(since / 0.002, 0, 1), 0.0)


def _bell(random: Generator) -> Samples:
    """One or two strokes of a church bell: partials outside of one harmonic series, the high ones fading first."""
    hertz = random.uniform(330, 520)
    sound = np.zeros(_N_SAMPLES)
    for start in np.cumsum([random.uniform(0.05, 0.3), random.uniform(0.8, 1.0)])[: random.integers(1, 3)]:
        for ratio, level in ((0.5, 0.5), (1.0, 1.0), (1.19, 0.7), (1.5, 0.5), (2.0, 0.8), (2.74, 0.45), (4.07, 0.3)):
            sound += level * _tone(ratio * hertz) * _decay(start, 0.9 / ratio**0.7)
    return sound


def _cricket(random: Generator) -> Samples:
    """Chirps of three to five short pulses of one high tone."""
    hertz = random.uniform(4100, 5200)
    pulse = random.uniform(0.019, 0.025)
    chirp = random.uniform(0.28, 0.42)
    n_pulses = random.integers(3, 6)
    starts = np.arange(random.uniform(0.02, 0.2), SECONDS - 0.15, chirp)
    pulses = [start + 1.5 * pulse * number for start in starts for number in range(n_pulses)]
    return _tone(hertz) * sum(_gate(start, start + pulse, 0.005) for start in pulses)


def _frog(random: Generator) -> Samples:
    """Croaks: a low buzz of about 60 pulses a second, which two resonances of the throat colour."""
    sound = np.zeros(_N_SAMPLES)
    buzz = 0.5 + 0.5 * np.sign(_tone(random.uniform(50, 75)))
    colour = _band(random, random.uniform(450, 550), 800) + 0.8 * _band(random, random.uniform(1300, 1500), 1900)
    start = random.uniform(0.05, 0.35)
    while start < SECONDS - 0.3:
        length = random.uniform(0.16, 0.3)
        sound += buzz * colour * _gate(start, start + length, 0.03)
        start += length + random.uniform(0.12, 0.5)
    return sound


def _owl(random: Generator) -> Samples:
    """A long hoot and, after a pause, a trembling one."""
    hertz = random.uniform(360, 470)
    start = random.uniform(0.05, 0.25)
    pause = start + random.uniform(0.35, 0.5)
    second = pause + random.uniform(0.15, 0.35)
    trembling = 1 + 0.45 * np.sin(2 * np.pi * random.uniform(11, 14) * _TIME) * (second < _TIME)
    pitch = hertz * (1 + 0.06 * np.exp(-(((_TIME - start - 0.2) / 0.15) ** 2)))
    gates = _gate(start, pause, 0.07) + _gate(second, min(second + random.uniform(0.6, 0.9), 1.98), 0.09)
    return (_tone(pitch) + 0.18 * _tone(2 * pitch)) * gates * trembling


def _rain(random: Generator) -> Samples:
    """A rush of noise, and drops on leaves."""
    sound = 0.25 * _band(random, random.uniform(1200, 1800), random.uniform(5500, 7000))
    sound = sound / np.abs(sound).max() * 0.5
    drop = _TIME[: int(0.04 * SAMPLE_RATE)]
    for _ in range(random.integers(25, 60)):
        start = random.integers(0, _N_SAMPLES - len(drop))
        ringing = np.sin(2 * np.pi * random.uniform(1500, 4500) * drop) * np.exp(-drop / 0.006)
        sound[start : start + len(drop)] += random.uniform(0.1, 0.7) * ringing
    return sound


def _siren(random: Generator) -> Samples:
    """A far siren whose pitch rises and falls."""
    rate = random.uniform(0.6, 1.1)
    phase = random.uniform(0, 2 * np.pi)
    pitch = random.uniform(850, 1000) * 2 ** (0.6 * np.sin(2 * np.pi * rate * _TIME + phase))
    return (_tone(pitch) + 0.35 * _tone(2 * pitch) + 0.12 * _tone(3 * pitch)) * _gate(0.0, SECONDS, 0.05)


def _songbird(random: Generator) -> Samples:
    """A phrase of two to four kinds of notes, each a sweep that is repeated."""
    sound = np.zeros(_N_SAMPLES)
    start = random.uniform(0.05, 0.3)
    while start < SECONDS - 0.25:
        first, last = random.uniform(2400, 6200, 2)
        length = random.uniform(0.06, 0.14)
        for _ in range(random.integers(2, 5)):
            if start > SECONDS - 0.2:
                break
            along = np.clip((_TIME - start) / length, 0, 1)
            sound += _tone(first + (last - first) * along**1.5) * _gate(start, start + length, 0.02)
            start += length + random.uniform(0.025, 0.05)
        start += random.uniform(0.08, 0.25)
    return sound


def _woodpecker(random: Generator) -> Samples:
    """A roll of knocks on wood that becomes faster and softer."""
    sound = np.zeros(_N_SAMPLES)
    noise = _band(random, 700, 5000)
    wood = 0.8 * _tone(random.uniform(900, 1300)) + noise / np.abs(noise).max()
    for start in np.cumsum([random.uniform(0.1, 0.5), random.uniform(0.9, 1.1)])[: random.integers(1, 3)]:
        gap = random.uniform(0.06, 0.075)
        level = 1.0
        for _ in range(random.integers(9, 15)):
            sound += level * wood * _decay(start, 0.007)
            start += gap
            gap *= 0.97
            level *= 0.95
    return sound


_MAKERS = {
    "bell": _bell,
    "cricket": _cricket,
    "frog": _frog,
    "owl": _owl,
    "rain": _rain,
    "siren": _siren,
    "songbird": _songbird,
    "woodpecker": _woodpecker,
}
