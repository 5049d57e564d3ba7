"""Prototype bases: the four schemes, the features of a training set, and the basis that is fitted on them."""
