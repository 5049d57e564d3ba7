"""A basis as a whole: which channels carry which class, and where in frequency they fire."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from torch import Tensor

from captum_apex.audio.axes import SpectrogramAxes
from captum_apex.audio.clip import ClipLookup, level_limits
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.class_names import class_name
from captum_apex.explanations.explanation import prototypes_of
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.colours import SIGNED
from captum_apex.figures.panels import array, bar, label_axes
from captum_apex.figures.prototypes import HEIGHT, MARGIN, WIDTH, heading, load, prototype_panels
from captum_apex.figures.spectrogram import draw_image, set_frequency
from captum_apex.figures.titles import SMALL, TINY, fitted, quoted

__all__ = ["channels", "class_prototypes"]


def channels(
    basis: PrototypeBasis,
    bank: FeatureBank,
    axes: SpectrogramAxes | None = None,
    *,
    class_names: Sequence[str] | None = None,
    weights: Tensor | None = None,
    n_channels: int = 3,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """Class × channel: the channels that carry each class, and below, where in frequency each of them fires.

    A square says how far the channel's activation by clips of that class lies above its activation by all clips, in standard deviations;
    a number in it, how many of the channel's prototypes are of that class.

    Args:
        basis: with prototypes.
        bank: the features that it was fitted on, with labels, one class per clip.
        axes: of the model's input; with them, and with several frequency rows in the layer, the lower panel is drawn.
        class_names: the name of each class.
        weights: (class, channel), how the channels count for a class instead: `head.weight.double() @ basis.inverse`, say.
        n_channels: those chosen for each class, strongest first; a channel that two classes choose is shown once.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: where the basis has no prototypes, the bank no labels or several per clip, or the bank is of another width.
    """
    labels = _labels(basis, bank)
    strength = (
        class_deviations(bank.means @ basis.U.to(bank.means).T, labels) if weights is None else weights.detach().cpu()
    )
    if strength.shape[1:] != (basis.n_channels,) or strength.shape[0] <= int(labels.max()):
        raise ValueError(
            f"expected `weights` of shape (class, {basis.n_channels}), a row for each class, but got {tuple(strength.shape)}"
        )
    chosen = list(dict.fromkeys(strength.topk(min(n_channels, basis.n_channels), dim=1).indices.flatten().tolist()))
    n_classes, with_profiles = (
        len(strength),
        axes is not None and Scheme.FREQUENCY in bank.cells and bank.cells[Scheme.FREQUENCY].shape[2] > 1,
    )
    target = canvas(figure, 2.6 + 0.27 * len(chosen), 1.0 + 0.27 * n_classes + 2.2 * with_profiles)
    heights = [0.27 * n_classes, 2.2] if with_profiles else [0.27 * n_classes]
    panels = target.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    names = [fitted(class_name(label, class_names), 1.8, TINY) for label in range(n_classes)]
    image = _classes(panels[0], strength[:, chosen], prototype_counts(basis, chosen, n_classes), names)
    bar(target, panels[:1], image, "standard deviations\nabove all clips" if weights is None else "weight", beyond=True)
    if with_profiles and axes is not None:
        profiles = _draw_profiles(panels[1], frequency_profiles(basis, bank, chosen), axes)
        bar(target, panels[1:], profiles, "activation, share of\nthe channel's largest", ticks=(-1, 0, 1))
    for panel in panels:
        panel.set_xticks(range(len(chosen)), [str(channel) for channel in chosen], rotation=90)
        panel.tick_params(labelsize=TINY, length=2.5, pad=2)
    panels[-1].set_xlabel(
        f"channel of the {basis.scheme} basis, in the order of the classes that it carries", fontsize=SMALL
    )
    return root(target)


def class_prototypes(
    basis: PrototypeBasis,
    bank: FeatureBank,
    target: int,
    prototypes: ClipLookup,
    *,
    n_channels: int = 3,
    n_prototypes: int = 4,
    class_names: Sequence[str] | None = None,
    figure: Figure | SubFigure | None = None,
) -> Figure:
    """What a class is made of in a basis: one row for each of the channels that carry it most, with its prototypes.

    Beside a row stands how far the channel's activation by clips of the class lies above that by all clips, in standard deviations.

    Args:
        basis: with prototypes.
        bank: the features that it was fitted on, with labels, one class per clip.
        target: the class.
        prototypes: index → clip; only those shown are asked for.
        n_channels: rows.
        n_prototypes: in each row.
        class_names: the name of each class.
        figure: where to draw; by default a new figure.

    Raises:
        ValueError: as `channels`; where no clip is of this class, or a channel keeps fewer prototypes.
    """
    labels = _labels(basis, bank)
    if target not in labels:
        raise ValueError(f"expected a class that the bank has clips of, but got {target}")
    strength = class_deviations(bank.means @ basis.U.to(bank.means).T, labels)[target]
    chosen = strength.topk(min(n_channels, basis.n_channels)).indices.tolist()
    found = [prototypes_of(basis, channel, n_prototypes) for channel in chosen]
    shown = load(prototypes, (prototype for row in found for prototype in row))
    limits = level_limits(shown.values())
    drawn = canvas(figure, MARGIN + WIDTH * n_prototypes, 0.7 + HEIGHT * len(chosen))
    panels = drawn.subplots(len(chosen), n_prototypes, squeeze=False)
    width = panel_width(drawn, n_prototypes, MARGIN)
    for rank, (row, own) in enumerate(zip(panels, found, strict=True)):
        images = prototype_panels(row, own, shown, limits, width, rank, class_names)
    label_axes(panels)
    for panel, channel in zip(panels[:, 0], chosen, strict=True):
        panel.set_ylabel(f"channel {channel}\n{strength[channel]:.1f} deviations above\nfrequency in Hz", fontsize=TINY)
    bar(drawn, panels.flat, images[0], "level in dB")
    heading(
        drawn, f"The channels that carry {quoted(class_name(target, class_names))}. Perspective: {basis.scheme}", ""
    )
    return root(drawn)


def class_deviations(activations: Tensor, labels: Tensor) -> Tensor:
    """How far each class's mean activation lies above that of all clips, in standard deviations over the clips.

    Args:
        activations: `a_k`, (clip, channel).
        labels: int64, (clip,).

    Returns:
        Tensor (class, channel); 0 for a channel that is constant and for a class without clips.

    >>> class_deviations(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([0, 1]))
    tensor([[-1.,  0.],
            [ 1.,  0.]])
    """
    spread = activations.std(0, correction=0)
    standard = (activations - activations.mean(0)) / spread.where(spread > 0, 1)
    members = torch.nn.functional.one_hot(labels).to(standard)  # (clip, class)
    return members.T @ standard / members.sum(0).clamp_min(1)[:, None]


def prototype_counts(basis: PrototypeBasis, chosen: Sequence[int], n_classes: int) -> Tensor:
    """How many prototypes of each channel are of each class, int64 (class, channel)."""
    assert basis.positive is not None
    assert basis.positive.labels is not None
    return torch.nn.functional.one_hot(basis.positive.labels[list(chosen)].long(), n_classes).sum(1).T


def frequency_profiles(basis: PrototypeBasis, bank: FeatureBank, chosen: Sequence[int]) -> Tensor:
    """Mean activation of each channel in each frequency row over its prototypes, (channel, row); row 0 is the lowest."""
    assert basis.positive is not None
    rows = bank.cells[Scheme.FREQUENCY]  # (clip, raw channel, row)
    U = basis.U.to(rows)
    return torch.stack([U[channel] @ rows[basis.positive.indices[channel]].mean(0) for channel in chosen])


def _labels(basis: PrototypeBasis, bank: FeatureBank) -> Tensor:
    if bank.labels is None or bank.labels.dim() != 1 or bank.labels.is_floating_point():
        raise ValueError("expected a bank with labels, one class per clip, but it has none or several")
    if basis.positive is None or basis.positive.labels is None:
        raise ValueError("expected a basis with labelled prototypes, but it has none")
    if basis.n_channels != bank.n_channels:
        raise ValueError(
            f"expected a basis of the bank's {bank.n_channels} channels, but got one of {basis.n_channels}"
        )
    return bank.labels.long()


def _classes(panel: Axes, strength: Tensor, counts: Tensor, names: Sequence[str]) -> AxesImage:
    most = float(strength.abs().quantile(0.99)) or 1.0
    image = panel.imshow(array(strength), cmap=SIGNED, vmin=-most, vmax=most, aspect="auto")
    panel.set_yticks(range(len(names)), names, parse_math=False)
    for row, column in counts.nonzero().tolist():
        pale = abs(strength[row, column]) < 0.6 * most
        text = str(int(counts[row, column]))
        panel.text(
            column,
            row,
            text,
            fontsize=TINY,
            color="black" if pale else "white",
            horizontalalignment="center",
            verticalalignment="center",
        )
    return image


def _draw_profiles(panel: Axes, profiles: Tensor, axes: SpectrogramAxes) -> AxesImage:
    """A column per channel, (channel, row) from the lowest to the highest frequency of the input."""
    shares = profiles / profiles.abs().amax(1, keepdim=True).clamp_min(torch.finfo(profiles.dtype).tiny)
    set_frequency(panel, axes)
    panel.set_ylabel("frequency in Hz", fontsize=TINY)
    panel.set_xlim(-0.5, len(shares) - 0.5)
    scale_ends: NDArray = panel.transScale.transform([(0, hertz) for hertz in panel.get_ylim()])[:, 1]
    low, high = np.asarray(scale_ends, dtype=float).tolist()
    return draw_image(panel, shares.T, (-0.5, len(shares) - 0.5, low, high), cmap=SIGNED, vmin=-1, vmax=1)
