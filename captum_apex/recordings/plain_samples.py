"""Uncompressed samples that go on after the length that the header of their file gives."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass
from types import ModuleType
from typing import Any, BinaryIO

from captum_apex.recordings.libsndfile import library_file

__all__ = ["UNKNOWN_BYTES", "PlainSamples", "plain_samples"]

_SAMPLE_BYTES = {
    "PCM_S8": 1,
    "PCM_U8": 1,
    "ULAW": 1,
    "ALAW": 1,
    "PCM_16": 2,
    "PCM_24": 3,
    "PCM_32": 4,
    "FLOAT": 4,
    "DOUBLE": 8,
}
# How the length of a chunk is written after its name, and the byte order of samples where no other is said.
_CHUNKS = {"WAV": "I", "WAVEX": "I", "RF64": "I", "AIFF": "I", "CAF": "q", "AU": ""}
_ORDERS = {"WAV": "LITTLE", "WAVEX": "LITTLE", "RF64": "LITTLE", "AIFF": "BIG", "CAF": "BIG", "AU": "BIG"}
_WRAP = 2**32  # headers with 32 bits for the length give what remains after division by it
UNKNOWN_BYTES = 2**31 - 2**16
"""Programs that write into a pipe put a size above it into the header."""
_TAG_BYTES = 2**14  # other programs may add so much to a file without a chunk for it


@dataclass(frozen=True)
class PlainSamples:
    """Where the samples of a file are.

    Args:
        start: the first byte.
        n_frames: number of samples of each channel.
        n_claimed: the number that the header gives.
        is_certain: whether all of it must be sound, since the header gives the remainder of its length in 32 bits, or
            none.
        settings: how the samples are stored, as arguments of `soundfile.SoundFile`.
        frame_bytes: size of the samples of all channels at one time.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings.libsndfile import sound_library
        >>> from captum_apex.recordings.plain_samples import PlainSamples
        >>> settings = {"samplerate": 8000, "channels": 1, "subtype": "PCM_16", "endian": "LITTLE"}
        >>> samples = PlainSamples(44, 3, n_claimed=0, is_certain=True, settings=settings, frame_bytes=2)
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(listening.encoded(torch.tensor([0.0, 0.25, 0.5]), 8000, "wav"))
        ...     with samples.opened(sound_library(), file, first=1) as sound:
        ...         sound.read(2).tolist()
        [0.25, 0.5]
    """

    start: int
    n_frames: int
    n_claimed: int
    is_certain: bool
    settings: dict[str, Any]
    frame_bytes: int

    def opened(self, library: ModuleType, file: BinaryIO, first: int = 0) -> Any:
        """The sound from a frame on, as a `soundfile.SoundFile` that cannot jump and may go on after the end."""
        target = library_file(file)
        more = {"closefd": False} if isinstance(target, int) else {}
        sound = library.SoundFile(target, format="RAW", **self.settings, **more)
        # libsndfile reads on from where the file is; soundfile must not jump back after every block.
        sound.seekable = lambda: False
        library_file(file, self.start + first * self.frame_bytes)
        return sound


def plain_samples(sound: Any, file: BinaryIO) -> PlainSamples | None:
    """The samples of a file whose header gives too small a length; None for another, or for a compressed file.

    Args:
        sound: a `soundfile.SoundFile` that was just opened, so that the file is at the first sample.
        file: the file that it reads.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings.libsndfile import library_file, sound_library
        >>> from captum_apex.recordings.plain_samples import plain_samples
        >>> library = sound_library()
        >>> data = bytearray(listening.encoded(torch.tensor([0.0, 0.25, 0.5]), 8000, "wav"))
        >>> data[40:44] = bytes(4)  # the length, as recorders leave it that stop without power
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(data)
        ...     with library.SoundFile(library_file(file), closefd=False) as sound:
        ...         samples = plain_samples(sound, file)
        ...     samples.n_claimed, samples.n_frames
        (0, 3)
    """
    if sound.format not in _CHUNKS or sound.subtype not in _SAMPLE_BYTES:
        return None
    start = os.lseek(file.fileno(), 0, os.SEEK_CUR)
    size = os.fstat(file.fileno()).st_size
    order = _ORDERS[sound.format] if sound.endian == "FILE" else sound.endian
    frame_bytes = _SAMPLE_BYTES[sound.subtype] * sound.channels
    claimed = sound.frames * frame_bytes
    if size - start <= claimed:
        return None
    missing = (size - start - claimed) // _WRAP * _WRAP
    n_frames = -(-(claimed + missing) // frame_bytes)  # rounded up: libsndfile has cut the remainder to whole frames
    is_certain = _ends_at(file, start + n_frames * frame_bytes, sound)
    library_file(file, start)
    if is_certain and not missing:
        return None
    if not is_certain:
        n_frames = (size - start) // frame_bytes
        is_certain = not claimed or claimed > UNKNOWN_BYTES
    settings = {"samplerate": sound.samplerate, "channels": sound.channels, "subtype": sound.subtype, "endian": order}
    return PlainSamples(start, n_frames, sound.frames, is_certain, settings, frame_bytes)


def _ends_at(file: BinaryIO, end: int, sound: Any) -> bool:
    """Whether nothing follows but chunks, such as names and notes, or a few bytes."""
    size = os.fstat(file.fileno()).st_size
    is_big = _ORDERS[sound.format] == "BIG" or sound.endian == "BIG"
    layout = (">4s" if is_big else "<4s") + _CHUNKS[sound.format]
    width = struct.calcsize(layout)
    position = end
    while width > 4 and position + width <= size:
        file.seek(position + (position % 2 if width == 8 else 0))
        name, length = struct.unpack(layout, file.read(width).ljust(width, b"\0"))
        if not all(32 <= byte < 127 for byte in name) or length < 0:
            break
        position = file.tell() + length
    return -1 <= size - position <= (_TAG_BYTES if sound.frames or position > end else 0)
