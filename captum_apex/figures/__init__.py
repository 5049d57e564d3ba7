"""Pictures of explanations: real axes in seconds and Hz, levels in dB, readable without colour vision and in print.

Every function returns the matplotlib figure, never opens a window, and needs no display. It draws on a new figure, or
on one that you give: `figure=` takes a figure or a subfigure, which gets a constrained layout unless it has a layout;
functions of one panel take axes, `ax=`. Sizes of text follow matplotlib's `font.size`.

*One clip*: `spectrogram`, `waveform`, and `clips` side by side. *An explanation*: `explanation`, `perspectives`,
`channel_maps`, `waterfall`. *A long recording*: `recording`. *A basis*: `before_and_after`, `purity`, `channels`,
`class_prototypes`. *Comparisons*: `maps`, `masking`, `twins`, `curves`.
"""

from captum_apex.figures.basis_overview import channels, class_prototypes
from captum_apex.figures.channel_maps import channel_maps
from captum_apex.figures.charts import curves, purity, waterfall
from captum_apex.figures.comparisons import maps, masking, twins
from captum_apex.figures.fitted_prototypes import before_and_after
from captum_apex.figures.prototypes import explanation, perspectives
from captum_apex.figures.spectrogram import clips, spectrogram
from captum_apex.figures.timelines import recording
from captum_apex.figures.waveforms import waveform

__all__ = [
    "before_and_after",
    "channel_maps",
    "channels",
    "class_prototypes",
    "clips",
    "curves",
    "explanation",
    "maps",
    "masking",
    "perspectives",
    "purity",
    "recording",
    "spectrogram",
    "twins",
    "waterfall",
    "waveform",
]
