"""How good an attribution is: each measure answers one question, gives one number per clip, and takes one map per clip.

*Does the score follow what the map points at?* The deletion and the insertion curve (`deletion_insertion`), with their areas, the
difference of these and AOPC. *Does the marked part alone carry the prediction?* `mask_fidelity`: average drop, increase and gain,
faithfulness and input fidelity of a soft mask. *Does the map predict what a random removal does?* `infidelity` and
`faithfulness_correlation`. *Does it point at where the sound is?* `pointing_game` and `relevance_mass`; these need the truth and no
model. *Is it short enough to be read?* `sparseness` and `complexity`, which say nothing about being right.

And how good the classifier itself is, so that explanations of it are worth having: `classification_scores`, from outputs and labels.

Captum's own `captum.metrics.sensitivity_max` (how much the map changes when the input hardly does) works on the same maps.

Nothing is asked of a model but its outputs on masked clips, in full batches; see `captum_apex.masking` for the grids and the fills. As in
Captum, `target` selects a class from what `forward_func` returns. Where the score shall be a probability, pass a `forward_func` that ends
in a softmax or a sigmoid.
"""

from captum_apex.metrics.agreement import faithfulness_correlation, infidelity, random_removals
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
from captum_apex.metrics.localisation import pointing_game, relevance_mass
from captum_apex.metrics.passes import masked_outputs, masked_scores, mixed_outputs

__all__ = [
    "Curves",
    "Fidelity",
    "Order",
    "Removal",
    "auroc",
    "average_drop",
    "average_gain",
    "average_increase",
    "classification_scores",
    "complexity",
    "deletion",
    "deletion_insertion",
    "deletion_sequence",
    "equal_error_rate",
    "faithfulness",
    "faithfulness_correlation",
    "infidelity",
    "input_fidelity",
    "insertion",
    "mask_fidelity",
    "masked_outputs",
    "masked_scores",
    "mean_average_precision",
    "mixed_outputs",
    "pointing_game",
    "random_removals",
    "region_shares",
    "relevance_mass",
    "soft_mask",
    "sparseness",
    "speechbrain_average_drop",
    "top_1",
]
