"""Sounds as waveforms, and audio files in a fixed order, with labels."""

from captum_apex.recordings.decoding import as_waveform, decode, read, sound_library
from captum_apex.recordings.folders import SUFFIXES, AudioDataset, Recordings, audio_files

__all__ = ["SUFFIXES", "AudioDataset", "Recordings", "as_waveform", "audio_files", "decode", "read", "sound_library"]
