"""Frozen versions of the benchmark: the networks with their weights, and what their clips, fills and grids must be.

So that everybody explains the same networks on the same clips, a version holds the weights of its networks, and digests
of the explained clips, the training clips (of which bases and learned networks are made, here, with one thread), fills,
grids and truth. Clips are computed anew from code or recordings. Other processors may round them differently; so where
their digest differs, their means and deviations are compared (of the training clips, those of each class), and the
share of the bins that are true.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.runs.results import digest_of
from benchmarks.runs.stage import Stage
from benchmarks.runs.subject import Subject, prepare
from benchmarks.threads import one_thread
from captum_apex.files import read_json, read_tensors, write_json, write_tensors
from captum_apex.layers.models import fingerprint

FROZEN = Path(__file__).parents[1] / "frozen"
"""Folder of all versions: a folder of each by its number."""
ROUNDING = 1e-3  # largest difference of a mean or deviation of a clip, in standard deviations of the training clips
_FORMAT = "captum-apex frozen 1"
VERSION_FILE = "version.json"


class FrozenError(ValueError):
    """Something is not as in the frozen version."""


@dataclass(frozen=True)
class Entry:
    """One network of a version, with its clips.

    Attributes:
        task: name of the task.
        network: name of the network.
        seed: seed of the clips, the training and the fits.
        indices: index of each explained clip among the test clips.
        accuracy: share of all test clips that the network recognises.
        weights: fingerprint of the network.
        predicted: class that is explained, of each clip.
        inputs: digest of the clips' values.
        means: mean of each clip.
        deviations: standard deviation of each clip.
        fills: digest of the values of each fill.
        fill_means: mean of the values of each fill.
        grids: digest of each region grid.
        training: digest of the training clips and their labels.
        training_means: mean of the training clips of each class.
        training_deviations: standard deviation of the training clips of each class.
        silence: value of a bin without sound.
        truth: digest of the bins on which the class event of each clip lies; empty if they are unknown.
        truth_shares: share of the bins that these are, of each clip.
    """

    task: str
    network: str
    seed: int
    indices: list[int]
    accuracy: float
    weights: str
    predicted: list[int]
    inputs: str
    means: list[float]
    deviations: list[float]
    fills: dict[str, str]
    fill_means: dict[str, float]
    grids: dict[str, str]
    training: str
    training_means: list[float]
    training_deviations: list[float]
    silence: float
    truth: str
    truth_shares: list[float]

    @property
    def name(self) -> str:
        """Name of the entry, such as `scenes-cnn-0`."""
        return f"{self.task}-{self.network}-{self.seed}"

    @classmethod
    def of(cls, subject: Subject, stage: Stage, accuracy: float, grids: Sequence[str], fills: Sequence[str]) -> Entry:
        """The entry of a network.

        Args:
            subject: the network and its task.
            stage: the clips that are explained.
            accuracy: share of all test clips that the network recognises.
            grids: names of the region grids.
            fills: names of the fills.
        """
        values = {name: stage.fill(name) for name in fills}
        training = subject.task.train
        of_classes = [training.log_mels[training.labels == label].double() for label in training.labels.unique()]
        return cls(
            task=subject.task.name,
            network=subject.network,
            seed=subject.seed,
            indices=stage.indices,
            accuracy=accuracy,
            weights=fingerprint(subject.model),
            predicted=stage.target.tolist(),
            inputs=digest_of(stage.inputs),
            means=stage.inputs.double().mean((1, 2, 3)).tolist(),
            deviations=stage.inputs.double().flatten(1).std(1).tolist(),
            fills={name: digest_of(fill) for name, fill in values.items()},
            fill_means={name: fill.double().mean().item() for name, fill in values.items()},
            grids={name: digest_of(stage.grid(name)) for name in grids},
            training=training.fingerprint(),
            training_means=[clips.mean().item() for clips in of_classes],
            training_deviations=[clips.std().item() for clips in of_classes],
            silence=stage.silence,
            truth="" if stage.truth is None else digest_of(stage.truth),
            truth_shares=[] if stage.truth is None else stage.truth.double().mean((1, 2)).tolist(),
        )

    def check(self, found: Entry) -> bool:
        """Compares what was made here with the version.

        Args:
            found: the entry of the network and the clips of this machine.

        Returns:
            Whether clips and fills are the same to the last bit; otherwise they are the same up to rounding.

        Raises:
            FrozenError: something differs; the message names it.
        """
        for name in ("weights", "indices", "grids"):
            if getattr(self, name) != getattr(found, name):
                raise FrozenError(f"expected the {name} of {self.name} as in the frozen version, but they differ")
        same_clips = self.inputs == found.inputs
        if same_clips:
            self._check_digests(found)
        else:
            self._check_rounding(found)
        same_training = self.training == found.training
        if not same_training:
            self._check_training(found)
        if self.predicted != found.predicted:
            raise FrozenError(f"expected the predictions of {self.name} as in the frozen version, but they differ")
        return same_clips and same_training

    def _check_digests(self, found: Entry) -> None:
        """Of the same clips, everything must be the same."""
        changed = [f"fill {name}" for name, digest in self.fills.items() if found.fills.get(name) != digest]
        changed += [name for name in ("silence", "truth") if getattr(self, name) != getattr(found, name)]
        if changed:
            raise FrozenError(f"expected the {changed[0]} of {self.name} as in the frozen version, but it differs")

    def _check_training(self, found: Entry) -> None:
        """Other training clips give other bases and other learned networks."""
        for name in ("training_means", "training_deviations"):
            expected = np.array(getattr(self, name))
            values = np.array(getattr(found, name))
            if expected.shape != values.shape or not np.allclose(values, expected, rtol=0, atol=ROUNDING):
                raise FrozenError(
                    f"expected the training clips of {self.name} as in the frozen version, but their {name[9:]} "
                    "differ; the recordings, or the code that makes the clips, are others"
                )

    def _check_rounding(self, found: Entry) -> None:
        for name in ("means", "deviations"):
            for index, expected, value in zip(self.indices, getattr(self, name), getattr(found, name), strict=True):
                if abs(expected - value) > ROUNDING:
                    raise FrozenError(
                        f"expected test clip {index} of {self.task} with {name} of {expected:.4f}, as in the frozen "
                        f"version, but got {value:.4f}; the recordings, or the code that makes the clips, are others"
                    )
        numbers = {f"fill {name}": (mean, found.fill_means[name]) for name, mean in self.fill_means.items()}
        numbers["silence"] = (self.silence, found.silence)
        for index, *shares in zip(self.indices, self.truth_shares, found.truth_shares, strict=False):
            numbers[f"share of the truth in test clip {index}"] = (shares[0], shares[1])
        for name, (expected, value) in numbers.items():
            if not abs(expected - value) <= (ROUNDING if "truth" not in name else 10 * ROUNDING):
                raise FrozenError(
                    f"expected the {name} of {self.name} with a value of {expected:.4f}, as in the frozen version, but "
                    f"got {value:.4f}"
                )
        if len(self.truth_shares) != len(found.truth_shares):
            raise FrozenError(f"expected the truth of {self.name} as in the frozen version, but it differs")


@dataclass(frozen=True)
class FrozenVersion:
    """A frozen version of the benchmark.

    Attributes:
        folder: the folder that holds it.
        number: its number.
        grids: names of the region grids.
        fills: names of the fills.
        points: number of points of each curve.
        entries: networks and clips, by name.
    """

    folder: Path
    number: int
    grids: tuple[str, ...]
    fills: tuple[str, ...]
    points: int
    entries: Mapping[str, Entry]

    @classmethod
    def load(cls, number: int, root: Path = FROZEN) -> FrozenVersion:
        """Reads a version.

        Args:
            number: number of the version.
            root: the folder of all versions.

        Raises:
            FrozenError: there is no such version, or its file is damaged.
        """
        folder = root / str(number)
        try:
            content = read_json(folder / VERSION_FILE)
            entries = {name: Entry(**entry) for name, entry in content["entries"].items()}
            names = (tuple(content["grids"]), tuple(content["fills"]))
            return cls(folder, content["number"], *names, content["points"], entries)
        except FileNotFoundError as error:
            versions = ", ".join(sorted(path.parent.name for path in root.glob(f"*/{VERSION_FILE}"))) or "none"
            raise FrozenError(f"expected a frozen version {number}, but there are: {versions}") from error
        except (ValueError, KeyError, TypeError) as error:
            raise FrozenError(
                f"expected {folder / VERSION_FILE} to hold a frozen version, but it is damaged: {error}"
            ) from error

    def save(self, models: Mapping[str, torch.nn.Module]) -> None:
        """Writes the version and the weights of its networks.

        Args:
            models: the network of each entry, by the entry's name.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        for name, model in models.items():
            write_tensors(self._weights(name), model.state_dict(), {"format": _FORMAT})
        content: dict[str, Any] = {name: getattr(self, name) for name in ("number", "grids", "fills", "points")}
        write_json(
            self.folder / VERSION_FILE,
            {**content, "entries": {name: asdict(each) for name, each in self.entries.items()}},
        )

    def subject(self, name: str, *, progress: bool = False) -> Subject:
        """A network of the version with its task, and bases that are fitted here.

        Args:
            name: name of the entry.
            progress: whether to show progress bars.

        Raises:
            FrozenError: the weights are damaged or missing.
            FileNotFoundError: the task needs recordings that are not there.
        """
        entry = self.entries[name]
        try:
            weights, _ = read_tensors(self._weights(name), {_FORMAT: True})
        except (OSError, ValueError) as error:
            raise FrozenError(f"expected the weights of {name} in {self._weights(name)}: {error}") from error
        with one_thread():  # the bases do not depend on the number of cores
            return prepare(entry.task, entry.network, seed=entry.seed, weights=weights, progress=progress)

    def check(self, subject: Subject, stage: Stage) -> bool:
        """Compares a subject of this version and its clips with the entry; see `Entry.check`."""
        name = f"{subject.task.name}-{subject.network}-{subject.seed}"
        entry = self.entries[name]
        return entry.check(Entry.of(subject, stage, entry.accuracy, self.grids, self.fills))

    def _weights(self, name: str) -> Path:
        return self.folder / f"{name}.safetensors"
