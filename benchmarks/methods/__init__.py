"""Every attribution method that the benchmark judges; each is one function, registered under its name."""

from benchmarks.methods import prototypes, gradients, layers, perturbation, relevance, controls  # noqa: F401, I001 - in the order of the tables
from benchmarks.methods.registry import CLIPS_AT_ONCE, METHODS, Explained, Method, Query, load_methods, method

__all__ = ["CLIPS_AT_ONCE", "METHODS", "Explained", "Method", "Query", "load_methods", "method"]
