"""The shared benchmark: every attribution method on identical audio. Run it from a checkout: `python -m benchmarks`."""
