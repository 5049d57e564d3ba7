"""A demonstration that needs no files: sounds that are made, a classifier with its weights, and fitted bases."""

from captum_apex.demonstration.evening_sounds import EveningSounds
from captum_apex.demonstration.pond_demo import demo, explainer
from captum_apex.demonstration.pond_network import PondNetwork, classifier

__all__ = ["EveningSounds", "PondNetwork", "classifier", "demo", "explainer"]
