"""Failures that are known and not mended yet. A case that shows one is counted as `excluded`, not as right.

To switch a check on, delete its entry. `FUZZ_STRICT=1` switches all on. An entry without cases in the table at the end
of `make fuzz` is mended: delete it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass


class Excluded(Exception):  # noqa: N818 - not an error: it ends a case that would show a known failure
    """Raised by a target that must not run a case, since it would take all memory; its text names the failure."""


@dataclass(frozen=True)
class Entry:
    """A known failure.

    Attributes:
        target: name of the target.
        pattern: regular expression that the text of the failure holds: number of the case, traceback and message.
    """

    target: str
    pattern: str

    def matches(self, target: str, text: str) -> bool:
        """Whether a failure is this one."""
        return target == self.target and re.search(self.pattern, text, re.DOTALL) is not None


ARGUMENTS = {
    "APEX.attribute": "channels inputs target",
    "Classifier": "class_names length sample_rate",
    "FeatureBank.from_dataset": "batch_size dataset layout max_memory schemes",
    "LayerAPEX.attribute": "channels inputs n_channels sides target",
    "PrototypeBasis": "U scheme",
    "RegionSearch": "batch_size n_random smallest",
    "SpectrogramAxes": "hop_length n_fft sample_rate",
    "Windows.of": "hop sample_rate window",
    "as_waveform": "length rate sample_rate",
    "basis_from_matrix": "U n_prototypes scheme",
    "blur_fill": "inputs sigma",
    "explain": "inputs n_channels n_prototypes sides target",
    "explain_classes": "inputs n_channels n_prototypes sides",
    "explain_recording": "batch_size hop level n_channels sides threshold window",
    "fit_basis": "batch_size epochs learning_rate n_prototypes reselect_every scheme seed weight_decay",
    "named_fill": "name",
    "named_grid": "name shape",
    "noise_fill": "inputs seed",
    "random_removals": "n_masks n_regions seed",
    "silence_fill": "inputs silence",
}
"""Public function → its arguments for which odd values raise an error of Python or of torch."""
KNOWN = (
    Entry("models", r"output='(tuple|pair|dict|list)'\) for"),  # no tensor
    Entry("models", r"output='squeezed'\) for 1 clips"),  # the output has lost its clip axis
    Entry("models", r"AssertionError: a map is not finite.*pooling='deviation'"),
    Entry("models", r"is a view and is being modified inplace"),  # an activation in place behind a norm
    Entry("labels", r"bases/collation.py\", line \d+, in __call__(?!.*AssertionError)"),
    Entry("labels", r"bank_writer.py\", line \d+, in labels"),
    Entry("labels", r"of kind 'minus one' is named"),
    Entry("labels", r"of kind '(tensor|numpy) \(1,\)' is named"),
    Entry("labels", r"AssertionError: \d+ labels for \d+ clips"),
    Entry("bases", r"AssertionError: a damaged basis is taken for a whole one"),
    Entry("banks", r"AssertionError: a damaged bank is taken for a whole one"),
    Entry("banks", r"tokenize.TokenError|SyntaxError"),
    Entry("sounds", r"in _create_empty_array"),  # a header that states an enormous or a negative length
    Entry("sounds", r"the window at \d+ of sound.mp3 is wrong"),  # libsndfile seeks wrongly by less than some frames
    Entry("commands", r"Cannot copy out of meta tensor"),
    Entry("commands", r"'tuple' object has no attribute"),  # a model that gives a tuple, in `events`
    Entry("commands", r"fuzzed_model.py\", line \d+, in <lambda>.*ZeroDivisionError"),  # the model raises in `events`
    Entry("tables", r"UnicodeEncodeError: .* surrogates not allowed"),
    Entry("tables", r"AssertionError: a spreadsheet takes"),
    Entry("folders", r"AssertionError: nothing says that"),
)
"""Failures by what is wrong; the files of the package that they stand in are in the traceback of the case."""
STRICT = bool(os.environ.get("FUZZ_STRICT"))
EXCLUDED = (
    ()
    if STRICT
    else (
        *KNOWN,
        *(
            Entry("arguments", rf"in the call {re.escape(name)}\([^\n]*\b{parameter}=")
            for name, parameters in ARGUMENTS.items()
            for parameter in parameters.split()
        ),
    )
)
