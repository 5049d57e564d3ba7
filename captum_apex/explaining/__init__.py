"""From a classifier and recordings to explanations and their page, in one object."""

from captum_apex.explaining.classifier_bases import fit_bases, load_bases
from captum_apex.explaining.explained_clips import ExplainedClips
from captum_apex.explaining.explainer import Explainer
from captum_apex.explaining.file_tables import FileTable

__all__ = ["ExplainedClips", "Explainer", "FileTable", "fit_bases", "load_bases"]
