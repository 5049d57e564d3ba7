"""A channel's prototypes before and after the fit of a basis."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure, SubFigure

from captum_apex.audio.clip import level_limits
from captum_apex.audio.clip_lookup import ClipLookup
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.explanations.explanation import prototypes_of
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.effects import height_of_effects, notes
from captum_apex.figures.panels import colour_bar, label_axes
from captum_apex.figures.prototypes import HEIGHT, MARGIN, WIDTH, load_clips, prototype_panels
from captum_apex.figures.titles import TINY, heading

__all__ = ["before_and_after"]


def before_and_after(
    before: PrototypeBasis,
    after: PrototypeBasis,
    channel: int,
    prototypes: ClipLookup,
    *,
    n_prototypes: int = 4,
    class_names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    r"""Draws one channel's prototypes in two bases, with their purities, to show the effect of fitting.

    Args:
        before: the basis before fitting, such as `basis_from_matrix(bank, scheme, torch.eye(bank.n_channels))`.
        after: the fitted basis.
        channel: index of the channel in both bases.
        prototypes: the training clip at each index; only the prototypes that are drawn are looked up.
        n_prototypes: number of prototypes in each row.
        class_names: the name of each class; without them classes are numbered.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: a basis has no prototypes, or fewer than `n_prototypes`.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, FeatureBank, SpectrogramAxes, basis_from_matrix, figures
        >>> layer = torch.nn.AvgPool2d(3)
        >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> inputs = torch.arange(108.0).view(2, 1, 9, 6)
        >>> bank = FeatureBank.from_dataset(model, layer, [(inputs[0], 0), (inputs[1], 1)])
        >>> basis = basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=2)
        >>> clips = [Clip(clip[0], SpectrogramAxes(8000, 16, 80)) for clip in inputs]
        >>> figure = figures.before_and_after(basis, basis, 0, clips, n_prototypes=2, class_names=["dog", "rain"])
        >>> [panel.get_title() for panel in figure.axes if panel.images][:2]
        ['rain\nprototype, purity 1.00', 'dog\nprototype, purity 1.00']

    Source: APEX (arXiv 2605.10153), Figure 3.
    """
    rows = {
        "before": prototypes_of(before, channel, n_prototypes),
        "after": prototypes_of(after, channel, n_prototypes),
    }
    clips = load_clips(prototypes, (prototype for row in rows.values() for prototype in row))
    effects = [prototype.effect for row in rows.values() for prototype in row]
    limits = level_limits(clips.values())
    target = canvas(figure, MARGIN + WIDTH * n_prototypes, 0.7 + (HEIGHT + height_of_effects(effects)) * 2)
    panels = target.subplots(2, n_prototypes, squeeze=False)
    width = panel_width(target, n_prototypes, MARGIN)
    for panel_row, row in zip(panels, rows.values(), strict=True):
        images = prototype_panels(panel_row, row, clips, limits, width, 0, class_names)
    label_axes(panels)
    for panel, (name, row) in zip(panels[:, 0], rows.items(), strict=True):
        mean = sum(prototype.purity for prototype in row) / len(row)
        panel.set_ylabel(f"{name} fitting: mean purity {mean:.2f}\nfrequency in Hz", fontsize=TINY)
    colour_bar(target, panels.flat, images[0], "level in dB")
    heading(target, f"Prototypes of channel {channel}. Perspective: {after.scheme}", "", *notes(effects))
    return root(target)
