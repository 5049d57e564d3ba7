"""The attribution methods of the benchmark; each is one function, registered under the names of its maps.

`query` holds what a method gets, `registry` the decorator `method` and the table `METHODS`. The methods are in
`prototype_maps` (APEX), `gradients`, `class_activation`, `perturbation`, `relevance` (LRP), `learned_maps` and
`controls`. `learners` holds the registry of networks that methods learn from the training clips; `mask_decoder`,
`twin_network`, and the heads of `trained_head_maps` and `sigmoid_head_learners` are such networks. `region_maps` turns
scores of regions and of a layer's cells into maps. `variants` holds other settings of APEX, which a run loads with
`--add`.
"""

# Imported in the order of the tables: each module registers its methods.
from benchmarks.methods import prototype_maps  # noqa: F401, I001
from benchmarks.methods import gradients  # noqa: F401
from benchmarks.methods import class_activation  # noqa: F401
from benchmarks.methods import perturbation  # noqa: F401
from benchmarks.methods import relevance  # noqa: F401
from benchmarks.methods import learned_maps  # noqa: F401
from benchmarks.methods import trained_head_maps  # noqa: F401
from benchmarks.methods import sigmoid_head_learners  # noqa: F401
from benchmarks.methods import controls  # noqa: F401
from benchmarks.methods.learners import LEARNERS, TrainingClips, learner
from benchmarks.methods.query import CLIPS_AT_ONCE, Query
from benchmarks.methods.registry import METHODS, Explained, Method, load_methods, method

__all__ = [
    "CLIPS_AT_ONCE",
    "LEARNERS",
    "METHODS",
    "Explained",
    "Method",
    "Query",
    "TrainingClips",
    "learner",
    "load_methods",
    "method",
]
