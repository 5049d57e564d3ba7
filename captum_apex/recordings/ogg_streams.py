"""Ogg files of several streams one after the other, as recorders of internet radio write them."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np

from captum_apex.recordings.libsndfile import library_file

__all__ = ["joined_streams"]

_BLOCK = 2**16
_HEADER = 27  # bytes of a page before its table of segments
_BEGINNING = 2  # flag of the first page of a stream


@contextmanager
def joined_streams(file: BinaryIO, library: ModuleType, name: str) -> Iterator[BinaryIO]:
    """A file in which libsndfile finds all of the sound: of a chain of Ogg streams it decodes only the first.

    Args:
        file: an audio file on a disk, opened in binary mode.
        library: the soundfile package.
        name: name of the file, for messages.

    Yields:
        The file itself, or for a chain of streams a temporary file with the sound of all of them.

    Raises:
        ValueError: if the streams have different sample rates or numbers of channels.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings.libsndfile import library_file, sound_library
        >>> from captum_apex.recordings.ogg_streams import joined_streams
        >>> library = sound_library()
        >>> stream = listening.encoded(torch.zeros(8000), 8000, "ogg")
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(stream + stream)
        ...     with joined_streams(file, library, "radio.ogg") as joined:
        ...         library.SoundFile(library_file(joined), closefd=False).frames
        16000
    """
    starts = _stream_starts(file)
    if len(starts) < 2:
        yield file
        return
    file.seek(0, os.SEEK_END)
    ends = [*starts[1:], file.tell()]
    with tempfile.TemporaryFile() as joined, ExitStack() as stack:
        target: Any = None
        for start, end in zip(starts, ends, strict=True):
            with _part(file, start, end) as part, library.SoundFile(library_file(part), closefd=False) as sound:
                if target is None:
                    target = library.SoundFile(
                        library_file(joined),
                        "w",
                        sound.samplerate,
                        sound.channels,
                        format="W64",
                        subtype="FLOAT",
                        closefd=False,
                    )
                    stack.callback(target.close)
                _check_alike(sound, target, name)
                _copy(sound, target)
        stack.close()
        yield joined


def _stream_starts(file: BinaryIO) -> list[int]:
    """The first byte of each stream of a chain; streams that run beside one another begin together, and count once."""
    starts: list[int] = []
    position = 0
    was_beginning = False
    while True:
        file.seek(position)
        header = file.read(_HEADER + 255)
        if len(header) < _HEADER or not header.startswith(b"OggS"):
            return starts
        is_beginning = bool(header[5] & _BEGINNING)
        if is_beginning and not was_beginning:
            starts.append(position)
        was_beginning = is_beginning
        n_segments = header[_HEADER - 1]
        position += _HEADER + n_segments + sum(header[_HEADER : _HEADER + n_segments])


@contextmanager
def _part(file: BinaryIO, start: int, end: int) -> Iterator[BinaryIO]:
    """A part of a file as a temporary file."""
    with tempfile.TemporaryFile() as part:
        file.seek(start)
        while block := file.read(min(_BLOCK, end - file.tell())):
            part.write(block)
        yield part


def _check_alike(sound: Any, first: Any, name: str) -> None:
    if (sound.samplerate, sound.channels) != (first.samplerate, first.channels):
        raise ValueError(
            f"expected {name} to have one sample rate and number of channels, but it is a chain of streams with "
            f"{first.samplerate} Hz, {first.channels} and {sound.samplerate} Hz, {sound.channels}; split it, for "
            "instance by oggz-chop or ffmpeg"
        )


def _copy(sound: Any, target: Any) -> None:
    sound.seekable = lambda: False  # otherwise soundfile jumps after every block to where it is
    block = np.empty((_BLOCK // 16, sound.channels), dtype="float32")
    while len(read := sound.read(out=block)):
        target.write(read)
