"""Published models with their weights on real recordings: what the tables of the guide say, with few clips."""

import configparser
import inspect
import re
import textwrap
from pathlib import Path

import pytest
import torch

from benchmarks.experiments.published_rows import contributions_by_hand, published_lines
from benchmarks.published.published_models import PUBLISHED_MODELS, n_statements
from tests.benchmarks.published.subjects import needs, subject

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
    table = published_lines(model, subject(package))
    assert (table["delta"] <= DELTA[package]).all()
    if package in ("torchcrepe", "batdetect2"):
        assert (table["purity"] > table["purity_raw"] + 0.05).all()
    if package in ("pesto-pitch", "speechmos"):
        return  # a channel of PESTO does not know the pitch (see test_wheels.py); DNSMOS' do not share the quality
    if model.unit:
        assert (table["shared"] < 0.75 * table["random"]).all()
    else:
        assert (table["shared"] > table["random"] + 0.1).all()


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
