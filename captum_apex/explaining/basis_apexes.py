"""Bases with the names by which messages call them, and the attribution object of each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from captum_apex.attribution.apex import APEX
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.schemes import SCHEMES, Scheme
from captum_apex.classifiers.classifier import Classifier
from captum_apex.layers.models import model_of

__all__ = ["apex_for", "apexes_of", "named_bases"]


def named_bases(bases: Iterable[PrototypeBasis] | Mapping[Path, PrototypeBasis]) -> dict[str, PrototypeBasis]:
    """The bases by what messages call them.

    Args:
        bases: the bases, or bases by the paths of their files.

    Raises:
        TypeError: a basis is none.
        ValueError: there are two bases of one scheme.

    Example:
        >>> import torch
        >>> from captum_apex import PrototypeBasis
        >>> from captum_apex.explaining.basis_apexes import named_bases
        >>> list(named_bases([PrototypeBasis(torch.eye(2), "time")]))
        ["the basis for 'time'"]
    """
    listed = bases.values() if isinstance(bases, Mapping) else bases
    given = list(listed) if isinstance(listed, Iterable) else [listed]
    for basis in given:
        if not isinstance(basis, PrototypeBasis):
            raise TypeError(f"expected `bases` to be fitted bases, but got {type(basis).__name__}")
    if isinstance(bases, Mapping):
        return {str(path): basis for path, basis in bases.items()}
    named = {f"the basis for {str(basis.scheme)!r}": basis for basis in given}
    if len(named) < len(given):
        schemes = ", ".join(repr(str(basis.scheme)) for basis in given)
        raise ValueError(f"expected one basis per scheme, but got {schemes}")
    return named


def apexes_of(classifier: Classifier, bases: Mapping[str, PrototypeBasis]) -> dict[Scheme, APEX]:
    """The attribution object of each basis, in the order of `SCHEMES`.

    Args:
        classifier: the classifier.
        bases: the bases by what messages call them.

    Raises:
        ValueError: there is no basis, or one has no prototypes or does not fit the model; the message names it.

    Example:
        >>> from captum_apex.demonstration import explainer
        >>> from captum_apex.explaining.basis_apexes import apexes_of, named_bases
        >>> pond = explainer()
        >>> [str(scheme) for scheme in apexes_of(pond.classifier, named_bases([pond.bases["time"]]))]
        ['time']
    """
    if not bases:
        raise ValueError("expected at least one basis, but got none")
    apexes = {basis.scheme: _apex(classifier, name, basis) for name, basis in bases.items()}
    return {scheme: apexes[scheme] for scheme in SCHEMES if scheme in apexes}


def _apex(classifier: Classifier, name: str, basis: PrototypeBasis) -> APEX:
    if basis.positive is None:
        raise ValueError(f"expected bases with prototypes, but {name} has none; make one with `fit_basis`")
    try:
        layer = (model_of(classifier.model) or classifier.model).get_submodule(basis.origin.layer)
        layout = classifier.input_layout
        return APEX(classifier.model, layer, basis, input_layout=layout, columns=classifier.columns)
    except (AttributeError, ValueError) as error:
        raise ValueError(f"{name} does not fit this model: {error}") from error


def apex_for(apexes: Mapping[Scheme, APEX], scheme: Scheme | str | None) -> APEX:
    """The attribution object of a scheme.

    Args:
        apexes: the attribution objects.
        scheme: the scheme; None where there is one object.

    Raises:
        ValueError: there is none of the scheme, or none is named of several.

    Example:
        >>> from captum_apex.demonstration import explainer
        >>> from captum_apex.explaining.basis_apexes import apex_for
        >>> str(apex_for(explainer().apexes, "time").basis.scheme)
        'time'
    """
    if scheme is None and len(apexes) == 1:
        return next(iter(apexes.values()))
    schemes = ", ".join(map(repr, map(str, apexes)))
    if scheme is None:
        first = next(iter(apexes))
        raise ValueError(
            f"expected `scheme`, because there are bases for {schemes}: name one, such as "
            f'scheme="{Scheme.TIME if Scheme.TIME in apexes else first}"'
        )
    if Scheme(scheme) not in apexes:
        raise ValueError(f"expected `scheme` to be one of {schemes}, of which there are bases, but got {scheme!r}")
    return apexes[Scheme(scheme)]
