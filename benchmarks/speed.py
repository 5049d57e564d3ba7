"""What explanations cost, as ratios to plain forward passes measured in the same run."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from captum.attr import LayerGradCam
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.classifiers import NETWORKS, explained_layer
from captum_apex import SCHEMES, FeatureBank, LayerAPEX, PrototypeBasis, Scheme, fit_basis
from captum_apex.masking import n_regions, named_fill, named_grid
from captum_apex.metrics import deletion_insertion, mask_fidelity, masked_scores, random_removals, soft_mask

INPUT = (1, 64, 126)  # one scene: bands, frames
BATCH = 32
FIT_CLIPS = 2000
CLASSES = 8


@dataclass(frozen=True)
class Timing:
    """One line of the table.

    Attributes:
        what: what was measured.
        seconds: median over the repeats.
        reference: what it is compared with, empty for an absolute time.
        ratio: the median of the ratios, each taken back to back; NaN for an absolute time.
        limit: what it is meant to stay under: a ratio, or seconds.
    """

    what: str
    seconds: float
    reference: str
    ratio: float
    limit: float


def measure(*, repeats: int = 5) -> list[Timing]:
    """All timings, with random weights and clips: the cost does not depend on them."""
    timings = []
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for network in NETWORKS:
            model = NETWORKS[network](CLASSES).eval()
            timings += [*_attribution(network, model, repeats), _bank(network, model, repeats), *_masking(network, model, repeats)]
        timings += _fitting()
    return timings


def table(timings: Sequence[Timing]) -> str:
    """The timings as text."""
    width = max(len(timing.what) for timing in timings)
    lines = [f"{'':<{width}}  {'seconds':>8}  {'ratio':>6}  {'limit':>6}  against"]
    for timing in timings:
        ratio = "" if not timing.reference else f"{timing.ratio:.2f}"
        against = timing.reference or "seconds on this machine"
        lines.append(f"{timing.what:<{width}}  {timing.seconds:8.3f}  {ratio:>6}  {timing.limit:6.2f}  {against}")
    return "\n".join(lines)


def _pair(run: Callable[[], object], reference: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Median seconds of `run` and median ratio, the two timed in turn so that a drifting machine slows both."""
    seconds, ratios = [], []
    run(), reference()
    for _ in range(repeats):
        own, other = _timed(run), _timed(reference)
        seconds.append(own)
        ratios.append(own / other)
    return statistics.median(seconds), statistics.median(ratios)


def _timed(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _forward(model: nn.Module, inputs: Tensor) -> Tensor:
    with torch.no_grad():
        return model(inputs)


def _attribution(network: str, model: nn.Module, repeats: int) -> list[Timing]:
    layer, inputs = explained_layer(model), torch.randn(BATCH, *INPUT)
    width = FeatureBank.from_dataset(model, layer, list(inputs[:1]), schemes=["time"]).n_channels
    apex = LayerAPEX(model, layer, PrototypeBasis(torch.eye(width), Scheme.TIME))
    against_forward = _pair(lambda: apex.attribute(inputs, 0), lambda: _forward(model, inputs), repeats)
    against_grad_cam = _pair(lambda: apex.attribute(inputs, 0), lambda: LayerGradCam(model, layer).attribute(inputs, 0), repeats)
    return [
        Timing(f"attribution, {network}, batch {BATCH}", against_forward[0], "a forward pass", against_forward[1], 1.5),
        Timing(f"attribution, {network}, batch {BATCH}", against_grad_cam[0], "LayerGradCam", against_grad_cam[1], 1.0),
    ]


def _bank(network: str, model: nn.Module, repeats: int) -> Timing:
    dataset = TensorDataset(torch.randn(8 * BATCH, *INPUT), torch.zeros(8 * BATCH))

    def plain() -> None:
        with torch.no_grad():
            for inputs, _ in DataLoader(dataset, BATCH):
                model(inputs)

    seconds, ratio = _pair(lambda: FeatureBank.from_dataset(model, explained_layer(model), dataset, batch_size=BATCH), plain, repeats)
    return Timing(f"feature bank, {network}, {len(dataset)} clips", seconds, "a plain loop over the loader", ratio, 1.1)


def _masking(network: str, model: nn.Module, repeats: int) -> list[Timing]:
    """Every measure that asks the model for masked clips, against as many bare passes as it needs."""
    inputs, points = torch.randn(8, *INPUT), 9
    grid, fill = named_grid("time", INPUT[1:]), named_fill("mean", 0.0)(inputs)
    removed = random_removals(n_regions(grid), 16, seed=0).expand(len(inputs), -1, -1)
    probability = nn.Sequential(model, nn.Softmax(1)).eval()
    more = torch.randn(BATCH, *INPUT)
    fill_of_more = named_fill("mean", 0.0)(more)

    def curves() -> None:
        deletion_insertion(model, inputs, inputs, fill, grid=grid, target=0, points=points, batch_size=BATCH)

    def random_masks() -> None:
        masked_scores(model, inputs, fill, removed, grid, target=0, batch_size=BATCH)

    def soft_masks() -> None:
        mask_fidelity(probability, more, soft_mask(more, grid), fill_of_more, target=0)

    measures = {
        "deletion + insertion": (curves, len(inputs) * (2 * points - 2)),
        "infidelity, correlation": (random_masks, removed.shape[0] * removed.shape[1]),
        "mask fidelity": (soft_masks, 3 * BATCH),
    }
    timings = []
    for name, (measure, passes) in measures.items():
        clips = torch.randn(passes, *INPUT)  # pooling is faster on clips that are zero
        seconds, ratio = _pair(measure, lambda clips=clips: _bare(model, clips), repeats)  # type: ignore[misc]
        timings.append(Timing(f"{name}, {network}, {passes} masked clips", seconds, "the bare forward passes", ratio, 1.15))
    return timings


def _bare(model: nn.Module, clips: Tensor) -> None:
    for batch in clips.split(BATCH):
        _forward(model, batch)


def _fitting() -> list[Timing]:
    model = NETWORKS["cnn"](CLASSES).eval()
    bank = FeatureBank.from_dataset(model, explained_layer(model), TensorDataset(torch.randn(FIT_CLIPS, *INPUT), torch.zeros(FIT_CLIPS)))
    limits = {"square": 15.0}
    return [
        Timing(
            f"fitting {scheme}, C = {bank.n_channels}, {bank.n_clips} clips",
            _timed(lambda scheme=scheme: fit_basis(bank, scheme)),  # type: ignore[misc]
            "",
            float("nan"),
            limits.get(scheme, 4.0),
        )
        for scheme in SCHEMES
    ]
