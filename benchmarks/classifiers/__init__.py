"""The reference classifiers of the benchmark.

`networks` builds them, and `waveform_networks` builds them with their log-mels inside. `recipes` says how each is
trained on each task, and `training` trains it or takes it from the cache.
"""
