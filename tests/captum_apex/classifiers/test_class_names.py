"""Labels and targets in words."""

import pytest

from captum_apex.classifiers.class_names import class_name

NAMES = ["dog", "rain", "siren"]


@pytest.mark.parametrize(
    ("label", "name"),
    [
        (2, "siren"),
        (-1, "siren"),
        (1.0, "rain"),
        ((1,), "rain"),
        ([1.0, 0.0, 1.0], "dog, siren"),
        ([0, 0, 0], ""),
        (None, ""),
    ],
)
def test_labels_have_names(label, name):
    assert class_name(label, NAMES) == name


def test_what_is_no_unicode_in_a_name_is_shown_by_replacement_characters():
    assert class_name([1, 1], ["caf\udce9", "\ud800"]) == "caf\N{REPLACEMENT CHARACTER}, \N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize("names", [None, [], ()])
@pytest.mark.parametrize(("label", "name"), [(2, "class 2"), ([0, 1], "class 1"), ((1, 2), "class (1, 2)")])
def test_without_names_there_are_numbers(label, name, names):
    assert class_name(label, names) == name


def test_the_only_class_of_a_multi_label_dataset_is_not_taken_for_an_index():
    assert class_name([1.0], ["dog", "rain"]) == "dog"


@pytest.mark.parametrize("label", [3, -4, [0, 0, 0, 1]])
def test_a_class_without_a_name_is_refused(label):
    with pytest.raises(ValueError, match="expected `class_names` with a name for class -?., but got 3 names"):
        class_name(label, NAMES)
