"""Labels of the kinds that people have, as indices of classes."""

import enum

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from captum_apex.recordings.class_labels import class_labels

CLASSES = ("dog", "rain", "sea waves")


def clip(index):
    return f"clip {index}"


KINDS = {
    "names": ["rain", "dog", "sea waves"],
    "similar names": ["Rain", "001_dog", "Sea_Waves"],
    "names of several spellings": ["Rain", "dog", "sea-Waves"],
    "names with spaces around": [" rain", "dog ", "sea waves\t"],
    "NumPy names": np.array(["rain", "dog", "sea waves"]),
    "a Series of names": pd.Series(["rain", "dog", "sea waves"], index=[7, 3, 3]),
    "a Categorical": pd.Categorical(["rain", "dog", "sea waves"], categories=["sea waves", "rain", "dog"]),
    "a Series of categories": pd.Series(["rain", "dog", "sea waves"], dtype="category"),
    "ints": [1, 0, 2],
    "NumPy ints": np.array([1, 0, 2], dtype=np.uint8),
    "a list of NumPy ints": [np.int64(1), np.int64(0), np.int32(2)],
    "tensor": torch.tensor([1, 0, 2]),
    "a list of tensors": [torch.tensor(1), torch.tensor(0), torch.tensor(2)],
    "whole floats": [1.0, 0.0, 2.0],
    "nullable ints": pd.Series([1, 0, 2], dtype="Int64"),
    "ints as texts": ["1", "0", "2"],
    "floats as texts": ["1.0", "0.0", "2.0"],
}


@pytest.mark.parametrize("values", KINDS.values(), ids=KINDS)
def test_one_label_of_each_kind_is_the_index_of_its_class(values):
    assert class_labels(values, clip, CLASSES) == ((1, 0, 2), CLASSES)


SEVERAL = {
    "one 0 or 1 for each class": [[0, 1, 1], [0, 0, 0], [1, 0, 0]],
    "an array": np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]]),
    "a tensor of floats": torch.tensor([[0.0, 1, 1], [0, 0, 0], [1, 0, 0]]),
    "bools": [[False, True, True], [False, False, False], [True, False, False]],
    "a Series of arrays": pd.Series([np.array([0, 1, 1]), np.array([0, 0, 0]), np.array([1, 0, 0])]),
    "lists of names": [["sea waves", "rain"], [], ["dog"]],
    "tuples of names": [("Sea_Waves", "rain"), (), ("dog",)],
    "sets of names": [{"sea waves", "rain"}, set(), {"dog"}],
    "lists of indices": [[2, 1], [], [0]],
    "arrays of indices": [np.array([2, 1]), np.array([], dtype=int), np.array([0])],
}


@pytest.mark.parametrize("values", SEVERAL.values(), ids=SEVERAL)
def test_several_labels_are_a_0_or_1_for_each_class(values):
    assert class_labels(values, clip, CLASSES) == (((0, 1, 1), (0, 0, 0), (1, 0, 0)), CLASSES)


@pytest.mark.parametrize("text", ["sea waves,rain", "sea_waves; rain", "Sea waves|rain", "sea-waves rain"])
def test_a_text_that_is_no_class_can_be_several(text):
    assert class_labels([text, "dog"], clip, CLASSES) == (((0, 1, 1), (1, 0, 0)), CLASSES)


def test_a_class_with_a_comma_is_one_class():
    names = ("dog", "dog, rain", "rain")
    assert class_labels(["dog, rain", "rain"], clip, names) == ((1, 2), names)


@pytest.mark.parametrize(
    "values", [[True, False], np.array([True, False]), ["True", "false"], pd.Series([True, False])]
)
def test_a_bool_is_one_of_two_classes(values):
    assert class_labels(values, clip, ("real", "fake"))[0] == (1, 0)
    with pytest.raises(ValueError, match=r"'?True'? for clip 0"):
        class_labels(values, clip, CLASSES)


@pytest.mark.parametrize(
    ("values", "labels", "names"),
    [
        (["rain", "dog", "rain"], (1, 0, 1), ("dog", "rain")),
        (["10", "2", "1"], (2, 1, 0), ("1", "2", "10")),
        ([10, 2, -1], (2, 1, 0), ("-1", "2", "10")),
        ([True, True], (1, 1), ("False", "True")),
        ([["rain"], ["dog", "rain"]], ((0, 1), (1, 1)), ("dog", "rain")),
        (pd.Categorical(["rain", "dog"], categories=["rain", "fox", "dog"]), (0, 2), ("rain", "fox", "dog")),
        (pd.Series([5, 3], dtype=pd.CategoricalDtype([5, 3, 1])), (0, 1), ("5", "3", "1")),
        (["Ba\u0308r", "B\u00e4r"], (0, 0), ("B\u00e4r",)),
    ],
)
def test_without_class_names_the_labels_are_the_classes(values, labels, names):
    assert class_labels(values, clip) == (labels, names)


@pytest.mark.parametrize("values", [[None, None], [float("nan")] * 2, ["", " "], [pd.NA, pd.NaT], np.array([np.nan])])
def test_no_label_at_all_is_no_labels(values):
    assert class_labels(values, clip, CLASSES) == (None, CLASSES)
    assert class_labels(values, clip) == (None, ())


@pytest.mark.parametrize(
    ("values", "error", "message"),
    [
        (["dog", None], ValueError, "there is none for clip 1 and 'dog' for clip 0; leave out the clips without"),
        ([float("nan"), 1.0], ValueError, "there is none for clip 0 and 1.0 for clip 1"),
        (["dog", "cat"], ValueError, r"among the classes \(dog, rain, sea waves\), but got 'cat' for clip 1$"),
        (["dog", "dog,cat"], ValueError, "got 'cat' for clip 1"),
        (["1", "dog"], ValueError, "got '1' for clip 0"),
        (["1", "3"], ValueError, "from 0 to 2, the indices of the classes .* but got 3 for clip 1"),
        ([0, 3], ValueError, "from 0 to 2, .* but got 3 for clip 1"),
        ([0, -1], ValueError, "but got -1 for clip 1"),
        ([0, 1.5], ValueError, "names or indices of classes, but got 1.5 for clip 1"),
        ([0, float("inf")], ValueError, "but got inf for clip 1"),
        (["dog", 1], ValueError, "labels of one kind, but got 'dog' for clip 0 and 1 for clip 1"),
        ([True, 1], ValueError, "labels of one kind, but got True for clip 0 and 1 for clip 1"),
        ([["dog"], "rain"], ValueError, r"labels of one kind, but got \['dog'\] for clip 0 and 'rain'"),
        ([["dog"], ["cat"]], ValueError, "got 'cat' for clip 1"),
        ([["dog"], ["rain", 1]], ValueError, r"got \['dog'\] for clip 0"),
        ([[0, 1], [3]], ValueError, "but got 3 for clip 1"),
        ([[0.0, 0.5, 0.0]], ValueError, "but got 0.5 for clip 0"),
        ([[[0]]], ValueError, r"got \[\[0\]\] for clip 0"),
        ([[None]], ValueError, r"got \[None\] for clip 0"),
        ([b"fox"], ValueError, "got 'fox' for clip 0"),
        ([{"dog": 1}], TypeError, "got dict .* for clip 0"),
        ([object()], TypeError, "got object .* for clip 0"),
        ([1j], TypeError, "got complex 1j for clip 0"),
        (
            ["1_dog", "dog"],
            ValueError,
            "'1_dog' and 'dog' to mean two classes, but both mean 'dog'; where that is right",
        ),
    ],
)
def test_what_is_no_label_is_named_with_its_clip(values, error, message):
    with pytest.raises(error, match=message):
        class_labels(values, clip, CLASSES)


@pytest.mark.parametrize("values", [[1, 2], [[0, 1], [1, 2]]])
def test_a_number_that_is_also_the_name_of_another_class_is_refused(values):
    with pytest.raises(ValueError, match=r"1 for clip 0 is the name of a class and also the index of the class '2'"):
        class_labels(values, clip, ("1", "2", "3"))
    assert class_labels(["1", "2"], clip, ("1", "2", "3"))[0] == (0, 1)
    assert class_labels([1, 2], clip, ("0", "1", "2"))[0] == (1, 2)
    with pytest.raises(
        ValueError, match="True for clip 0 is the name of a class and also the index of the class 'False'"
    ):
        class_labels([True], clip, ("True", "False"))


def test_lists_of_numbers_need_the_names_of_the_classes():
    with pytest.raises(
        ValueError, match=r"expected `class_names` for labels that are lists of numbers, such as \[0, 1\]"
    ):
        class_labels([[0, 1], [1, 0]], clip)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(max_size=5), min_size=1, unique=True), st.data())
def test_a_name_of_a_class_always_means_this_class(names, data):
    """Whatever else it is similar to."""
    stripped = [name for name in names if name.strip() == name and name]
    if stripped:
        chosen = data.draw(st.lists(st.sampled_from(stripped), min_size=1))
        labels, _ = class_labels(chosen, clip, names)
        assert [names[label] for label in labels] == chosen


class Sound(enum.Enum):
    DOG = "dog"
    RAIN = "rain"


class Number(enum.IntEnum):
    DOG = 0
    RAIN = 1


@pytest.mark.parametrize(
    "values",
    [
        [b"rain", b"dog"],
        np.array([b"rain", b"dog"]),
        [Sound.RAIN, Sound.DOG],
        [Number.RAIN, Number.DOG],
        [np.str_("rain"), np.str_("dog")],
        pd.Series(["rain", "dog"], dtype="category"),
    ],
    ids=repr,
)
def test_names_of_other_types_are_names(values):
    assert class_labels(values, "clip {}".format, ["dog", "rain"]) == ((1, 0), ("dog", "rain"))


@pytest.mark.parametrize("names", [[7, 3, 0], np.array([7, 3, 0]), pd.Categorical([7, 3, 0])], ids=repr)
def test_labels_are_names_where_the_names_are_numbers(names):
    """3 is the second class, and not the fourth; 0 is the last one, and not the first."""
    assert class_labels([3, 0, 7], "clip {}".format, names) == ((1, 2, 0), ("7", "3", "0"))
    assert class_labels(["3", "0", "7"], "clip {}".format, names) == ((1, 2, 0), ("7", "3", "0"))


@pytest.mark.parametrize("separator", [";", ",", "|", " "])
def test_an_empty_text_is_no_class_beside_several_names(separator):
    values = [f"rain{separator}dog", "", "dog", " "]
    assert class_labels(values, "clip {}".format, ["dog", "rain"])[0] == ((1, 1), (0, 0), (1, 0), (0, 0))


@pytest.mark.parametrize("values", [["rain", "", "dog"], ["sea waves", "", "dog"], ["rain;dog", None, "dog"]], ids=repr)
def test_an_empty_text_is_a_missing_label_beside_single_names(values):
    with pytest.raises(ValueError, match="there is none for clip 1 and .* for clip 0; .* or .* give every clip a list"):
        class_labels(values, clip, ["dog", "rain", "sea waves"])
