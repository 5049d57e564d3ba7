"""Measures of how good an attribution is, and of how good the classifier is that it explains.

Each measure of an attribution answers one question, takes one map per clip and gives one number per clip:

- `curves`: does the score follow the order in which the map ranks the regions? `deletion_insertion` gives the deletion
  and the insertion curve, with their areas, the difference of the areas, and AOPC.
- `fidelity`: do the marked bins alone give the prediction? `mask_fidelity` gives average drop, increase and gain,
  faithfulness and input fidelity of a soft mask.
- `agreement`: does the map predict what the removal of random regions does? `infidelity`, `faithfulness_correlation`.
- `localisation`: does the map point at the sound? `bin_auroc`, `segment_auroc`, `threshold_iou`, `best_iou`,
  `frame_f1`, `pointing_game` and `relevance_mass` need the true place of the sound, which `annotated_bins` takes from
  annotations, and no model.
- `concentration`: is the map concentrated enough to be read? `sparseness` and `complexity` do not tell whether it is
  right.

The package `prototypes` has measures of the prototypes of a basis: how pure they are among unseen clips, whether they
are of one class and show one part of the sound, whether a channel hears only its region, how many channels explain a
clip, whether another fit finds them again, and whether their labels say what the model predicts.

The other modules serve them: `passes` runs the model on masked clips, `intervals` gives the confidence interval of a
mean over clips, and `classification` measures the classifier itself.

The measures use only the model's outputs on masked clips, in full batches; `captum_apex.masking` has the region grids
and the fills. As in Captum, `target` selects a class from what `forward_func` returns. For scores that are
probabilities, pass a `forward_func` that ends in a softmax or a sigmoid. `captum.metrics.sensitivity_max` (how much the
map changes when the input hardly does) works on the same maps.
"""

from captum_apex.metrics.agreement import faithfulness_correlation, infidelity, random_removals
from captum_apex.metrics.annotated_bins import annotated_bins, time_segments
from captum_apex.metrics.classification import (
    auroc,
    classification_scores,
    equal_error_rate,
    mean_average_precision,
    top_1,
)
from captum_apex.metrics.concentration import complexity, sparseness
from captum_apex.metrics.curves import (
    Curves,
    Order,
    Removal,
    deletion,
    deletion_insertion,
    deletion_sequence,
    insertion,
)
from captum_apex.metrics.fidelity import (
    Fidelity,
    average_drop,
    average_gain,
    average_increase,
    faithfulness,
    input_fidelity,
    mask_fidelity,
    region_shares,
    soft_mask,
    speechbrain_average_drop,
)
from captum_apex.metrics.intervals import bootstrap_interval
from captum_apex.metrics.localisation import (
    best_iou,
    bin_auroc,
    chance_by_shifts,
    frame_f1,
    pointing_game,
    relevance_mass,
    segment_auroc,
    threshold_iou,
)
from captum_apex.metrics.passes import masked_outputs, masked_scores, mixed_outputs
from captum_apex.metrics.prototypes.class_shares import chance_class_share, class_share
from captum_apex.metrics.prototypes.diversity import chance_overlap, channels_needed, prototype_overlap
from captum_apex.metrics.prototypes.label_votes import prototype_votes, vote_agreement
from captum_apex.metrics.prototypes.part_agreement import (
    PartHits,
    part_consistency,
    part_hits,
    part_purity,
    part_stability,
)
from captum_apex.metrics.prototypes.seed_agreement import matched_channels, matched_prototypes, prototype_jaccard
from captum_apex.metrics.prototypes.spatial_misalignment import Misalignment, misalignment
from captum_apex.metrics.prototypes.unseen_purity import purity_gap

__all__ = [
    "Curves",
    "Fidelity",
    "Misalignment",
    "Order",
    "PartHits",
    "Removal",
    "annotated_bins",
    "auroc",
    "average_drop",
    "average_gain",
    "average_increase",
    "best_iou",
    "bin_auroc",
    "bootstrap_interval",
    "chance_by_shifts",
    "chance_class_share",
    "chance_overlap",
    "channels_needed",
    "class_share",
    "classification_scores",
    "complexity",
    "deletion",
    "deletion_insertion",
    "deletion_sequence",
    "equal_error_rate",
    "faithfulness",
    "faithfulness_correlation",
    "frame_f1",
    "infidelity",
    "input_fidelity",
    "insertion",
    "mask_fidelity",
    "masked_outputs",
    "masked_scores",
    "matched_channels",
    "matched_prototypes",
    "mean_average_precision",
    "misalignment",
    "mixed_outputs",
    "part_consistency",
    "part_hits",
    "part_purity",
    "part_stability",
    "pointing_game",
    "prototype_jaccard",
    "prototype_overlap",
    "prototype_votes",
    "purity_gap",
    "random_removals",
    "region_shares",
    "relevance_mass",
    "segment_auroc",
    "soft_mask",
    "sparseness",
    "speechbrain_average_drop",
    "threshold_iou",
    "time_segments",
    "top_1",
    "vote_agreement",
]
