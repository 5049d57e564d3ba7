"""Where in a clip a channel of the basis fires: regions at the input, and what masking them takes away.

- `bins`: a clip as bins over frequency and time that can be replaced: a spectrogram, the spectrum of a waveform, or
  what a module inside the model gives.
- `channel_values`: the channels of a clip for altered copies of it, by passes that end at the layer.
- `candidates`: boxes around the parts of an attribution map that stand out.
- `placement`: the same boxes at random places.
- `nothing`: whether a channel fires on silence, at the border of the clip, or where a sound ends.
- `region_search`: `RegionSearch`, which finds the region of each channel and measures its effect.
- `region_effect`: `RegionEffect`, what masking a region takes away, beside random places.
"""

from captum_apex.locating.region_effect import RegionEffect
from captum_apex.locating.region_search import LocatedRegion, RegionSearch

__all__ = ["LocatedRegion", "RegionEffect", "RegionSearch"]
