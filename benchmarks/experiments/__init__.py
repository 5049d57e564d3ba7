"""Experiments beside the comparison of methods: channels, purity, known truth, masking, invariance, events, speed."""
