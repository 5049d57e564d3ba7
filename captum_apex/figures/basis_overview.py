"""A basis as a whole: the channels that each class activates most, and where in frequency they are active."""

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
from captum_apex.audio.clip import level_limits
from captum_apex.audio.clip_lookup import ClipLookup
from captum_apex.bases.basis import PrototypeBasis
from captum_apex.bases.features import FeatureBank
from captum_apex.bases.schemes import Scheme
from captum_apex.classifiers.class_names import class_name, target_name
from captum_apex.explanations.explanation import prototypes_of
from captum_apex.figures.canvas import canvas, panel_width, root
from captum_apex.figures.colours import SIGNED
from captum_apex.figures.effects import height_of_effects, notes
from captum_apex.figures.panels import as_array, colour_bar, label_axes, small_ticks
from captum_apex.figures.prototypes import (
    HEIGHT,
    MARGIN,
    WIDTH,
    load_clips,
    prototype_panels,
)
from captum_apex.figures.spectrogram import draw_image, set_frequency
from captum_apex.figures.titles import SMALL, TINY, fitted, heading, quoted
from captum_apex.numbers import whole_number

__all__ = ["channels", "class_deviations", "class_prototypes", "frequency_profiles", "prototype_counts"]


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
    """Draws a matrix of classes and channels, and below it where in frequency each channel is active.

    A square's colour is how far the channel's mean activation for clips of the class lies above its mean for all clips,
    in standard deviations. The number in it is how many of the channel's prototypes are of the class.

    Args:
        basis: a basis with prototypes.
        bank: the features that the basis was fitted on, with labels, one class per clip.
        axes: the axes of the model's input. With them, and if the layer has several frequency rows, the lower panel is
            drawn.
        class_names: the name of each class; without them classes are numbered.
        weights: weight of each channel for each class, (class, channel), to draw instead of the deviations, such as
            `head.weight.double() @ basis.inverse`.
        n_channels: number of channels that are chosen for each class, strongest first; a channel that is chosen for
            two classes is drawn once.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        ValueError: the basis has no prototypes, the bank has no labels or several per clip, the numbers of channels
            differ, or the weights have another shape.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank, basis_from_matrix, figures
        >>> layer = torch.nn.AvgPool2d(3)
        >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> inputs = torch.arange(108.0).view(2, 1, 9, 6)
        >>> bank = FeatureBank.from_dataset(model, layer, [(inputs[0], 0), (inputs[1], 1)])
        >>> basis = basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=2)
        >>> panel = figures.channels(basis, bank, class_names=["dog", "rain"]).axes[0]
        >>> [label.get_text() for label in panel.get_yticklabels()], panel.images[0].get_array().tolist()
        (['dog', 'rain'], [[-1.0], [1.0]])
    """
    labels = _labels(basis, bank)
    strengths = _strengths(basis, bank, labels) if weights is None else weights.detach().cpu()
    if strengths.shape[1:] != (basis.n_channels,) or strengths.shape[0] <= int(labels.max()):
        raise ValueError(
            f"expected `weights` of shape (class, {basis.n_channels}), a row for each class, but got "
            f"{tuple(strengths.shape)}"
        )
    strongest = strengths.topk(min(n_channels, basis.n_channels), dim=1).indices
    chosen = list(dict.fromkeys(strongest.flatten().tolist()))
    rows = bank.cells.get(Scheme.FREQUENCY)
    profile_axes = axes if rows is not None and rows.shape[2] > 1 else None
    heights = [0.27 * len(strengths), 2.2] if profile_axes is not None else [0.27 * len(strengths)]
    target = canvas(figure, 2.6 + 0.27 * len(chosen), 1.0 + sum(heights))
    panels = target.subplots(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    image = _draw_classes(panels[0], basis, strengths[:, chosen], chosen, class_names)
    label = "standard deviations\nabove the mean" if weights is None else "weight"
    colour_bar(target, panels[:1], image, label, beyond=True)
    if profile_axes is not None:
        profiles = _draw_profiles(panels[1], frequency_profiles(basis, bank, chosen), profile_axes)
        colour_bar(target, panels[1:], profiles, "activation, share of\nthe channel's largest", ticks=(-1, 0, 1))
    for panel in panels:
        panel.set_xticks(range(len(chosen)), [str(channel) for channel in chosen], rotation=90)
        small_ticks(panel)
    panels[-1].set_xlabel(f"channel of the {basis.scheme} basis, in the order of the classes", fontsize=SMALL)
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
    r"""Draws the channels that a class activates most: a row for each channel, with its prototypes.

    Beside each row is how far the channel's mean activation for clips of the class lies above its mean for all clips,
    in standard deviations.

    Args:
        basis: a basis with prototypes.
        bank: the features that the basis was fitted on, with labels, one class per clip.
        target: index of the class.
        prototypes: the training clip at each index; only the prototypes that are drawn are looked up.
        n_channels: number of rows.
        n_prototypes: number of prototypes in each row.
        class_names: the name of each class; without them classes are numbered.
        figure: the figure or subfigure to draw on; by default a new figure.

    Returns:
        The figure.

    Raises:
        TypeError: the target is no integer.
        ValueError: the basis or the bank does not serve (see `channels`), the bank has no clip of the class, or the
            basis has fewer than `n_prototypes`.

    Example:
        >>> import torch
        >>> from captum_apex import Clip, FeatureBank, SpectrogramAxes, basis_from_matrix, figures
        >>> layer = torch.nn.AvgPool2d(3)
        >>> model = torch.nn.Sequential(layer, torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten())
        >>> inputs = torch.arange(108.0).view(2, 1, 9, 6)
        >>> bank = FeatureBank.from_dataset(model, layer, [(inputs[0], 0), (inputs[1], 1)])
        >>> basis = basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=2)
        >>> clips = [Clip(clip[0], SpectrogramAxes(8000, 16, 80)) for clip in inputs]
        >>> figure = figures.class_prototypes(basis, bank, 1, clips, n_prototypes=2)
        >>> figure.axes[0].get_ylabel()
        'channel 0: 1.0 standard\ndeviations above the mean\nfrequency in Hz'
    """
    labels = _labels(basis, bank)
    target = whole_number(target, "target")
    if target not in labels:
        raise ValueError(f"expected a class that the bank has clips of, but got {target}")
    strengths = _strengths(basis, bank, labels)[target]
    chosen = strengths.topk(min(n_channels, basis.n_channels)).indices.tolist()
    rows = [prototypes_of(basis, channel, n_prototypes) for channel in chosen]
    clips = load_clips(prototypes, (prototype for row in rows for prototype in row))
    limits = level_limits(clips.values())
    effects = [prototype.effect for row in rows for prototype in row]
    drawn = canvas(figure, MARGIN + WIDTH * n_prototypes, 0.7 + (HEIGHT + height_of_effects(effects)) * len(chosen))
    panels = drawn.subplots(len(chosen), n_prototypes, squeeze=False)
    width = panel_width(drawn, n_prototypes, MARGIN)
    for rank, (panel_row, row) in enumerate(zip(panels, rows, strict=True)):
        images = prototype_panels(panel_row, row, clips, limits, width, rank, class_names)
    label_axes(panels)
    for panel, channel in zip(panels[:, 0], chosen, strict=True):
        deviations = f"{strengths[channel]:.1f} standard\ndeviations above the mean"
        panel.set_ylabel(f"channel {channel}: {deviations}\nfrequency in Hz", fontsize=TINY)
    colour_bar(drawn, panels.flat, images[0], "level in dB")
    question = f"Strongest channels of {quoted(target_name(target, class_names))}. Perspective: {basis.scheme}"
    heading(drawn, question, "", *notes(effects))
    return root(drawn)


def class_deviations(activations: Tensor, labels: Tensor) -> Tensor:
    """How far each class's mean activation lies above the mean of all clips, in standard deviations over the clips.

    Args:
        activations: `a_k`, (clip, channel).
        labels: index of the class of each clip, int64, (clip,).

    Returns:
        Tensor (class, channel); 0 for a channel that is constant and for a class without clips.

    Example:
        >>> import torch
        >>> from captum_apex.figures.basis_overview import class_deviations
        >>> class_deviations(torch.tensor([[1.0, 5.0], [3.0, 5.0]]), torch.tensor([0, 1]))
        tensor([[-1.,  0.],
                [ 1.,  0.]])
    """
    spread = activations.std(0, correction=0)
    standard = (activations - activations.mean(0)) / spread.where(spread > 0, 1)
    members = torch.nn.functional.one_hot(labels).to(standard)  # (clip, class)
    return members.T @ standard / members.sum(0).clamp_min(1)[:, None]


def prototype_counts(basis: PrototypeBasis, chosen: Sequence[int], n_classes: int) -> Tensor:
    """How many prototypes of each channel are of each class, int64 (class, channel).

    Args:
        basis: a basis with labelled prototypes.
        chosen: index of each channel to count for.
        n_classes: number of classes.

    Example:
        >>> import torch
        >>> from captum_apex import PrototypeBasis, Prototypes
        >>> from captum_apex.figures.basis_overview import prototype_counts
        >>> one, peaks = torch.ones(1, 3), torch.zeros(1, 3, 1, dtype=torch.int64)
        >>> prototypes = Prototypes(torch.tensor([[4, 7, 9]]), one, one, peaks, labels=torch.tensor([[1, 0, 1]]))
        >>> prototype_counts(PrototypeBasis(torch.eye(1), "time", prototypes), [0], n_classes=2).tolist()
        [[1], [2]]
    """
    assert basis.positive is not None
    assert basis.positive.labels is not None
    return torch.nn.functional.one_hot(basis.positive.labels[list(chosen)].long(), n_classes).sum(1).T


def frequency_profiles(basis: PrototypeBasis, bank: FeatureBank, chosen: Sequence[int]) -> Tensor:
    """Mean activation of each channel over its prototypes, (channel, frequency row), from the lowest row.

    Args:
        basis: a basis with prototypes.
        bank: the features that the basis was fitted on, with the cells of the frequency scheme.
        chosen: index of each channel to average.

    Example:
        >>> import torch
        >>> from captum_apex import FeatureBank, basis_from_matrix
        >>> from captum_apex.figures.basis_overview import frequency_profiles
        >>> model = torch.nn.Identity()
        >>> bank = FeatureBank.from_dataset(model, model, torch.tensor([[[[1.0, 3.0], [5.0, 5.0]]]]))
        >>> frequency_profiles(basis_from_matrix(bank, "time", torch.eye(1), n_prototypes=1), bank, [0]).tolist()
        [[2.0, 5.0]]
    """
    assert basis.positive is not None
    rows = bank.cells[Scheme.FREQUENCY]  # (clip, raw channel, row)
    U = basis.U.to(bank.means)
    prototypes = (rows[basis.positive.indices[channel]].to(U.dtype) for channel in chosen)  # (prototype, channel, row)
    return torch.stack([U[channel] @ cells.mean(0) for channel, cells in zip(chosen, prototypes, strict=True)])


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


def _strengths(basis: PrototypeBasis, bank: FeatureBank, labels: Tensor) -> Tensor:
    return class_deviations(bank.means @ basis.U.to(bank.means).T, labels)


def _draw_classes(
    panel: Axes,
    basis: PrototypeBasis,
    strengths: Tensor,
    chosen: Sequence[int],
    class_names: Sequence[str] | None,
) -> AxesImage:
    """Draws the strengths, (class, chosen channel), with the number of prototypes of each class."""
    largest = float(strengths.abs().quantile(0.99)) or 1.0
    image = panel.imshow(as_array(strengths), cmap=SIGNED, vmin=-largest, vmax=largest, aspect="auto")
    n_classes = len(strengths)
    names = [fitted(class_name(label, class_names), 1.8, TINY) for label in range(n_classes)]
    panel.set_yticks(range(n_classes), names, parse_math=False)
    counts = prototype_counts(basis, chosen, n_classes)
    for row, column in counts.nonzero().tolist():
        pale = abs(strengths[row, column]) < 0.6 * largest
        panel.text(
            column,
            row,
            str(int(counts[row, column])),
            fontsize=TINY,
            color="black" if pale else "white",
            horizontalalignment="center",
            verticalalignment="center",
        )
    return image


def _draw_profiles(panel: Axes, profiles: Tensor, axes: SpectrogramAxes) -> AxesImage:
    """Draws a column per channel from its profile, (channel, row), with the lowest frequency at the bottom."""
    shares = profiles / profiles.abs().amax(1, keepdim=True).clamp_min(torch.finfo(profiles.dtype).tiny)
    if axes.descending:
        shares = shares.flip(1)
        axes = axes.flipped()
    set_frequency(panel, axes)
    panel.set_ylabel("frequency in Hz", fontsize=TINY)
    panel.set_xlim(-0.5, len(shares) - 0.5)
    scale_ends: NDArray = panel.transScale.transform([(0, hertz) for hertz in panel.get_ylim()])[:, 1]
    low, high = np.asarray(scale_ends, dtype=float).tolist()
    return draw_image(panel, shares.T, (-0.5, len(shares) - 0.5, low, high), cmap=SIGNED, vmin=-1, vmax=1)
