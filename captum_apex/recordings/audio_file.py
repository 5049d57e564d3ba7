"""An opened audio file, which is decoded in blocks to its real end, whatever its header says."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from io import FileIO
from types import ModuleType
from typing import Any, BinaryIO

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from captum_apex.caller import warn_caller
from captum_apex.recordings.libsndfile import library_file, sound_library
from captum_apex.recordings.mp3_length import with_length
from captum_apex.recordings.ogg_streams import joined_streams
from captum_apex.recordings.plain_samples import UNKNOWN_BYTES, PlainSamples, plain_samples

__all__ = ["AudioFile", "UnreadableAudioError", "opened_audio"]

_BLOCK = 2**12  # frames that are decoded at once; a frame has a sample of each channel
_FRAMES_PER_BYTE = 2**13  # more than any codec packs into a byte, even of silence
_HEADER_BYTES = 2**12  # a file without sound is seldom larger
_SECONDS_MISSING = 0.1  # headers of lossy formats may be wrong by less
# Frames of MP3 need up to 511 bytes of frames before them, which may be 30 of its shortest frames. Without those,
# libsndfile gives silence or noise after a jump.
_LEAD = {"MP3": 2**15}
# After the last sample of a file there may be tags, or the rest of a page of packets.
_TAG_BYTES = {"FLAC": 2**10, "MP3": 2**10, "OGG": 2**17}
_OTHER_TAG_BYTES = 2**14
_TAG_SHARE = 0.02
# libsndfile's notes on a header, such as "data : 32000 (should be 10637)"
_CUT = re.compile(r"(?:data|Data Size|SSND) *: (\d+) \(should be (\d+)\)")


@contextmanager
def opened_audio(file: BinaryIO, name: str) -> Iterator[AudioFile]:
    """An audio file to read from, in any format that libsndfile reads.

    Args:
        file: a file opened in binary mode, or its bytes in an `io.BytesIO`.
        name: name of the file, for messages.

    Yields:
        The file, until the end of the block.

    Raises:
        ValueError: if the file is not audio.
        ImportError: if soundfile is missing.

    Example:
        >>> import io
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings.audio_file import opened_audio
        >>> sound = listening.encoded(torch.tensor([0.0, 0.25, 0.5]), 8000, "wav")
        >>> with opened_audio(io.BytesIO(sound), "a.wav") as audio:
        ...     audio.rate, audio.n_frames, audio.read(1, 10).tolist()
        (8000, 3, [[0.25, 0.5]])
    """
    library = sound_library()
    try:
        with (
            _on_disk(file) as original,
            joined_streams(original, library, name) as joined,
            with_length(joined) as source,
        ):
            audio = AudioFile(library, source, name)
            try:
                yield audio
            finally:
                audio.close()
    except library.SoundFileError as error:
        message = f"expected {name} to be audio, but it cannot be read: {_reason(error)}"
        raise UnreadableAudioError(message) from error


class UnreadableAudioError(ValueError):
    """A file is no audio, or is damaged.

    Example:
        >>> import io
        >>> from captum_apex.recordings.audio_file import UnreadableAudioError, opened_audio
        >>> try:
        ...     with opened_audio(io.BytesIO(b"no sound"), "a.wav"):
        ...         pass
        ... except UnreadableAudioError as error:
        ...     print(str(error).partition(",")[0])
        expected a.wav to be audio
    """


class AudioFile:
    """An audio file that is being read; `opened_audio` opens it.

    Reading goes on from where it ended, and jumps in the file only where it must, because not every format can jump,
    and a damaged file may jump to a wrong place.

    If the file ends before its header says so, or cannot be decoded further, or goes on after the end that its header
    gives, a warning says where.

    Args:
        library: the soundfile package.
        source: the opened file.
        name: name of the file, for messages.

    Example:
        >>> import tempfile
        >>> import torch
        >>> from captum_apex import listening
        >>> from captum_apex.recordings import sound_library
        >>> from captum_apex.recordings.audio_file import AudioFile
        >>> with tempfile.TemporaryFile() as file:
        ...     _ = file.write(listening.encoded(torch.tensor([0.0, 0.25, 0.5]), 8000, "wav"))
        ...     file.flush()
        ...     audio = AudioFile(sound_library(), file, "a.wav")
        ...     audio.read(0, 2)
        ...     audio.close()
        tensor([[0.0000, 0.2500]])
    """

    def __init__(self, library: ModuleType, source: BinaryIO, name: str) -> None:
        self.name = name
        self._library = library
        self._source = source
        self._size = os.fstat(source.fileno()).st_size
        self._plain: PlainSamples | None = None
        self._sound = self._opened()
        self._plain = plain_samples(self._sound, source)
        if self._plain is None:
            self._frames = self._sound.frames
            self._claimed_frames = _claimed_frames(self._sound, self._size)
        else:
            self._sound.close()
            self._sound = self._opened()
            self._frames = self._claimed_frames = self._plain.n_frames
        self._position = 0  # the frame that is decoded next
        self._last = np.empty((0, self.n_channels), dtype="float32")  # the frames before it, as far as they are kept
        self._warned = False

    @property
    def rate(self) -> int:
        """Sample rate in Hz, as the header says."""
        return self._sound.samplerate

    @property
    def n_channels(self) -> int:
        """Number of channels."""
        return self._sound.channels

    @cached_property
    def n_frames(self) -> int:
        """Number of samples of each channel as the header says; where that cannot be true, they are counted."""
        if self._claimed_frames is not None:
            return self._frames
        self._go_to(0)
        while len(self._block(_BLOCK)):
            pass
        return self._position

    def read(self, first: int, n_frames: int | None = None) -> Tensor:
        """Samples of the file, float32 (channel, sample); fewer where the file ends.

        Args:
            first: the first sample.
            n_frames: number of samples; None for all up to the end.
        """
        n_kept = max(0, self._position - first)
        if n_kept > len(self._last):
            n_kept = 0
        blocks = [self._last[len(self._last) - n_kept :]]
        self._go_to(first + n_kept)
        n_read = n_kept
        while n_frames is None or n_read < n_frames:
            block = self._block(_BLOCK if n_frames is None else min(_BLOCK, n_frames - n_read))
            if not len(block):
                break
            n_read += len(block)
            blocks.append(block)
        frames = np.concatenate(blocks)
        self._last = frames[:0] if n_frames is None else frames
        return torch.from_numpy(frames[:n_frames].T.copy())  # (sample, channel) → (channel, sample)

    def what_is_missing(self) -> str:
        """Why there is no sound, as far as header and size tell it."""
        if self._size > _HEADER_BYTES and not self._frames:
            return (
                f"its header says that it is empty, although it has {self._size} bytes: it was not completed, or is "
                "damaged; ffmpeg or sox can write it anew"
            )
        return "it is empty"

    def close(self) -> None:
        """Closes the sound, but not the file."""
        self._sound.close()

    def _opened(self, first: int = 0) -> Any:
        """The sound from its beginning; plain samples also from a later frame."""
        if self._plain is not None:
            self._can_jump = False
            return self._plain.opened(self._library, self._source, first)
        file = library_file(self._source)
        sound = self._library.SoundFile(file, closefd=False) if isinstance(file, int) else self._library.SoundFile(file)
        self._can_jump = sound.seekable()
        # Otherwise soundfile would jump after every block to where it is, which fails at the end of some files.
        sound.seekable = lambda: False
        return sound

    def _go_to(self, frame: int) -> None:
        """Makes a frame the next one to decode, or the end of the file where it has fewer frames."""
        if frame == self._position:
            return
        self._last = self._last[:0]
        start = frame - _LEAD.get(self._sound.format, 0)
        if not start <= self._position < frame and not self._has_jumped(start):
            self._sound.close()
            self._position = 0 if self._plain is None else min(frame, self._frames)
            self._sound = self._opened(self._position)
        while self._position < frame and len(self._block(min(_BLOCK, frame - self._position))):
            pass

    def _has_jumped(self, frame: int) -> bool:
        """Whether a frame is the next one, after a jump."""
        try:
            if not self._can_jump or not 0 <= frame < self._frames or self._sound.seek(frame) != frame:
                return False
        except self._library.SoundFileError:
            return False
        self._position = frame
        return True

    def _block(self, n_frames: int) -> NDArray[np.float32]:
        """The next frames, (sample, channel); none at the end."""
        fault = ""
        if self._plain is not None:
            n_frames = min(n_frames, self._frames - self._position)  # chunks may follow
        block = np.empty((n_frames, self.n_channels), dtype="float32")
        try:
            block = self._sound.read(out=block)
        except self._library.SoundFileError as error:
            if not self._position:
                raise
            fault = _reason(error)
            block = block[:0]
        self._position += len(block)
        if len(block) < n_frames or self._position >= self._frames:
            self._check_end(fault)
        return block

    def _check_end(self, fault: str) -> None:
        """Warns once where the end of the sound is not the end that the header gives, or not the end of the file."""
        if self._warned:
            return
        seconds = self._position / self.rate
        claimed = self._claimed_frames
        says = "its header gives no length" if claimed is None else f"its header says {claimed / self.rate:g} s"
        unread = self._size - os.lseek(self._source.fileno(), 0, os.SEEK_CUR)
        tags = max(_TAG_BYTES.get(self._sound.format, _OTHER_TAG_BYTES), _TAG_SHARE * self._size)
        if fault:
            message = f"{self.name} cannot be decoded after {seconds:g} s ({says}): {fault}"
        elif claimed is not None and claimed - self._position > _SECONDS_MISSING * self.rate:
            message = f"{self.name} ends at {seconds:g} s, but {says}"
            if self._sound.format == "OGG":  # its length is that of its last page, so it is not truncated
                message += "; damaged parts are skipped, so that what follows them is too early"
        elif self._plain is not None and not self._plain.is_certain:
            message = (
                f"{self.name} is read up to the end of the file at {seconds:g} s, although its header says "
                f"{self._plain.n_claimed / self.rate:g} s; if not all of it is sound, write it anew with ffmpeg or sox"
            )
        elif self._plain is None and self._position and unread > tags:
            message = (
                f"{self.name} is read up to {seconds:g} s, because {says}, but {unread} of its {self._size} bytes "
                "follow; if there should be more sound, write it anew with ffmpeg or sox"
            )
        else:
            return
        self._warned = True
        warn_caller(message)


@contextmanager
def _on_disk(file: BinaryIO) -> Iterator[BinaryIO]:
    """The file itself, or a temporary copy where it is only a Python object or a pipe."""
    is_seekable = file.seekable()
    position = file.tell() if is_seekable else 0
    if is_seekable and isinstance(getattr(file, "raw", file), FileIO):
        try:
            yield file
        finally:
            if not file.closed:  # as after an interruption, where Python ends this only when it collects garbage
                file.seek(0, os.SEEK_END)  # lets go of Python's buffer, because libsndfile has moved the descriptor
                file.seek(position)
        return
    if is_seekable:
        file.seek(0)
    with tempfile.TemporaryFile() as copy:
        shutil.copyfileobj(file, copy)
        if is_seekable:
            file.seek(position)
        yield copy


def _reason(error: Exception) -> str:
    """What libsndfile says; the error itself begins with the number of the descriptor."""
    return getattr(error, "error_string", None) or str(error) or type(error).__name__


def _claimed_frames(sound: Any, size: int) -> int | None:
    """The number of frames that the header of a file of some bytes gives; None where it cannot be true."""
    if sound.frames > size * _FRAMES_PER_BYTE:
        return None
    cut = _CUT.search(sound.extra_info)
    if cut is None or not int(cut[2]) or int(cut[1]) > UNKNOWN_BYTES:
        return sound.frames
    return sound.frames * int(cut[1]) // int(cut[2])
