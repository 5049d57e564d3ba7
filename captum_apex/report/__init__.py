"""One page to explore explanations: pictures, sounds and numbers in a single HTML file without a network or a server.

A complete use, where `training_set[i]` gives a waveform and its sample rate:

    from captum_apex import explain, report

    explanations = [explain(apex, inputs)[0] for apex in apexes]  # one per scheme, all of the same class
    channels = [channel for explanation in explanations for channel in explanation.evidence]
    indices = {prototype.index for channel in channels for prototype in channel.prototypes}
    prototypes = {index: Clip.from_waveform(*training_set[index]) for index in indices}
    report.write("clip.html", [report.Page(clip, explanations, prototypes, class_names, scores)])
"""

from captum_apex.report.document import write
from captum_apex.report.page import Page

__all__ = ["Page", "write"]
