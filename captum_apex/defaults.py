"""Defaults and limits that the library and the command line share; this module imports nothing that takes long."""

from __future__ import annotations

__all__ = [
    "BASIS_SUFFIX",
    "CLIPS_PER_PROTOTYPE",
    "FIT_EPOCHS",
    "FIT_PROTOTYPES",
    "KEPT_PROTOTYPES",
    "N_CHANNELS",
    "SCHEME_NAMES",
]

BASIS_SUFFIX = ".safetensors"
"""The ending of the files of bases."""

FIT_EPOCHS = {"gradient": 20, "closed-form": 10}
"""The methods of the fit, the default first, each with its epochs by default."""

FIT_PROTOTYPES = {"gradient": 100, "closed-form": 20}
"""Prototypes of a channel at most at the beginning of the fit, for each method."""

CLIPS_PER_PROTOTYPE = 16
"""Clips for each prototype of a channel at the beginning of a fit in closed form, at least."""

KEPT_PROTOTYPES = 5
"""Prototypes of a channel at most in the basis."""

N_CHANNELS = 5
"""Channels of evidence in one explanation at most, by default."""

SCHEME_NAMES = ("square", "time", "frequency", "time-frequency")
"""Names of the four schemes, in the order of `captum_apex.SCHEMES`."""
