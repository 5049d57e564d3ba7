"""The cost of explanations: as ratios to plain forward passes, in seconds, and in memory."""

from __future__ import annotations

import itertools
import math
import multiprocessing
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import timm
import torch
from captum.attr import LayerGradCam
from soundfile import SoundFile
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torchaudio.transforms import MelSpectrogram

from benchmarks.classifiers.networks import NETWORKS, explained_layer
from benchmarks.experiments.layer_passes import layer_passes
from benchmarks.experiments.page_writing import HUNDRED, MINUTE, page_cost
from captum_apex import (
    SCHEMES,
    Classifier,
    FeatureBank,
    LayerAPEX,
    PrototypeBasis,
    Scheme,
    SpectrogramAxes,
    basis_from_matrix,
    explain,
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
FIT_LIMITS = {"gradient": (4.0, 15.0), "closed-form": (0.5, 2.0)}  # seconds; of the scheme `square` the second one
WIDE_LIMITS = {"gradient": 300.0, "closed-form": 12.0}  # seconds


@dataclass(frozen=True)
class Timing:
    """One line of the table.

    Attributes:
        what: the operation that was measured.
        seconds: median time over the repeats.
        reference: the operation that it is compared with; empty for an absolute time.
        ratio: median of the ratios to the reference, each from two runs in a row; NaN for an absolute time.
        limit: upper limit that the ratio (or, for an absolute time, the seconds) should stay below; NaN for none.
        megabytes: the most memory that the process held, without GPU memory, where the operation had a separate
            process; NaN elsewhere.
    """

    what: str
    seconds: float
    reference: str
    ratio: float
    limit: float
    megabytes: float = math.nan


def measure(*, repeats: int = 5, device: str = "cpu") -> list[Timing]:
    """All timings, with random weights and random clips, since the cost does not depend on them.

    Args:
        repeats: number of runs of each operation that is compared with a reference.
        device: name of the device on which models run and bases are fitted, such as `cpu` or `cuda`.
    """
    timings = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for network in NETWORKS:
            model = NETWORKS[network](CLASSES).eval().to(device)
            timings += [
                *_attribution(network, model, repeats),
                *_regions(network, model, repeats),
                _bank(network, model, repeats),
                *_masking(network, model, repeats),
            ]
        timings += [
            *_fitting(device),
            *_large(repeats, device),
            *_pages(),
            *_in_separate_process(_wide_fitting, device, WIDE, WIDE_LIMITS),
            *_in_separate_process(_wide_fitting, device, WIDEST, {"closed-form": 90.0}),
            *_in_separate_process(_fine_fitting, device),
            *_in_separate_process(_recording, device, HOUR),
        ]
    return timings


def table(timings: Sequence[Timing]) -> str:
    """The timings as a text table.

    Example:
        >>> print(table([Timing("attribution", 0.25, "a forward pass", 1.2, 1.5)]))
                      seconds   ratio   limit      MB  against
        attribution     0.250    1.20    1.50          a forward pass
    """
    width = max(len(timing.what) for timing in timings)
    lines = [f"{'':<{width}}  {'seconds':>8}  {'ratio':>6}  {'limit':>6}  {'MB':>6}  against"]
    for timing in timings:
        ratio = "" if not timing.reference else f"{timing.ratio:.2f}"
        limit = "" if math.isnan(timing.limit) else f"{timing.limit:.2f}"
        held = "" if math.isnan(timing.megabytes) else f"{timing.megabytes:.0f}"
        against = timing.reference or "seconds on this machine"
        lines.append(f"{timing.what:<{width}}  {timing.seconds:8.3f}  {ratio:>6}  {limit:>6}  {held:>6}  {against}")
    return "\n".join(lines)


def most_megabytes() -> float:
    """The most memory that this process has held so far (`getrusage` would include its parent process's), in MB."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", status).group(1)) / 1024  # type: ignore[union-attr]  # Linux writes it


def _pair(run: Callable[[], object], reference: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of `run`, and its median ratio to `reference`.

    The two are timed in turn, so that both are slower when the machine is.
    """
    seconds = []
    ratios = []
    run()
    reference()
    for _ in range(repeats):
        run_seconds = _timed(run)
        reference_seconds = _timed(reference)
        seconds.append(run_seconds)
        ratios.append(run_seconds / reference_seconds)
    return statistics.median(seconds), statistics.median(ratios)


def _timed(run: Callable[[], object]) -> float:
    _finish()
    start = time.perf_counter()
    run()
    _finish()
    return time.perf_counter() - start


def _finish() -> None:
    """Waits until a GPU has finished its queue."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def _random(model: nn.Module, *shape: int) -> Tensor:
    """Random inputs on the model's device."""
    return torch.randn(shape, device=next(model.parameters()).device)


def _forward(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(inputs)


def _attribution(network: str, model: nn.Module, repeats: int) -> list[Timing]:
    layer = explained_layer(model)
    inputs = _random(model, BATCH, *INPUT)
    apex = _apex(model, layer, inputs)
    what = f"attribution, {network}, batch {BATCH}"
    references = {
        "a forward pass": (lambda: _forward(model, inputs), 1.5),
        "LayerGradCam": (lambda: LayerGradCam(model, layer).attribute(inputs, 0), 1.0),
    }
    timings = []
    for name, (reference, limit) in references.items():
        seconds, ratio = _pair(lambda: apex.attribute(inputs, 0), reference, repeats)
        timings.append(Timing(what, seconds, name, ratio, limit))
    return timings


def _apex(model: nn.Module, layer: nn.Module, inputs: Tensor) -> LayerAPEX:
    width = FeatureBank.from_dataset(model, layer, list(inputs[:1]), schemes=["time"]).n_channels
    return LayerAPEX(model, layer, PrototypeBasis(torch.eye(width), Scheme.TIME))


def _regions(network: str, model: nn.Module, repeats: int) -> list[Timing]:
    """Explanations of one clip with the search for regions, in each scheme: passes up to the layer, and the time."""
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
    seconds, ratio = _pair(explained, forward, repeats)
    what = f"regions of {SHOWN} channels, {network}, one clip"
    return [
        Timing(what, seconds / len(apexes), "passes to the layer, counted", passes, 40.0),
        Timing(what, seconds / len(apexes), "a forward pass", ratio, math.nan),
    ]


def _large(repeats: int, device: str) -> list[Timing]:
    """Attribution of the paper's backbone on inputs of the size that bird sounds are classified at."""
    model = timm.create_model(LARGE_NETWORK, in_chans=1, num_classes=CLASSES).eval().to(device)
    inputs = _random(model, LARGE_BATCH, *LARGE_INPUT)
    apex = _apex(model, model.get_submodule("stages"), inputs)
    seconds, ratio = _pair(lambda: apex.attribute(inputs, 0), lambda: _forward(model, inputs), repeats)
    what = f"attribution, {LARGE_NETWORK}, {LARGE_INPUT[1]} × {LARGE_INPUT[2]}, batch {LARGE_BATCH}"
    return [Timing(what, seconds, "a forward pass", ratio, 1.5)]


def _in_separate_process(measured: Callable[..., list[Timing]], *arguments: object) -> list[Timing]:
    """Runs a measurement in a new process, so that the peak memory of the process is that of the measurement."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(measured, *arguments).result()


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
        seconds = _timed(partial(fit_basis, bank, scheme, method=method))
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
        seconds.append(_timed(lambda bank=bank: fit_basis(bank, "square")))  # type: ignore[misc]
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
        taken = _timed(
            lambda: explain_recording(apex, path, 5.0, 2.5, classifier=classifier, threshold=0.0, n_channels=3)
        )
    what = f"events, cnn, {seconds / 60:g} minutes at {HOUR_RATE // 1000} kHz"
    return [Timing(what, taken, "", math.nan, float(seconds), most_megabytes())]


def _pages() -> list[Timing]:
    """Pages with sounds, each once: the size of the file, the time, and its ratio to the clips' spectrograms."""
    timings = []
    for size, limit in PAGES:
        cost = page_cost(size)
        what = f"page of {size.n_clips} clip(s) to {size.seconds[1]:g} s, {cost.megabytes:.1f} MB"
        timings += [
            Timing(what, cost.seconds, "", math.nan, limit),
            Timing(what, cost.seconds, "spectrograms of its clips", cost.ratio, math.nan),
        ]
    return timings


def _bank(network: str, model: nn.Module, repeats: int) -> Timing:
    dataset = TensorDataset(torch.randn(8 * BATCH, *INPUT), torch.zeros(8 * BATCH))
    device = next(model.parameters()).device

    def plain() -> None:
        with torch.no_grad():
            for inputs, _ in DataLoader(dataset, BATCH):
                model(inputs.to(device))

    seconds, ratio = _pair(
        lambda: FeatureBank.from_dataset(model, explained_layer(model), dataset, batch_size=BATCH, places=False),
        plain,
        repeats,
    )
    return Timing(f"feature bank, {network}, {len(dataset)} clips", seconds, "a plain loop over the loader", ratio, 1.1)


def _masking(network: str, model: nn.Module, repeats: int) -> list[Timing]:
    """Every measure that needs the model's scores of masked clips, against the same number of bare forward passes."""
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
    timings = []
    for name, (measure, passes) in measures.items():
        clips = _random(model, passes, *INPUT)  # pooling is faster on clips that are zero
        seconds, ratio = _pair(measure, lambda clips=clips: _bare(model, clips), repeats)  # type: ignore[misc]
        timings.append(
            Timing(f"{name}, {network}, {passes} masked clips", seconds, "the bare forward passes", ratio, 1.15)
        )
    return timings


def _bare(model: nn.Module, clips: Tensor) -> None:
    for batch in clips.split(BATCH):
        _forward(model, batch)


def _fitting(device: str) -> list[Timing]:
    model = NETWORKS["cnn"](CLASSES).eval().to(device)
    clips = torch.randn(FIT_CLIPS, *INPUT)
    bank = FeatureBank.from_dataset(model, explained_layer(model), TensorDataset(clips, torch.zeros(FIT_CLIPS))).to(
        device
    )
    return [
        Timing(
            f"fitting {scheme}, {method}, C = {bank.n_channels}, {bank.n_clips} clips",
            _timed(partial(fit_basis, bank, scheme, method=method)),
            "",
            math.nan,
            FIT_LIMITS[method][scheme is Scheme.SQUARE],
        )
        for method, scheme in itertools.product(FIT_LIMITS, SCHEMES)
    ]
