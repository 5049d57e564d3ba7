"""Audio files and sounds in memory as waveforms.

- `decoding`: one file or one sound in memory → a waveform with one channel, at a sample rate and of a length.
- `folders`: all audio files of a folder, in a fixed order, with labels.
- `windows`: a long recording as windows of equal length, which are read one by one.
- `audio_file`: an opened file, decoded in blocks to its real end; `ogg_streams`: chains of Ogg streams.
- `resampling`: another sample rate, for any pair of rates.
- `libsndfile`: the soundfile package, which is optional.
"""

from captum_apex.recordings.decoding import as_waveform, decode, read
from captum_apex.recordings.folders import SUFFIXES, AudioDataset, Recordings, audio_files
from captum_apex.recordings.libsndfile import sound_library

__all__ = ["SUFFIXES", "AudioDataset", "Recordings", "as_waveform", "audio_files", "decode", "read", "sound_library"]
