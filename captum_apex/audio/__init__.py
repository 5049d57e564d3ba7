"""A clip for figures and players: its spectrogram in dB with axes in Hz and seconds, its waveform, and regions of it.

- `axes`: conversion between bins and frames of a spectrogram and Hz and seconds; `frequency_scales`: the bins, such as
  mel bands; `frame_times`: the frames; `transform_fields`: the axes of a torchaudio transform.
- `clip`: one clip, and the place of a box in it.
- `cutting`: the masks that cut a region out of a sound.
- `regions`: boxes, as fractions of the model's input, places, in Hz and seconds, and regions, their unions.
- `texts`: names of files and classes as texts of figures, pages and tables.
"""

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import Clip, level_limits
from captum_apex.audio.clip_lookup import ClipLookup
from captum_apex.audio.regions import Box, Place, Region

__all__ = ["Box", "Clip", "ClipLookup", "Place", "Region", "SpectrogramAxes", "level_limits"]
