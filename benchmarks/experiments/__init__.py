"""Experiments beside the comparison of methods: purity, channels, known truth, region masking, invariance, soundscapes, speed."""
