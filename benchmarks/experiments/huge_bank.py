"""What a bank of means and candidates of very many clips costs: time, memory and disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.experiments.timing import Timing, most_megabytes, timed
from captum_apex import FeatureBank, PrototypeBasis, Scheme, fit_basis
from captum_apex.bases import CandidateBank

N_CANDIDATES = 40  # of each channel
SCHEMES_OF_CANDIDATES = (Scheme.TIME, Scheme.FREQUENCY, Scheme.TIME_FREQUENCY)  # all whose cells are not the whole grid
_N_GRIDS = 64  # grids that are made before; a clip is one of them, with its own gain of each channel
_SPREAD = 0.5  # standard deviation of the logarithm of a gain


class RandomFeatures(Dataset):
    """Clips that are features already, each with its own level of each channel, which its index determines.

    Args:
        n_clips: number of clips.
        shape: channels, rows and columns of a clip.

    Example:
        >>> from benchmarks.experiments.huge_bank import RandomFeatures
        >>> clips = RandomFeatures(500_000, (3, 2, 4))
        >>> len(clips), clips[499_999].shape, bool((clips[0] == clips[0]).all())
        (500000, torch.Size([3, 2, 4]), True)
    """

    def __init__(self, n_clips: int, shape: Sequence[int]) -> None:
        self.n_clips = n_clips
        self.grids = torch.randn(_N_GRIDS, *shape, generator=torch.Generator().manual_seed(0)).relu()

    def __len__(self) -> int:
        return self.n_clips

    def __getitem__(self, index: int) -> Tensor:
        generator = torch.Generator().manual_seed(index)
        gains = torch.randn(self.grids.shape[1], generator=generator).mul(_SPREAD).exp()
        return self.grids[index % _N_GRIDS] * gains[:, None, None]


def huge_bank(n_clips: int, shape: Sequence[int]) -> list[Timing]:
    """The cost of a `CandidateBank` without `square`, and of fitting its bases in closed form.

    The model gives its input, so that the time is that of the bank. Memory is the most that this process has held so
    far, with what it has mapped of the files, which the system takes back when it needs it.

    Args:
        n_clips: number of clips.
        shape: channels, rows and columns of a clip.
    """
    model = nn.Sequential(nn.Identity(), nn.AdaptiveAvgPool2d(1))
    make = partial(FeatureBank.from_dataset, model, model[0], batch_size=64, places=False)
    banks: list[CandidateBank] = []
    size = f"C = {shape[0]}, {n_clips} clips"
    with TemporaryDirectory() as folder:
        clips = RandomFeatures(n_clips, shape)
        of_clips = partial(CandidateBank, make, clips, schemes=SCHEMES_OF_CANDIDATES, n_candidates=N_CANDIDATES)
        seconds = timed(lambda: banks.append(of_clips(folder=folder)))
        (bank,) = banks
        what = f"candidate bank, {size}, {_gigabytes(Path(folder)):.1f} GB of disk"
        timings = [Timing(what, seconds, "", math.nan, math.nan, most_megabytes())]
        for scheme in SCHEMES_OF_CANDIDATES:
            fits: list[PrototypeBasis] = []
            seconds = timed(lambda scheme=scheme, fits=fits: fits.append(_fit(bank, scheme)))  # type: ignore[misc]
            what = f"fitting {scheme}, candidates, {size}, {bank.missing(fits[0]):.1%} missing"
            timings.append(Timing(what, seconds, "", math.nan, math.nan, most_megabytes()))
    return timings


def _fit(bank: CandidateBank, scheme: Scheme) -> PrototypeBasis:
    return bank.fit(scheme, partial(fit_basis, method="closed-form"))


def _gigabytes(folder: Path) -> float:
    """The disk that the files of a folder take."""
    blocks = sum(path.stat().st_blocks for path in folder.rglob("*") if path.is_file())
    return blocks * 512 / 1e9
