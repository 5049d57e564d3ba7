"""Audio files as they are in the field: with lengths that are unknown or wrong, truncated, damaged, or in a chain."""

import math
import struct

import numpy as np
import soundfile

RATE = 16000
SECONDS = 6


def tone():
    """Two tones and some noise, which no codec packs into a few bytes."""
    seconds = np.arange(SECONDS * RATE) / RATE
    noise = 0.05 * np.random.default_rng(0).standard_normal(len(seconds))
    return (0.3 * np.sin(2 * math.pi * 440 * seconds) + noise).astype("float32")


def written(path, kind, subtype=None, **settings):
    """A whole file, written in small blocks as recorders do."""
    with soundfile.SoundFile(path, "w", RATE, 1, format=kind, subtype=subtype, **settings) as sound:
        for first in range(0, SECONDS * RATE, 8000):
            sound.write(tone()[first : first + 8000])
    return path


def edited(path, change):
    """The file with its bytes changed; `change` takes them as a bytearray and gives them back or changes them."""
    data = bytearray(path.read_bytes())
    changed = change(data)
    path.write_bytes(data if changed is None else changed)
    return path


def put(data, place, layout, *values):
    """Writes numbers into a header."""
    data[place : place + struct.calcsize(layout)] = struct.pack(layout, *values)


def flac_length(data, frames):
    """Sets the number of frames in the header of a FLAC file, in 36 bits; 0 is an unknown one, as in a pipe."""
    data[21] = data[21] & 0xF0 | frames >> 32
    put(data, 22, ">I", frames & 0xFFFFFFFF)


def wav_length(data, size):
    put(data, 4, "<I", min(size + 36, 2**32 - 1))
    put(data, 40, "<I", size)


def aiff_length(data, size):
    put(data, 4, ">I", size)
    put(data, data.find(b"SSND") + 4, ">I", size)
    put(data, data.find(b"COMM") + 10, ">I", size)


def without_first_frame(data):
    """An MP3 file without the frame that says how long it is."""
    return data[data.find(data[:2], 4) :]


WHOLE = {
    "wav": ("WAV", "PCM_16"),
    "flac": ("FLAC", "PCM_16"),
    "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"),
    "mp3": ("MP3", "MPEG_LAYER_III"),
    "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"),
    "caf": ("CAF", "PCM_16"),
    "alac.caf": ("CAF", "ALAC_16"),
    "w64": ("W64", "PCM_16"),
    "rf64": ("RF64", "PCM_16"),
    "ima.wav": ("WAV", "IMA_ADPCM"),
    # libsndfile cannot jump in the following three
    "g721.wav": ("WAV", "G721_32"),
    "nms.wav": ("WAV", "NMS_ADPCM_16"),
    "gsm.wav": ("WAV", "GSM610"),
}
"""Formats by suffix, as libsndfile names them."""

LENGTH_UNKNOWN = {
    "flac": lambda data: flac_length(data, 0),
    "wav": lambda data: wav_length(data, 2**32 - 1),
    "aiff": lambda data: aiff_length(data, 2**32 - 1),
    "au": lambda data: put(data, 8, ">I", 2**32 - 1),
}
"""Edits of the header of a whole file, after which it gives no length, by suffix."""

LENGTH_LOST = {
    "wav": wav_length,
    "au": lambda data, size: put(data, 8, ">I", size),
    "aiff": lambda data, size: aiff_length(data, size),
    "caf": lambda data, size: put(data, data.find(b"data") + 4, ">Q", size + 4),
    "rf64": lambda data, size: put(data, data.find(b"ds64") + 8, "<QQQ", size, size, size // 2),
}
"""Edits by which the header of a whole file gives a size of its samples in bytes."""

TOO_LONG = {
    "flac": lambda data: flac_length(data, 10 * SECONDS * RATE),
    "mp3": lambda data: data[: len(data) // 3],
    "wav": lambda data: data[: len(data) // 3],
    "aiff": lambda data: data[: len(data) // 3],
    "au": lambda data: data[: len(data) // 3],
}
"""Edits after which a file has less sound than its header says."""

TOO_SHORT = {
    "flac": lambda data: flac_length(data, RATE),
}
"""Edits after which a file has more sound than its header says."""

IMPLAUSIBLE = {
    "flac": lambda data: flac_length(data, 2**36 - 1),
    "mp3": lambda data: put(data, max(data.find(b"Xing"), data.find(b"Info")) + 8, ">I", 2**31 - 1),
    "wav": lambda data: wav_length(data, 2**32 - 16),
}
"""Edits after which a header says that there are hours to years of sound, of which no byte may be allocated."""


def damaged(data):
    """Random bytes in the middle."""
    middle = len(data) // 2
    data[middle : middle + 3000] = np.random.default_rng(0).bytes(3000)
