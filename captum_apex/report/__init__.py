"""One page to explore explanations: pictures, sounds and numbers in a single HTML file that needs no network and no server.

A complete use, where `training_set[i]` gives a waveform and its sample rate:

    from captum_apex import explain, report

    found = [explain(apex, inputs)[0] for apex in apexes]  # one per scheme, all of the same class
    needed = {prototype.index for e in found for part in e.evidence for prototype in part.prototypes}
    prototypes = {index: Clip.from_waveform(*training_set[index]) for index in needed}
    report.write("clip.html", [report.Page(clip, found, prototypes, class_names, scores)])
"""

from captum_apex.report.document import write
from captum_apex.report.page import Page

__all__ = ["Page", "write"]
