"""A demonstration that needs no files: sounds that are made, a classifier with its weights, and fitted bases.

The sounds are made from formulas, so `truth` knows where each of them lies in time and in frequency.
"""

from captum_apex.demonstration.evening_sounds import EveningSounds
from captum_apex.demonstration.pond_demo import demo, explainer
from captum_apex.demonstration.pond_network import PondNetwork, classifier, truth

__all__ = ["EveningSounds", "PondNetwork", "classifier", "demo", "explainer", "truth"]
