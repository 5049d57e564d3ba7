"""Audio files and sounds in memory as waveforms.

- `decoding`: one file or one sound in memory → a waveform with one channel, at a sample rate and of a length.
- `folders`: `Recordings`, sounds in a fixed order, with labels: of a folder (`folder_files`), of a CSV file or another
  table (`tables`), or of a Hugging Face data set (`audio_rows`).
- `class_labels`: labels of any kind as indices of classes, and the class that a name means; `background_labels`: clips
  without any of the classes.
- `slices`: `Slices`, long recordings as clips of equal duration, with the labels of files or of annotations.
- `annotations`: `AnnotatedRecordings`, where the classes sound in recordings, from the files that `annotation_files`
  reads: selection tables of Raven, labels of Audacity, CSV, and TextGrids (`text_grids`).
- `short_sounds`: what is done with sounds that are shorter than the clips of a model.
- `windows`: a long recording as windows of equal length, which are read one by one.
- `audio_file`: an opened file, decoded in blocks to its real end; `ogg_streams`: chains of Ogg streams.
- `resampling`: another sample rate, for any pair of rates.
- `libsndfile`: the soundfile package, which is optional.
"""

from captum_apex.recordings.annotation_files import Annotation, from_crowsetta, read_annotations
from captum_apex.recordings.annotations import AnnotatedRecordings
from captum_apex.recordings.decoding import as_waveform, decode, read
from captum_apex.recordings.folder_files import SUFFIXES, audio_files
from captum_apex.recordings.folders import AudioDataset, Recordings
from captum_apex.recordings.libsndfile import sound_library
from captum_apex.recordings.slices import Slices
from captum_apex.recordings.text_grids import Interval, read_text_grid

__all__ = [
    "SUFFIXES",
    "AnnotatedRecordings",
    "Annotation",
    "AudioDataset",
    "Interval",
    "Recordings",
    "Slices",
    "as_waveform",
    "audio_files",
    "decode",
    "from_crowsetta",
    "read",
    "read_annotations",
    "read_text_grid",
    "sound_library",
]
