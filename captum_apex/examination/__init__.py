"""A report on a model: what can be explained in it, and what would make its explanations wrong.

- `examined_layer`: a layer with the places and receptive fields of its cells, and how linear the rest of the model is.
- `examined_model`: the model and the clips that are examined, from a model or a `Classifier`.
- `faults`: what would make explanations wrong, in words.
- `classifier_code`: the call of `Classifier` to paste.
- `examination`: the report, as text, as HTML and as an object.
- `examiner`: `examine`, which makes the report.
"""

from captum_apex.examination.examination import Examination
from captum_apex.examination.examined_layer import ExaminedLayer
from captum_apex.examination.examiner import examine

__all__ = ["Examination", "ExaminedLayer", "examine"]
