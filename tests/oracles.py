"""The formulas, written as the papers have them: loops over clips, channels and positions, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def in_basis(grid: Tensor, U: Tensor) -> Tensor:
    """Ẑ[:, i, j] = U · Z[:, i, j], position by position."""
    out = torch.zeros_like(grid)
    for i in range(grid.shape[1]):
        for j in range(grid.shape[2]):
            out[:, i, j] = U @ grid[:, i, j]
    return out


def activation(grid: Tensor, U: Tensor, channel: int) -> float:
    """The mean of Ẑ_k over the grid."""
    return in_basis(grid, U)[channel].mean().item()


def sequences(grid: Tensor, scheme: str) -> list[list[Tensor]]:
    """The cells of each sequence of a scheme, each a vector over channels."""
    _, rows, columns = grid.shape
    by_column = [sum(grid[:, i, j] for i in range(rows)) / rows for j in range(columns)]
    by_row = [sum(grid[:, i, j] for j in range(columns)) / columns for i in range(rows)]
    square = [grid[:, i, j] for i in range(rows) for j in range(columns)]
    return {"square": [square], "time": [by_column], "frequency": [by_row], "time-frequency": [by_column, by_row]}[
        scheme
    ]


def peaks_and_purity(grid: Tensor, U: Tensor, channel: int, scheme: str, sign: int = 1) -> tuple[list[int], float]:
    """The peak cell of each sequence, and the mean over sequences of p_k / ‖p‖."""
    peaks, purities = [], []
    for cells in sequences(grid, scheme):
        vectors = [sign * (U @ cell) for cell in cells]
        best = max(range(len(vectors)), key=lambda i: vectors[i][channel].item())
        peaks.append(best)
        purities.append((vectors[best][channel] / math.sqrt(sum(x.item() ** 2 for x in vectors[best]))).item())
    return peaks, sum(purities) / len(purities)


def prototypes(grids: Tensor, U: Tensor, channel: int, n: int, sign: int = 1) -> list[int]:
    """The n clips with the largest activation of a channel, best first."""
    strength = [sign * activation(grid, U, channel) for grid in grids]
    return sorted(range(len(grids)), key=lambda clip: -strength[clip])[:n]


def relevance(grid: Tensor, gradient: Tensor, U: Tensor) -> Tensor:
    """R_k = Ĝ_k ⊙ Ẑ_k with Ĝ = U⁻ᵀ G, position by position."""
    inverse_transposed = torch.linalg.inv(U).T
    return in_basis(gradient, inverse_transposed) * in_basis(grid, U)


def evidence(R: Tensor, grid: Tensor, U: Tensor, n: int | None, sides: str = "positive") -> list[int]:
    """The n channels with the largest Σ R_k among those with c_k > 0 and a_k > 0 (or a_k ≠ 0)."""
    contributions = [R[k].sum().item() for k in range(len(R))]
    if n is None:
        return list(range(len(R)))
    strength = [activation(grid, U, k) for k in range(len(R))]
    able = [
        k for k in range(len(R)) if contributions[k] > 0 and (strength[k] > 0 or (sides == "both" and strength[k] < 0))
    ]
    return sorted(able, key=lambda k: -contributions[k])[:n]


def laid_out(relevance_map: Tensor, scheme: str) -> Tensor:
    """A map (frequency, time) as the scheme lays it out, its total kept."""
    rows, columns = relevance_map.shape
    time, frequency = torch.zeros_like(relevance_map), torch.zeros_like(relevance_map)
    for i in range(rows):
        for j in range(columns):
            time[i, j] = relevance_map[:, j].sum() / rows
            frequency[i, j] = relevance_map[i].sum() / columns
    return {"square": relevance_map, "time": time, "frequency": frequency, "time-frequency": (time + frequency) / 2}[
        scheme
    ]


def region_mask(
    peaks: list[int], scheme: str, grid: tuple[int, int], size: tuple[int, int], intersection: bool = False
) -> Tensor:
    """The bins of an input of a size whose centre lies in the peak cells' part of the input."""
    mask = torch.zeros(size, dtype=torch.bool)
    for y in range(size[0]):
        for x in range(size[1]):
            row, column = int((y + 0.5) / size[0] * grid[0]), int((x + 0.5) / size[1] * grid[1])
            inside = {
                "square": row * grid[1] + column == peaks[0],
                "time": column == peaks[0],
                "frequency": row == peaks[0],
            }.get(scheme)
            if inside is None:
                both = column == peaks[0], row == peaks[1]
                inside = all(both) if intersection else any(both)
            mask[y, x] = inside
    return mask
