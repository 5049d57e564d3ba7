"""Every attribution method that the benchmark judges; each is one function, registered under its name."""

# Imported in the order of the tables: each module registers its methods.
from benchmarks.methods import prototype_maps, gradients, class_activation, perturbation, relevance, controls  # noqa: F401, I001
from benchmarks.methods.registry import CLIPS_AT_ONCE, METHODS, Explained, Method, Query, load_methods, method

__all__ = ["CLIPS_AT_ONCE", "METHODS", "Explained", "Method", "Query", "load_methods", "method"]
