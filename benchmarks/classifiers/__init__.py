"""The reference classifiers of the benchmark: their networks, and how they are trained."""
