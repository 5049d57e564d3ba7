"""The prototypes of trained heads: their lines against loops over clips, cells and prototypes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.classifiers import trained_heads
from benchmarks.classifiers.sigmoid_heads import SIGMOID_HEADS
from benchmarks.classifiers.trained_heads import HEADS
from benchmarks.experiments import head_prototypes, prototype_quality
from benchmarks.experiments.head_prototypes import (
    PROTOTYPE_HEADS,
    HeadOnClips,
    HeadValues,
    head_explanation,
    head_quality_lines,
)
from benchmarks.experiments.prototype_quality import ATTACK, COLUMNS, UnseenClips, subset
from benchmarks.methods.trained_head_maps import head_learner
from benchmarks.runs.learning import learned_networks
from benchmarks.runs.stage import Stage
from benchmarks.tasks.scene_parts import parts_of
from captum_apex import Scheme
from captum_apex.metrics import prototypes as measures
from tests.small import small_subject

NAME = "AudioProtoPNet, 5 prototypes"


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CAPTUM_APEX_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr(trained_heads, "STEPS", 5)
        patch.setattr(prototype_quality, "LOWERED", (3, 2))
        yield


@pytest.fixture(scope="module")
def small(cache):
    return replace(small_subject(), seed=3)


@pytest.fixture(scope="module")
def clips(small):
    return UnseenClips.of(small)


@pytest.fixture(scope="module")
def line(small, clips):
    (found,) = head_quality_lines(small, NAME, clips).to_dict("records")
    return found


def head_of(subject):
    learned = learned_networks(subject, [head_learner(NAME)])[head_learner(NAME)]
    return learned.network(head_learner(NAME), Stage.of(subject, 1))


class Counted:
    """A head on the clips of a split, by loops: of each prototype its cosine in each cell of each clip."""

    def __init__(self, subject, head, split):
        self.labels = [label for _, label in getattr(subject.task, split)]
        self.inputs = torch.stack([inputs for inputs, _ in getattr(subject.task, split)])
        with torch.no_grad():
            features = subject.model.features(self.inputs).double()  # (clip, channel, row, column)
        cells = features.flatten(2)
        vectors = head.prototypes.detach().double().flatten(0, 1)
        cosines = [[[torch.cosine_similarity(z, p, dim=0) for z in clip.T] for clip in cells] for p in vectors]
        self.cosines = torch.tensor(cosines).clamp_min(0)  # (prototype, clip, cell)
        self.grid = features.shape[2:]
        self.weights = head.weights.detach().double().clamp_min(0)
        self.bias = head.bias.detach().double()

    @property
    def values(self):
        return self.cosines.amax(2).T

    def nearest(self, chosen=None):
        """The five clips with the largest value of each prototype."""
        chosen = range(len(self.labels)) if chosen is None else chosen
        return [sorted(chosen, key=lambda clip: -row[clip].item())[:5] for row in self.values.T]

    def contributions(self):
        """The class that the head predicts in each clip, and what each prototype adds to it."""
        n_classes, per_class = self.weights.shape
        predicted = []
        lines = []
        for row in self.values:
            terms = [
                [(self.weights[c, j] * row[c * per_class + j]).item() for j in range(per_class)]
                for c in range(n_classes)
            ]
            logits = [sum(terms[c]) + self.bias[c].item() for c in range(n_classes)]
            predicted.append(max(range(n_classes), key=logits.__getitem__))
            lines.append([term if c == predicted[-1] else 0.0 for c in range(n_classes) for term in terms[c]])
        return torch.tensor(predicted), torch.tensor(lines, dtype=torch.float64)


@pytest.fixture(scope="module")
def training(small):
    return Counted(small, head_of(small), "train")


@pytest.fixture(scope="module")
def unseen(small):
    return Counted(small, head_of(small), "test")


def mean_purity(counted, nearest):
    return [np.mean([counted.values[clip, p].item() for clip in of_one]) for p, of_one in enumerate(nearest)]


def shares(counted, nearest):
    labels = [[counted.labels[clip] for clip in of_one] for of_one in nearest]
    return np.mean([max(each.count(label) for label in each) / 5 for each in labels])


def test_purity_and_classes_are_those_of_the_most_similar_clips(small, line, training, unseen):
    assert np.allclose(line["purity"], np.mean(mean_purity(training, training.nearest())), atol=1e-6)
    assert np.allclose(line["unseen"], np.mean(mean_purity(unseen, unseen.nearest())), atol=1e-6)
    kept = subset(small.bank, len(unseen.labels), 3).means
    as_many = [int((small.bank.means == row).all(1).nonzero()[0, 0]) for row in kept]
    fair = mean_purity(training, training.nearest(as_many))
    assert line["gap"] == pytest.approx(np.mean(fair) - line["unseen"], abs=1e-6)
    assert line["class"] == pytest.approx(shares(training, training.nearest()))
    assert line["class_unseen"] == pytest.approx(shares(unseen, unseen.nearest()))
    nearest = [set(each) for each in training.nearest()]
    overlaps = [
        len(one & other) / len(one | other)
        for i, one in enumerate(nearest)
        for j, other in enumerate(nearest)
        if i != j
    ]
    assert line["overlap"] == pytest.approx(np.mean(overlaps))


def test_explanations_are_of_the_class_that_the_head_predicts(small, line, training, unseen):
    predicted, contributions = unseen.contributions()
    with torch.no_grad():
        assert torch.equal(head_of(small)(small.model.features(unseen.inputs)).argmax(1), predicted)
    needed = []
    agreed = []
    for label, row in zip(predicted.tolist(), contributions, strict=True):
        ordered = sorted(row.tolist(), reverse=True)
        needed.append(next(n for n in range(1, 41) if sum(ordered[:n]) >= 0.9 * sum(ordered) - 1e-9))
        votes = [0.0] * 8
        for p in sorted(range(40), key=lambda p: -row[p].item())[:5]:
            for clip in training.nearest()[p]:
                votes[training.labels[clip]] += row[p].item()
        best = [c for c in range(8) if votes[c] >= max(votes) - 1e-9]
        agreed.append((label in best) / len(best))
    assert line["channels"] == pytest.approx(np.mean(needed))
    assert line["channels_high"] <= 5  # no more than the prototypes of a class
    assert line["votes"] == pytest.approx(np.mean(agreed))


def test_regions_are_cells_of_the_grid(small, clips, line, unseen):
    indices = torch.tensor(unseen.nearest())
    rows, columns = unseen.grid
    places = small.bank.origin.places
    regions = []
    for p, of_one in enumerate(indices.tolist()):
        peaks = [unseen.cosines[p, clip].argmax().item() for clip in of_one]
        regions.append([Scheme.SQUARE.region([peak], rows, columns, places=places) for peak in peaks])
    parts = {clip: parts_of(3, "test", clip) for clip in indices.unique().tolist()}
    hits = measures.part_hits(regions, indices, parts)
    assert line["part"] == pytest.approx(measures.part_purity(hits).nanmean().item())
    assert line["consistency"] == pytest.approx(measures.part_consistency(hits).nanmean().item())
    generator = torch.Generator().manual_seed(3)
    ordered = sorted(parts)
    noise = torch.randn((len(ordered), *unseen.inputs.shape[1:]), generator=generator) * 0.2
    noisy = HeadValues(small, head_of(small)).peaks(unseen.inputs[ordered] + noise.clamp(-0.25, 0.25))
    moved = [[noisy[ordered.index(clip), p].tolist() for clip in of_one] for p, of_one in enumerate(indices.tolist())]
    random = torch.randint(rows * columns, indices.shape, generator=generator)[..., None].tolist()
    for name, peaks, measure in (
        ("stability", moved, lambda found: measures.part_stability(hits, found)),
        ("part_at_random", random, measures.part_purity),
    ):
        others = [[Scheme.SQUARE.region(peak, rows, columns, places=places) for peak in of_one] for of_one in peaks]
        assert line[name] == pytest.approx(measure(measures.part_hits(others, indices, parts)).nanmean().item())
    strength = unseen.contributions()[1].mean(0)
    first = sorted(range(40), key=lambda p: -strength[p].item())[:3]
    of_clips = torch.tensor(first)[:, None].expand(3, 2).flatten()
    inputs = unseen.inputs[indices[first, :2].flatten()]
    inside = torch.stack([regions[p][rank].mask(*inputs.shape[2:]) for p in first for rank in (0, 1)])
    outputs = HeadValues(small, head_of(small))
    outside = measures.misalignment(outputs, inputs, inside, of_clips, **ATTACK)
    assert line["fall"] == pytest.approx(outside.fall.mean().item(), abs=1e-4)
    assert line["overtaken"] == pytest.approx(outside.rank_change.double().mean().item())
    assert line["fall_anywhere"] >= line["fall"]


def test_another_seed_trains_another_head(small, line, training):
    other = Counted(small, head_of(replace(small, seed=1003)), "train")
    head, second = (
        head_of(subject).prototypes.flatten(0, 1).double() for subject in (small, replace(small, seed=1003))
    )
    match, cosines = measures.matched_channels(head, second)
    assert line["cosine"] == pytest.approx(cosines.mean().item(), abs=1e-6)
    assert line["cosine"] < 0.999
    pairs = zip(training.nearest(), [other.nearest()[k] for k in match], strict=True)
    jaccards = [len(set(a) & set(b)) / len(set(a) | set(b)) for a, b in pairs]
    assert line["jaccard"] == pytest.approx(np.mean(jaccards))


def test_values_and_peaks_of_inputs_are_those_of_the_bank(small, clips, unseen):
    outputs = HeadValues(small, head_of(small))
    torch.testing.assert_close(outputs(unseen.inputs).double(), unseen.values, rtol=1e-5, atol=1e-6)
    assert torch.equal(outputs.peaks(unseen.inputs)[..., 0], unseen.cosines.argmax(2).T)
    on_clips = HeadOnClips.of(head_of(small), clips.bank)
    assert on_clips.prototypes.indices.tolist() == unseen.nearest()
    assert all(parameter.requires_grad for parameter in small.model.parameters())


def test_an_explanation_has_the_prototypes_that_add_most(small, training, unseen):
    predicted, contributions = unseen.contributions()
    head = head_of(small)
    places = small.bank.origin.places
    for index in (0, 7):
        found = head_explanation(small, NAME, index, n_channels=3, n_prototypes=2)
        assert found.predicted == predicted[index]
        logit = contributions[index].sum().item() + head.bias[found.predicted].item()
        assert found.logit == pytest.approx(logit, rel=1e-5)
        ordered = sorted(range(40), key=lambda p: -contributions[index, p].item())[:3]
        assert [each.channel for each in found.evidence] == [p % 5 for p in ordered]
        for p, each in zip(ordered, found.evidence, strict=True):
            assert p // 5 == found.predicted
            assert each.contribution == pytest.approx(contributions[index, p].item(), rel=1e-5)
            assert each.purity == each.activation == pytest.approx(unseen.values[index, p].item(), rel=1e-5)
            peak = unseen.cosines[p, index].argmax().item()
            assert each.region == Scheme.SQUARE.region([peak], *unseen.grid, places=places)
            nearest = training.nearest()[p][:2]
            assert [(shown.index, shown.label) for shown in each.prototypes] == [
                (i, training.labels[i]) for i in nearest
            ]
            for shown in each.prototypes:
                peak = training.cosines[p, shown.index].argmax().item()
                assert shown.region == Scheme.SQUARE.region([peak], *training.grid, places=places)
                assert shown.purity == pytest.approx(training.values[shown.index, p].item(), rel=1e-5)


def test_prototypes_without_a_weight_are_no_evidence(small, monkeypatch):
    head = head_of(small)
    head.weights.data[:, 1:] = -1.0
    monkeypatch.setattr(head_prototypes, "trained_head", lambda subject, name: head)
    found = head_explanation(small, NAME, 0)
    assert [each.channel for each in found.evidence] == [0]


def test_the_columns_are_those_of_bases_and_a_head_has_no_condition(line):
    assert tuple(line) == COLUMNS
    assert line["scheme"] == "square"
    assert [name for name, value in line.items() if np.isnan(value if name != "scheme" else 0.0)] == ["condition"]
    assert (*(name for name in HEADS if name != "InfoDisent"), *SIGMOID_HEADS) == PROTOTYPE_HEADS


def test_a_head_of_one_prototype_needs_one_and_a_task_without_parts_leaves_them_out(small, clips):
    other = replace(small, task=replace(small.task, name="digits"))
    (line,) = head_quality_lines(other, "AudioProtoPNet, 1 prototype", clips).to_dict("records")
    assert line["channels"] == 1
    assert np.isnan([line[name] for name in ("part", "part_at_random", "consistency", "stability")]).all()
