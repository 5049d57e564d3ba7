"""Some thousand cases of every fuzz target; `make fuzz` runs a hundred thousand."""

from collections import Counter

import pytest
import torch

from captum_apex import PrototypeBasis
from captum_apex.masking.fills import masked
from tests.fuzz.outcomes import RIGHT_VALUE, FailedCaseError, accepted, is_refusal, outcome
from tests.fuzz.targets import TARGETS, counts

CASES = 3000


# soundfile drops what a file object raises in its callbacks, such as the error of a seek before the beginning
@pytest.mark.parametrize("name", TARGETS)
def test_every_case_is_a_right_value_or_an_error_of_ours(name):
    target, _ = TARGETS[name]
    outcomes = Counter(outcome(name, target, number) for number in range(counts(CASES)[name]))
    assert outcomes[RIGHT_VALUE], outcomes


def fails(error):
    def target(random, folder):
        raise error

    return target


def test_a_wrong_value_and_an_error_of_another_library_are_failures():
    for error in (AssertionError("wrong"), RuntimeError("expected scalar type Float"), ValueError("expected 1")):
        with pytest.raises(FailedCaseError, match=r"again: python -m tests.fuzz --target nothing --first 3 --cases 1"):
            outcome("nothing", fails(error), 3)


def test_an_error_of_ours_is_none_unless_the_input_was_right():
    def refused(random, folder):
        PrototypeBasis.load(folder / "missing")

    def refused_although_right(random, folder):
        with accepted(True, "a vector"):
            PrototypeBasis(torch.ones(2), "time")

    assert outcome("nothing", refused, 0) == "FileNotFoundError"
    with pytest.raises(FailedCaseError, match="refused what is right: a vector"):
        outcome("nothing", refused_although_right, 0)


def test_an_error_is_ours_only_with_our_words():
    assert not is_refusal(ValueError("expected 1"))  # not raised in the package
    with pytest.raises(RuntimeError) as caught:
        masked(torch.ones(1, 1, 2, 2), torch.ones(3), torch.ones(2, 2) > 0)  # torch's own words
    assert not is_refusal(caught.value)


def test_a_case_is_drawn_from_its_number():
    drawn = []
    for _ in range(2):
        outcome("nothing", lambda random, folder: drawn.append(random.integers(2**60)), 7)
    outcome("other", lambda random, folder: drawn.append(random.integers(2**60)), 7)
    assert drawn[0] == drawn[1] != drawn[2]
