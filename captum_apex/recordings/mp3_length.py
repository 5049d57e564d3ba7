"""MP3 files that do not say how long they are, or say it wrongly."""

from __future__ import annotations

import os
import shutil
import struct
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

__all__ = ["with_length"]

# Bit rates of layer III in kbit/s, by their index, for MPEG-1 and for the lower sample rates: ISO 11172-3 and 13818-3.
_BIT_RATES = (
    (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 0),
    (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160, 0),
)
_SAMPLE_RATES = (44100, 48000, 32000, 0)
_DIVISORS = (4, 0, 2, 1)  # of the sample rate, by the bits for MPEG-2.5, none, 2 and 1
_MEDIUM_BIT_RATE = 8 << 4  # frames of it have enough bytes to hold a length, at every sample rate
_TAG_BYTES = 2**14  # that may follow the sound
_FEW_FRAMES = 2  # encoders do not agree on whether the first and last frame count
_BLOCK = 2**16


@contextmanager
def with_length(file: BinaryIO) -> Iterator[BinaryIO]:
    """A file whose length libsndfile knows: without a number of frames, it estimates one by the size of the first.

    Where the estimate is wrong, or the number is too small, as after two files were joined, the file is copied to a
    temporary file which has the right number in its first frame. The decoder then leaves out its own delay of 529
    samples, as for every file that gives a number.

    Args:
        file: an audio file on a disk, opened in binary mode.

    Yields:
        The file itself, or the copy.

    Example:
        >>> import tempfile
        >>> from captum_apex.recordings.libsndfile import library_file, sound_library
        >>> from captum_apex.recordings.mp3_length import with_length
        >>> loud = bytes([255, 251, 9 << 4, 192]).ljust(417, b"-")  # a frame at 128 kbit/s, then nine at 32
        >>> quiet = bytes([255, 251, 1 << 4, 192]).ljust(104, b"-")
        >>> library = sound_library()
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(loud + 9 * quiet)
        ...     with with_length(file) as complete:
        ...         round(library.SoundFile(library_file(complete), closefd=False).frames / 1152)
        10
    """
    start = _after_tags(file, 0)
    first = _read(file, start, 4)
    n_bytes = _frame_bytes(first)
    if not n_bytes or not _are_alike(_read(file, start + n_bytes, 4), first):
        yield file
        return
    place = _length_place(first)
    said = _said_length(_read(file, start + place, 16))
    size = file.seek(0, os.SEEK_END)
    if said is not None and size - start - said[1] <= _TAG_BYTES:
        yield file
        return
    n_frames = _n_frames(file, start, first)
    estimate = (size - start) // n_bytes
    if n_frames - said[0] <= _FEW_FRAMES if said else abs(n_frames - estimate) <= _FEW_FRAMES:
        yield file
        return
    with tempfile.TemporaryFile() as copy:
        if said is None:
            copy.write(_length_frame(first))
        file.seek(start)
        shutil.copyfileobj(file, copy)
        copy.seek(place + 8)
        copy.write(struct.pack(">I", n_frames if said is None else n_frames - 1))  # its own frame does not count
        yield copy


def _read(file: BinaryIO, position: int, n_bytes: int) -> bytes:
    file.seek(position)
    return file.read(n_bytes)


def _after_tags(file: BinaryIO, position: int) -> int:
    """The first byte after tags of ID3, which may lie at a position."""
    while (tag := _read(file, position, 10)).startswith(b"ID3") and len(tag) == 10:
        position += 10 + sum((byte & 127) << shift for byte, shift in zip(tag[6:], (21, 14, 7, 0), strict=True))
    return position


def _frame_bytes(header: bytes) -> int:
    """Size of the frame of layer III that begins with four bytes; 0 if none does."""
    if len(header) < 4 or header[0] != 255 or header[1] & 0b11100110 != 0b11100010:
        return 0
    divisor = _DIVISORS[header[1] >> 3 & 3]
    rate = _SAMPLE_RATES[header[2] >> 2 & 3]
    bit_rate = _BIT_RATES[divisor != 1][header[2] >> 4]
    if not divisor or not rate or not bit_rate:
        return 0
    n_samples = 1152 if divisor == 1 else 576
    return n_samples // 8 * 1000 * bit_rate * divisor // rate + (header[2] >> 1 & 1)


def _length_place(header: bytes) -> int:
    """Where in the first frame its length may be, after the header and what describes the sound."""
    is_mono = header[3] >> 6 == 3
    is_first_version = _DIVISORS[header[1] >> 3 & 3] == 1
    return 4 + ((17 if is_mono else 32) if is_first_version else (9 if is_mono else 17))


def _said_length(field: bytes) -> tuple[int, int] | None:
    """Numbers of frames and of bytes that the first frame gives."""
    if len(field) < 16 or field[:4] not in {b"Xing", b"Info"} or not field[7] & 1:
        return None
    n_frames, n_bytes = struct.unpack(">II", field[8:])
    return n_frames, n_bytes if field[7] & 2 else 0


def _length_frame(header: bytes) -> bytes:
    """A frame of silence that gives a number of frames, which is still to be written."""
    header = bytes([255, header[1] | 1, _MEDIUM_BIT_RATE | header[2] & 0b1100, header[3]])
    field = b"Xing" + struct.pack(">I", 1)
    return (header.ljust(_length_place(header), b"\0") + field).ljust(_frame_bytes(header), b"\0")


def _n_frames(file: BinaryIO, position: int, first: bytes) -> int:
    """The number of whole frames from a position on."""
    size = file.seek(0, os.SEEK_END)
    n_frames = 0
    while position < size:
        header = _read(file, position, 4)
        n_bytes = _frame_bytes(header) if _are_alike(header, first) else 0
        n_frames += 0 < n_bytes <= size - position
        position = position + n_bytes if n_bytes else _next_frame(file, position, first)
    return n_frames


def _are_alike(header: bytes, first: bytes) -> bool:
    """Whether two frames have the same version, layer, sample rate, and one or two channels."""
    if len(header) < 4:
        return False
    has_one = header[3] >> 6 == 3
    return (header[1] | 1, header[2] & 12, has_one) == (first[1] | 1, first[2] & 12, first[3] >> 6 == 3)


def _next_frame(file: BinaryIO, position: int, first: bytes) -> int:
    """A later position, after a tag or damage: the next frame that another one follows, or what is still to search."""
    after = _after_tags(file, position)
    if after > position:
        return after
    block = _read(file, position + 1, _BLOCK)
    place = block.find(255)
    while place >= 0:
        header = block[place : place + 4]
        following = position + 1 + place + _frame_bytes(header)
        if _are_alike(header, first) and _frame_bytes(header) and _are_alike(_read(file, following, 4), first):
            return position + 1 + place
        place = block.find(255, place + 1)
    return position + 1 + (len(block) - 3 if len(block) == _BLOCK else len(block))
