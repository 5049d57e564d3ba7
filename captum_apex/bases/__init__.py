"""Prototype bases: the four schemes, the features of a training set, and the basis that is fitted on them.

- `schemes`: `Scheme`, the four acoustic perspectives on a grid, with their cells, peaks, purity, maps and regions.
- `features`: `FeatureBank`, the layer's output for every training clip. `collation` makes the batches of clips, and
  `bank_writer` fills the arrays of the bank. `bank_folder` keeps them in files, with checksums.
- `fitting`: `fit_basis` learns a basis that maximises the purity of its prototypes; `basis_from_matrix` takes a matrix.
  `polar_fit` is the fit in closed form. `prototype_choice` finds the clips that activate each channel most,
  `peak_search` their peak cells, `fit_plan` what each epoch takes, and `fit_progress` says how long the fit takes.
  `shared_bank` is the bank of a group of `processes`, each of which has a part.
- `candidate_bank`: `CandidateBank`, the bank of a dataset that is too large to keep the cells of all clips.
- `basis`: `PrototypeBasis`, the fitted matrix with the `Prototypes` of each channel, as a file too.
  `sparse_labels` makes small files of labels with a number for each of many classes.
"""

from captum_apex.bases.basis import PrototypeBasis, Prototypes
from captum_apex.bases.candidate_bank import CandidateBank
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.fitting import basis_from_matrix, fit_basis
from captum_apex.bases.schemes import SCHEMES, Scheme

__all__ = [
    "SCHEMES",
    "CandidateBank",
    "FeatureBank",
    "PrototypeBasis",
    "Prototypes",
    "Scheme",
    "basis_from_matrix",
    "fit_basis",
]
