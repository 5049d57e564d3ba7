"""Readers of public collections of sounds, each in the layout in which it is published.

- `spoken_digits`: the Free Spoken Digit Dataset.
- `environmental_sounds`: ESC-50 and ESC-10.
- `vocoded_speech`: WaveFake with LJSpeech.
- `bird_calls`: BirdSet.
- `collection`: the list of files of a collection, and checks of the readers' arguments.

Each reader gives labelled sounds in a fixed order, as `Recordings.in_folder` does for a folder with one sub-folder per
class. `Classifier.dataset` turns them into the inputs of a model. Only `birdset` downloads anything, and only if it
gets the name of a subset.
"""

from captum_apex.datasets.bird_calls import BirdSet, birdset
from captum_apex.datasets.environmental_sounds import esc10, esc50
from captum_apex.datasets.spoken_digits import fsdd
from captum_apex.datasets.vocoded_speech import wavefake

__all__ = ["BirdSet", "birdset", "esc10", "esc50", "fsdd", "wavefake"]
