"""The audit trail of a page: which model, bases, settings and versions its explanations come from, and when."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import torch

from captum_apex.report.page import Page
from captum_apex.texts import encodable

__all__ = ["audit_trail"]


def audit_trail(pages: Sequence[Page], date: datetime | None = None) -> list[tuple[str, str]]:
    """What a reader needs in order to compute the explanations again, as pairs of a term and a text.

    Args:
        pages: the pages.
        date: when the page is written; None for now.

    Example:
        >>> from datetime import datetime
        >>> import torch
        >>> from captum_apex import Clip, Explanation, Scheme, SpectrogramAxes
        >>> from captum_apex.report import Page
        >>> from captum_apex.report.audit import audit_trail
        >>> clip = Clip(torch.zeros(9, 100), SpectrogramAxes(8000, 16, 80))
        >>> record = {"basis": "0b7fd02da799", "model": "5fe1", "layer": "features", "regions": "peak cells"}
        >>> time = Explanation(Scheme("time"), 0, 2.0, 0.5, evidence=(), total=1.5, record=record)
        >>> trail = audit_trail([Page(clip, [time], {}, ["dog"])], datetime(2026, 5, 4, 12, 30))
        >>> trail[0], trail[1]
        (('Written', '2026-05-04 12:30'), ('Model', 'weights 5fe1, layer features'))
        >>> trail[2]
        ('Basis of time', '0b7fd02da799')
    """
    written = (datetime.now().astimezone() if date is None else date).strftime("%Y-%m-%d %H:%M %z").strip()
    versions = f"captum-apex {_version()}, torch {torch.__version__}"
    rows = [("Written", written)]
    for explanation in (explanation for page in pages for explanation in page.explanations):
        rows += _record_rows(str(explanation.scheme), explanation.record)
    rows.append(("Sound", "; ".join(dict.fromkeys(_axes(page) for page in pages))))
    rows.append(("Versions", versions))
    return [(term, encodable(text)) for term, text in dict.fromkeys(rows)]


def _record_rows(scheme: str, record: Any) -> list[tuple[str, str]]:
    """The rows of one explanation; none for what its record does not have."""
    if not record:
        return []
    weights = record.get("model") or "not known (a plain function)"
    rows = [("Model", f"weights {weights}, layer {record.get('layer') or 'not known'}")]
    rows.append((f"Basis of {scheme}", record.get("basis") or "not known"))
    if record.get("n_clips"):
        dataset = record.get("dataset")
        rows.append(("Fitted on", f"{record['n_clips']} clips" + (f", fingerprint {dataset}" if dataset else "")))
    names = {"n_channels": "channels", "n_prototypes": "prototypes", "sides": "sides", "regions": "regions"}
    settings = [f"{text}: {record[name]}" for name, text in names.items() if name in record]
    return [*rows, ("Settings", "; ".join(settings))]


def _axes(page: Page) -> str:
    axes = page.clip.axes
    bins = f"{axes.n_bins} bins" if axes.n_mels is None else f"{axes.n_mels} mel bands"
    if axes.rows is not None and axes.n_mels is not None:
        bins += f", {axes.n_bins} rows of them"
    if axes.rows is not None or (axes.n_mels is None and axes.n_bins != axes.n_fft // 2 + 1):
        bins += f" from {axes.hertz(0.5):g} to {axes.hertz(axes.n_bins - 0.5):g} Hz"
    windows = "frames" if axes.centres is not None else f"windows of {axes.n_fft} samples"
    return f"{axes.sample_rate:g} Hz, {windows} every {axes.hop_length:g}, {bins}"


def _version() -> str:
    try:
        return version("captum-apex")
    except PackageNotFoundError:  # run from its source
        return "of unknown version"
