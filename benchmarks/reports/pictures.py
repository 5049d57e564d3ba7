"""The pictures of the README and the guides, drawn on the synthetic scenes, where the truth is known."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from functools import cache, partial
from io import BytesIO
from pathlib import Path

from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from benchmarks.methods.prototype_maps import integrated
from benchmarks.methods.query import logits
from benchmarks.reports.contact_sheet import bins, contact_sheet, first_of
from benchmarks.runs.subject import Subject, prepare
from benchmarks.tasks import Split
from benchmarks.tasks.scenes import scene, truth
from benchmarks.tasks.task_clips import TaskClips
from captum_apex import APEX, Explanation, LayerAPEX, Region, Scheme, explain, figures
from captum_apex.files import replaced
from captum_apex.masking import mean_fill

__all__ = ["explanation_picture", "map_picture", "perspectives_picture", "waterfall_picture", "write"]

_RHYTHM = "galloping rhythm"  # short bursts over all bands: a cell, a row and a column can lie on them
_CHIRP = "falling chirp"  # a distractor has a falling half too: a channel fires on both
_TONE = "long high tone"
_EARLIER_LAYER = (
    "features.relu2"  # a convolution and a ReLU before the explained layer: the contributions do not add up
)
_OPENING_SIZE = (8.6, 6.2)  # in inches; small, so that its texts are large where the picture is scaled down
_DOTS_PER_INCH = 80
_N_COLOURS = 48  # the palette makes the files of noisy spectrograms five times smaller


def write(folder: Path, *, seed: int = 0) -> list[Path]:
    """Draws all pictures.

    Args:
        folder: folder for the PNG files; made where it is missing.
        seed: seed of the clips, the training and the fitting.

    Returns:
        The paths of the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subject = prepare("scenes", "cnn", seed=seed, progress=True)
    earlier = prepare("scenes", "cnn", seed=seed, layer_name=_EARLIER_LAYER, progress=True)
    paths = []
    for name, picture in _pictures(subject, earlier):
        paths.append(folder / name)
        save(picture, paths[-1])
    return paths


def _pictures(subject: Subject, earlier: Subject) -> Iterator[tuple[str, Figure]]:
    """The name and the figure of each picture."""
    rhythm = subject.task.classes.index(_RHYTHM)
    opening = clearest(subject, rhythm, subject.bases, n_channels=1)
    clear = clearest(subject, rhythm, (Scheme.SQUARE,), n_channels=5)
    chirp, tone = (first_of(subject.task, subject.task.classes.index(name)) for name in (_CHIRP, _TONE))
    yield "scenes.png", contact_sheet(subject.task)
    yield "explanation.png", perspectives_picture(subject, opening)
    yield "region_on_the_sound.png", explanation_picture(subject, clear, Scheme.SQUARE, n_channels=5)
    yield "regions_on_two_sounds.png", explanation_picture(subject, chirp, Scheme.SQUARE, n_channels=2)
    yield "finer_map.png", map_picture(subject, chirp, Scheme.SQUARE)
    yield "contributions_add_up.png", waterfall_picture(subject, tone, Scheme.SQUARE)
    yield "contributions_do_not_add_up.png", waterfall_picture(earlier, tone, Scheme.SQUARE)


def clearest(subject: Subject, label: int, schemes: Collection[Scheme], n_channels: int) -> int:
    """Index of the test clip of a class where most regions meet the sound of the class; of several, the largest logit.

    The regions are those of the strongest channels in the clip, and in their two best prototypes.

    Args:
        subject: the classifier, its bases and its clips; the task is the scenes, where the place of the sound is known.
        label: index of the class.
        schemes: the schemes of the explanations.
        n_channels: number of channels in each explanation.
    """

    def clarity(index: int) -> tuple[int, float]:
        explanations = [
            _explanation(subject, index, scheme, n_channels=n_channels, n_prototypes=2) for scheme in schemes
        ]
        n_regions = sum(_n_on_the_sound(subject, index, explanation) for explanation in explanations)
        return n_regions, logits(subject.model, _inputs(subject, index))[0, label].item()

    return max((subject.task.test.labels == label).nonzero().flatten().tolist(), key=clarity)


def perspectives_picture(subject: Subject, index: int) -> Figure:
    """A test clip in the four schemes: the strongest channel's region, and below it the channel's two best prototypes.

    Args:
        subject: the classifier, its bases and its clips.
        index: index of the test clip.
    """
    explanations = [_explanation(subject, index, scheme, n_channels=1, n_prototypes=2) for scheme in subject.bases]
    return figures.perspectives(
        explanations,
        TaskClips(subject.task, "test")[index],
        TaskClips(subject.task, "train"),
        class_names=subject.task.classes,
        figure=Figure(figsize=_OPENING_SIZE),
    )


def explanation_picture(subject: Subject, index: int, scheme: Scheme, n_channels: int) -> Figure:
    """A test clip in one scheme: channels with two prototypes each, and the waterfall of the logit.

    Args:
        subject: the classifier, its bases and its clips.
        index: index of the test clip.
        scheme: the scheme.
        n_channels: number of channels.
    """
    return figures.explanation(
        _explanation(subject, index, scheme, n_channels=n_channels, n_prototypes=2),
        TaskClips(subject.task, "test")[index],
        TaskClips(subject.task, "train"),
        class_names=subject.task.classes,
    )


def map_picture(subject: Subject, index: int, scheme: Scheme) -> Figure:
    """A test clip, the truth outlined, and two maps of its evidence: enlarged, and through Integrated Gradients.

    Args:
        subject: the classifier, its bases and its clips; the truth of its task is known.
        index: index of the test clip.
        scheme: the scheme.
    """
    inputs = _inputs(subject, index)
    target = int(logits(subject.model, inputs).argmax())
    through = partial(integrated, baseline=mean_fill(inputs))
    maps = {
        name: APEX(subject.model, subject.layer, subject.bases[scheme], projection=projection).attribute(
            inputs, target
        )[0]
        for name, projection in (("enlarged", None), ("through Integrated Gradients", through))
    }
    return figures.maps(TaskClips(subject.task, "test")[index], maps, _truth(subject, index))


def waterfall_picture(subject: Subject, index: int, scheme: Scheme) -> Figure:
    """The logit of a test clip: without the layer, five channels' contributions, the others', and what is missing.

    Args:
        subject: the classifier, its bases and its clips.
        index: index of the test clip.
        scheme: the scheme.
    """
    explanation = _explanation(subject, index, scheme, n_channels=5, n_prototypes=1)
    return figures.waterfall(explanation, class_names=subject.task.classes)


def _explanation(subject: Subject, index: int, scheme: Scheme, *, n_channels: int, n_prototypes: int) -> Explanation:
    apex = LayerAPEX(subject.model, subject.layer, subject.bases[scheme])
    return explain(
        apex, _inputs(subject, index), n_channels=n_channels, n_prototypes=n_prototypes, dataset=subject.task.train
    )[0]


def _n_on_the_sound(subject: Subject, index: int, explanation: Explanation) -> int:
    """The number of regions of an explanation, in the test clip and in the prototypes, that meet the sound."""
    places = []
    for channel in explanation.evidence:
        places.append((channel.region, _sound(subject.seed, "test", index)))
        for prototype in channel.prototypes:
            places.append((prototype.region, _sound(subject.seed, "train", prototype.index)))
    return sum(bool((region.mask(*sound.shape) & sound).any()) for region, sound in places)


@cache  # many clips have the same prototypes
def _sound(seed: int, split: Split, index: int) -> Tensor:
    """The bins of the sound that decides the class of a scene, bool (mel, frame)."""
    return truth(scene(seed, split, index))


def _inputs(subject: Subject, index: int) -> Tensor:
    """A test clip as a batch, (1, channel, frequency, time)."""
    return subject.task.test[index][0][None]


def _truth(subject: Subject, index: int) -> Region | None:
    return None if subject.task.truth is None else bins(subject.task.truth(index))


def save(picture: Figure, path: Path) -> None:
    """Writes a PNG file with a palette.

    Args:
        picture: the figure.
        path: path of the file.
    """
    buffer = BytesIO()
    picture.savefig(buffer, format="png", dpi=_DOTS_PER_INCH)
    image = Image.open(buffer).convert("RGB")
    reduced = image.quantize(_N_COLOURS, method=Image.Quantize.MAXCOVERAGE, kmeans=5, dither=Image.Dither.NONE)
    with replaced(path) as unfinished:
        reduced.save(unfinished, format="png", optimize=True)
