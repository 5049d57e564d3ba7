"""Models as black boxes, on recordings: what the guide says of them, with few clips."""

import pytest

from benchmarks.experiments.black_boxes import embedding_lines, occlusion_lines
from tests.benchmarks.published.subjects import needing

pytestmark = pytest.mark.filterwarnings("ignore")  # of few clips


@needing("Resemblyzer")
def test_prototypes_on_embeddings_share_the_speaker():
    """In clips of two speakers, and the windows of a class lie where its speaker speaks."""
    (line,) = embedding_lines(6, 2).to_dict("records")
    assert line["accuracy"] >= 0.9  # of unseen clips
    assert line["same_speaker"] > line["random"] + 0.2
    assert line["all_in_half"] > 0.9
    assert line["delta"] < 1e-4  # the head is linear


@needing("torchcrepe")
def test_occlusion_of_a_black_box_is_as_good_as_gradients_of_the_same_model():
    lines = occlusion_lines("torchcrepe", 2, 16).set_index("method")
    occlusion = lines.loc["two-sided occlusion"]
    assert occlusion["difference"] > lines.loc["random", "difference"] + 1
    assert occlusion["difference"] > 0.85 * lines.loc["Integrated Gradients", "difference"]
    assert lines.loc["Integrated Gradients", "correlation"] > lines.loc["random", "correlation"] + 0.2
