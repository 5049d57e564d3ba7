"""A run of the benchmark: what is explained, by which methods, and how each cell is scored."""
