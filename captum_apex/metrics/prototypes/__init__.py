"""Measures of how good prototypes are: pure, of one class, of one part, local, few, and the same again.

They judge a basis, not a map. All but one are functions of tensors that a `PrototypeBasis`, a `FeatureBank` or an
explanation holds, and give one number per channel or per clip:

- `unseen_purity`: are unseen clips as pure as the prototypes that the basis was fitted on? `purity_gap`.
- `class_shares`: are the prototypes of a channel of one class? `class_share`, `chance_class_share`.
- `part_agreement`: do the regions of a channel's prototypes show the same part of the sound? `part_hits` compares
  regions with annotated events; `part_purity`, `part_consistency` and `part_stability` summarise it.
- `spatial_misalignment`: does the channel hear only its region? `misalignment` runs the model on clips that are changed
  elsewhere.
- `diversity`: how many channels make up an explanation (`channels_needed`), and do channels have prototypes of their
  own (`prototype_overlap`, `chance_overlap`)?
- `seed_agreement`: does another fit find the same channels? `matched_channels`, `matched_prototypes` and
  `prototype_jaccard`.
- `dissection`: what is a channel called? `part_names` by annotated events, `word_names` by the embeddings of a model of
  audio and text.
- `label_votes`: could one who sees only the labels of the prototypes say what the model predicts? `prototype_votes` and
  `vote_agreement`.
"""

from captum_apex.metrics.prototypes.class_shares import chance_class_share, class_share
from captum_apex.metrics.prototypes.dissection import ProposedNames, part_names, word_names
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
    "Misalignment",
    "PartHits",
    "ProposedNames",
    "chance_class_share",
    "chance_overlap",
    "channels_needed",
    "class_share",
    "matched_channels",
    "matched_prototypes",
    "misalignment",
    "part_consistency",
    "part_hits",
    "part_names",
    "part_purity",
    "part_stability",
    "prototype_jaccard",
    "prototype_overlap",
    "prototype_votes",
    "purity_gap",
    "vote_agreement",
    "word_names",
]
