"""The benchmark: attribution methods are compared on the same clips, classifiers and masks. Run it from a checkout.

`tasks` are the sounds, `classifiers` the networks that are trained on them, `methods` the attribution methods. `runs`
explains clips by every method and scores the maps; `experiments` measures what is not a score of a map: purity,
invariance, speed and others. `reports` makes tables, figures and pages of a run; `commands` are the command line,
`python -m benchmarks`. `cache` stores what takes long to compute, and `statistics` holds confidence intervals and
rankings.
"""
