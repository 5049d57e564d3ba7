"""The cost of explanations: as ratios to plain forward passes, in seconds, and in memory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from captum.attr import LayerGradCam, Occlusion
from soundfile import SoundFile
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchaudio.transforms import MelSpectrogram

from benchmarks.classifiers.networks import NETWORKS, explained_layer
from benchmarks.experiments.huge_bank import huge_bank
from benchmarks.experiments.layer_passes import layer_passes
from benchmarks.experiments.page_writing import HUNDRED, MINUTE, page_cost
from benchmarks.experiments.timing import Timing, in_separate_process, most_megabytes, pair, timed
from captum_apex import (
    APEX,
    SCHEMES,
    Classifier,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    Scheme,
    SpectrogramAxes,
    basis_from_matrix,
    explain,
    explain_classes,
    explain_recording,
    fit_basis,
)
from captum_apex.layers.origin import Origin
from captum_apex.masking.fills import named_fill
from captum_apex.masking.grids import n_regions, named_grid
from captum_apex.metrics import deletion_insertion, mask_fidelity, masked_scores, random_removals, soft_mask

INPUT = (1, 64, 126)  # size of a clip of `scenes`: channel, bands, frames
BATCH = 32
POINTS = 9  # points of each masking curve
FIT_CLIPS = 2000
CLASSES = 8
LARGE_INPUT = (1, 128, 1024)  # channel, bands, frames: a clip of five seconds in BirdSet
LARGE_BATCH = 4
LARGE_NETWORK = "convnext_base"  # timm's name
HOUR = 3600  # length of the long recording in seconds
HOUR_RATE = 32_000  # Hz
SHOWN = 3  # channels with regions in an explanation
PAGES = ((HUNDRED, 25.0), (MINUTE, 15.0))  # pages that are written, each with the limit of its seconds
FINE = (148, 64, 128, 256)  # clips, channels and grid: a CNN without pooling
WIDE = (1000, 1024, 4, 32)  # clips, channels and grid: ConvNeXt-Base on inputs of `LARGE_INPUT`
WIDEST = (1000, 2048, 4, 32)  # the same for the last stage of a ResNet-50
HUGE = (500_000, (1024, 4, 32))  # clips, and channels and grid, as of BirdSet with ConvNeXt-Base
FIT_LIMITS = {"gradient": (4.0, 15.0), "closed-form": (0.5, 2.0)}  # seconds; of the scheme `square` the second one
WIDE_LIMITS = {"gradient": 300.0, "closed-form": 12.0}  # seconds


def _model(network: str, device: str) -> nn.Module:
    return NETWORKS[network](CLASSES).eval().to(device)


def _random(model: nn.Module, *shape: int) -> Tensor:
    """Random inputs on the model's device."""
    return torch.randn(shape, device=next(model.parameters()).device)


def _forward(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(inputs)


def _attribution(network: str, repeats: int, device: str) -> Iterator[Timing]:
    model = _model(network, device)
    layer = explained_layer(model)
    for batch, of_forward, of_grad_cam in ((BATCH, 1.15, 1.0), (1, 1.4, math.nan)):
        inputs = _random(model, batch, *INPUT)
        apex = _apex(model, layer, inputs)
        references: dict[str, tuple[Callable[[], object], float]] = {
            "a forward pass": (partial(_forward, model, inputs), of_forward),
            "LayerGradCam": (partial(LayerGradCam(model, layer).attribute, inputs, 0), of_grad_cam),
        }
        for name, (reference, limit) in references.items():
            seconds, ratio = pair(partial(apex.attribute, inputs, 0), reference, repeats * _times(batch))
            yield Timing(f"attribution, {network}, batch {batch}", seconds, name, ratio, limit)


def _times(batch: int) -> int:
    """How many times as many repeats a small batch takes, which is over at once."""
    return max(1, BATCH // (4 * batch))


def _explanations(network: str, repeats: int, device: str) -> Iterator[Timing]:
    """Evidence without a search for regions, of one class and of all; twice as many clips cost as much for each."""
    model = _model(network, device)
    layer = explained_layer(model)
    bank = FeatureBank.from_dataset(model, layer, list(_random(model, 8, *INPUT).cpu()))
    apex = LayerAPEX(model, layer, basis_from_matrix(bank, "time", torch.eye(bank.n_channels), n_prototypes=4))
    inputs = _random(model, 2 * BATCH, *INPUT)
    every = torch.ones(2 * BATCH, CLASSES, dtype=torch.bool, device=inputs.device)
    for batch in (BATCH, 2 * BATCH):
        all_classes = partial(explain_classes, apex, inputs[:batch], every[:batch], search=None)
        runs: dict[str, tuple[Callable[[], object], float]] = {
            "explain": (partial(explain, apex, inputs[:batch], search=None), 2.2),
            f"explain, {CLASSES} classes": (all_classes, 3.0),
        }
        for name, (run, limit) in runs.items():
            seconds, ratio = pair(run, partial(_forward, model, inputs[:batch]), repeats)
            yield Timing(f"{name}, {network}, batch {batch}", seconds, "a forward pass", ratio, limit)


def _projection(network: str, repeats: int, device: str) -> Iterator[Timing]:
    """A method of perturbation on the evidence score, one clip in a pass, against the same on the model."""
    model = _model(network, device)
    layer = explained_layer(model)
    inputs = _random(model, 1, *INPUT)
    window = (1, INPUT[1] // 4, INPUT[2] // 7)

    def occluded(score: Callable, clips: Tensor, arguments: tuple) -> Tensor:
        return Occlusion(score).attribute(clips, window, window, additional_forward_args=arguments)

    apex = APEX(model, layer, _apex(model, layer, inputs).basis, projection=occluded)

    def of_model() -> None:
        with torch.no_grad():
            Occlusion(model).attribute(inputs, window, window, target=0)

    seconds, ratio = pair(partial(apex.attribute, inputs, 0), of_model, repeats)
    yield Timing(f"evidence score, {network}, Occlusion", seconds, "Occlusion of the model", ratio, 1.15)


def _apex(model: nn.Module, layer: nn.Module, inputs: Tensor) -> LayerAPEX:
    width = FeatureBank.from_dataset(model, layer, list(inputs[:1]), schemes=["time"]).n_channels
    return LayerAPEX(model, layer, PrototypeBasis(torch.eye(width), Scheme.TIME))


def _regions(network: str, repeats: int, device: str) -> Iterator[Timing]:
    """Explanations of one clip with the search for regions, in each scheme: passes up to the layer, and the time."""
    model = _model(network, device)
    layer = explained_layer(model)
    inputs = _random(model, 1, *INPUT)
    bank = FeatureBank.from_dataset(model, layer, list(_random(model, 2, *INPUT).cpu()))
    U = torch.eye(bank.n_channels)
    apexes = [LayerAPEX(model, layer, basis_from_matrix(bank, scheme, U, n_prototypes=1)) for scheme in SCHEMES]

    def explained() -> None:
        for apex in apexes:
            explain(apex, inputs, n_channels=SHOWN, n_prototypes=1)

    def forward() -> None:
        for _ in apexes:
            _forward(model, inputs)

    passes = layer_passes(layer, explained) / len(apexes)
    seconds, ratio = pair(explained, forward, repeats)
    what = f"regions of {SHOWN} channels, {network}, one clip"
    yield Timing(what, seconds / len(apexes), "passes to the layer, counted", passes, 40.0)
    yield Timing(what, seconds / len(apexes), "a forward pass", ratio, math.nan)


def _large(repeats: int, device: str) -> Iterator[Timing]:
    """Attribution of the paper's backbone on inputs of the size that bird sounds are classified at."""
    model = timm.create_model(LARGE_NETWORK, in_chans=1, num_classes=CLASSES).eval().to(device)
    inputs = _random(model, LARGE_BATCH, *LARGE_INPUT)
    apex = _apex(model, model.get_submodule("stages"), inputs)
    seconds, ratio = pair(lambda: apex.attribute(inputs, 0), lambda: _forward(model, inputs), repeats)
    what = f"attribution, {LARGE_NETWORK}, {LARGE_INPUT[1]} × {LARGE_INPUT[2]}, batch {LARGE_BATCH}"
    yield Timing(what, seconds, "a forward pass", ratio, 1.15)


def _wide_fitting(device: str, size: Sequence[int], limits: Mapping[str, float]) -> list[Timing]:
    """Fitting a basis of a wide layer; the bank's values are random, a few hundred patterns mixed into all channels."""
    n_clips, n_channels, n_rows, n_columns = size
    torch.manual_seed(0)
    mixed = torch.randn(n_channels // 4, n_channels) / 16
    grids = (
        torch.einsum("kft,kc->cft", torch.randn(n_channels // 4, n_rows, n_columns).relu(), mixed)
        for _ in range(n_clips)
    )
    cells = {
        Scheme.TIME: torch.empty(n_clips, n_channels, n_columns),
        Scheme.FREQUENCY: torch.empty(n_clips, n_channels, n_rows),
    }
    means = torch.empty(n_clips, n_channels)
    for clip, grid in enumerate(grids):
        for scheme, values in cells.items():
            values[clip] = scheme.cells(grid[None])[0][0]
        means[clip] = grid.mean((1, 2))
    bank = FeatureBank(cells, means, None, Origin("stages", grid=(n_rows, n_columns), n_clips=n_clips)).to(device)
    timings = []
    for method, scheme in itertools.product(limits, cells):
        seconds = timed(partial(fit_basis, bank, scheme, method=method))
        what = f"fitting {scheme}, {method}, C = {n_channels}, {n_clips} clips"
        timings.append(Timing(what, seconds, "", math.nan, limits[method], most_megabytes()))
    return timings


def _fine_fitting(device: str) -> list[Timing]:
    """Fitting `square` on a fine grid, and on as many clips with an eighth of the cells."""
    n_clips, n_channels, n_rows, n_columns = FINE
    torch.manual_seed(0)
    seconds = []
    for size in ((n_rows // 2, n_columns // 4), (n_rows, n_columns)):
        cells = torch.randn(n_clips, n_channels, size[0] * size[1], device=device).relu_()
        origin = Origin("features", grid=size, n_clips=n_clips)
        bank = FeatureBank({Scheme.SQUARE: cells}, cells.mean(2), None, origin)
        seconds.append(timed(lambda bank=bank: fit_basis(bank, "square")))  # type: ignore[misc]
    what = f"fitting square, C = {n_channels}, {n_clips} clips of {n_rows} × {n_columns}"
    against = f"clips of {n_rows // 2} × {n_columns // 4}"
    return [Timing(what, seconds[1], against, seconds[1] / seconds[0], 10.0, most_megabytes())]


def _recording(device: str, seconds: int) -> list[Timing]:
    """Events of a long recording read from a file, every class detected in every window: the most that must be kept."""
    torch.manual_seed(0)
    mel = MelSpectrogram(HOUR_RATE, 1024, hop_length=512, n_mels=INPUT[1])
    model = NETWORKS["cnn"](CLASSES).eval().to(device)
    classifier = Classifier(
        model,
        lambda waveform: mel(waveform).clamp_min(1e-6).log10()[None],
        HOUR_RATE,
        [f"class {label}" for label in range(CLASSES)],
        axes=SpectrogramAxes.from_transform(mel),
        exclusive=False,
    )
    layer = explained_layer(model)
    example = classifier.inputs(torch.randn(5 * HOUR_RATE))[None]
    apex = LayerAPEX(model, layer, replace(_apex(model, layer, example.to(device)).basis, scheme=Scheme.SQUARE))
    with TemporaryDirectory() as folder:
        path = Path(folder) / "recording.wav"
        with SoundFile(path, "w", HOUR_RATE, 1, "PCM_16") as file:
            for _ in range(seconds):
                file.write(0.1 * torch.randn(HOUR_RATE).numpy())
        taken = timed(
            lambda: explain_recording(apex, path, 5.0, 2.5, classifier=classifier, threshold=0.0, n_channels=3)
        )
    what = f"events, cnn, {seconds / 60:g} minutes at {HOUR_RATE // 1000} kHz"
    return [Timing(what, taken, "", math.nan, float(seconds), most_megabytes())]


def _pages(_repeats: int, _device: str) -> Iterator[Timing]:
    """Pages with sounds, each once: the size of the file, the time, and its ratio to the clips' spectrograms."""
    for size, limit in PAGES:
        cost = page_cost(size)
        what = f"page of {size.n_clips} clip(s) to {size.seconds[1]:g} s, {cost.megabytes:.1f} MB"
        yield Timing(what, cost.seconds, "", math.nan, limit)
        yield Timing(what, cost.seconds, "spectrograms of its clips", cost.ratio, math.nan)


def _bank(network: str, repeats: int, device: str) -> Iterator[Timing]:
    model = _model(network, device)
    dataset = TensorDataset(torch.randn(8 * BATCH, *INPUT), torch.zeros(8 * BATCH))

    def plain() -> None:
        with torch.no_grad():
            for inputs, _ in DataLoader(dataset, BATCH):
                model(inputs.to(device))

    seconds, ratio = pair(
        lambda: FeatureBank.from_dataset(model, explained_layer(model), dataset, batch_size=BATCH, places=False),
        plain,
        repeats,
    )
    yield Timing(f"feature bank, {network}, {len(dataset)} clips", seconds, "a plain loop over the loader", ratio, 1.1)


def _masking(network: str, repeats: int, device: str) -> Iterator[Timing]:
    """Every measure that needs the model's scores of masked clips, against the same number of bare forward passes."""
    model = _model(network, device)
    inputs = _random(model, 8, *INPUT)
    grid = named_grid("time", INPUT[1:])
    fill = named_fill("mean", 0.0)(inputs)
    removed = random_removals(n_regions(grid), 16, seed=0).expand(len(inputs), -1, -1)
    probability = nn.Sequential(model, nn.Softmax(1)).eval()
    more = _random(model, BATCH, *INPUT)
    fill_of_more = named_fill("mean", 0.0)(more)

    def curves() -> None:
        deletion_insertion(model, inputs, inputs, fill, grid=grid, target=0, points=POINTS, batch_size=BATCH)

    def random_masks() -> None:
        masked_scores(model, inputs, fill, removed, grid, target=0, batch_size=BATCH)

    def soft_masks() -> None:
        mask_fidelity(probability, more, soft_mask(more, grid), fill_of_more, target=0)

    measures = {
        "deletion + insertion": (curves, len(inputs) * (2 * POINTS - 2)),
        "infidelity, correlation": (random_masks, removed.shape[0] * removed.shape[1]),
        "mask fidelity": (soft_masks, 3 * BATCH),
    }
    for name, (measured, passes) in measures.items():
        clips = _random(model, passes, *INPUT)  # pooling is faster on clips that are zero
        seconds, ratio = pair(measured, partial(_bare, model, clips), repeats)
        yield Timing(f"{name}, {network}, {passes} masked clips", seconds, "the bare forward passes", ratio, 1.15)


def _bare(model: nn.Module, clips: Tensor) -> None:
    for batch in clips.split(BATCH):
        _forward(model, batch)


def _fitting(_repeats: int, device: str) -> Iterator[Timing]:
    model = _model("cnn", device)
    clips = torch.randn(FIT_CLIPS, *INPUT)
    bank = FeatureBank.from_dataset(model, explained_layer(model), TensorDataset(clips, torch.zeros(FIT_CLIPS))).to(
        device
    )
    for method, scheme in itertools.product(FIT_LIMITS, SCHEMES):
        seconds = timed(partial(fit_basis, bank, scheme, method=method))
        limit = FIT_LIMITS[method][scheme is Scheme.SQUARE]
        what = f"fitting {scheme}, {method}, C = {bank.n_channels}, {bank.n_clips} clips"
        yield Timing(what, seconds, "", math.nan, limit)


def _wide(method: str, _repeats: int, device: str) -> list[Timing]:
    return in_separate_process(_wide_fitting, device, WIDE, {method: WIDE_LIMITS[method]})


def _widest(_repeats: int, device: str) -> list[Timing]:
    return in_separate_process(_wide_fitting, device, WIDEST, {"closed-form": 90.0})


def _huge(_repeats: int, _device: str) -> list[Timing]:
    return in_separate_process(huge_bank, *HUGE)


def _fine(_repeats: int, device: str) -> list[Timing]:
    return in_separate_process(_fine_fitting, device)


def _events(_repeats: int, device: str) -> list[Timing]:
    return in_separate_process(_recording, device, HOUR)


_OF_A_NETWORK = {
    "attribution": _attribution,
    "explanations": _explanations,
    "projection": _projection,
    "regions": _regions,
    "bank": _bank,
    "masking": _masking,
}
PARTS: dict[str, Callable[[int, str], Iterable[Timing]]] = {
    **{f"{name}-{network}": partial(part, network) for network in NETWORKS for name, part in _OF_A_NETWORK.items()},
    "fits": _fitting,
    "attribution-large": _large,
    "pages": _pages,
    **{f"fits-wide-{method}": partial(_wide, method) for method in WIDE_LIMITS},
    "fits-widest": _widest,
    "fits-fine": _fine,
    "events": _events,
    "candidates": _huge,
}
"""Name of a part of the measurement → what gives its timings, one after the other, for the repeats and the device."""
DEAR = ("candidates",)
"""Parts that are measured only if they are named: a quarter of an hour and 8 GB of disk."""


def measure(part: str, *, repeats: int = 5, device: str = "cpu") -> Iterator[Timing]:
    """The timings of a part, with random weights and random clips, since the cost does not depend on them.

    Args:
        part: name of the part, in `PARTS`.
        repeats: number of runs of each operation that is compared with a reference.
        device: name of the device on which models run and bases are fitted, such as `cpu` or `cuda`.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield from PARTS[part](repeats, device)
