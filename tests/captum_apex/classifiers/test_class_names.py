"""Labels and targets in words."""

import enum

import numpy as np
import pandas as pd
import pytest
import torch

from captum_apex.classifiers.class_names import checked_class_names, class_index, class_name

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


ORDERED = {
    "list": list,
    "tuple": tuple,
    "array": np.array,
    "objects": lambda names: np.array(names, dtype=object),
    "Index": pd.Index,
    "Series": lambda names: pd.Series(names, index=[1, 2, 0]),
    "generator": lambda names: (name for name in names),
}


@pytest.mark.parametrize("form", ORDERED.values(), ids=ORDERED)
def test_names_may_have_any_form_with_an_order(form):
    names = checked_class_names(form(["cat", "dog", "rain"]))
    assert list(names) == ["cat", "dog", "rain"]
    assert {type(name) for name in names} == {str}
    assert class_name(1, form(["cat", "dog", "rain"])) == "dog"


@pytest.mark.parametrize("names", [{"cat"}, frozenset({"cat"}), {"cat": 0}, "cat", b"cat", 3, None], ids=repr)
def test_names_without_an_order_are_refused(names):
    with pytest.raises(TypeError, match="`class_names` to be strings in the order of the model's scores"):
        checked_class_names(names)


@pytest.mark.parametrize("names", [["cat", 1], [1, "cat"], [None], [1.5]], ids=repr)
def test_names_that_are_no_strings_are_refused(names):
    with pytest.raises(TypeError, match="`class_names` to be strings or whole numbers, but got"):
        checked_class_names(names)


@pytest.mark.parametrize("names", [[], ["cat", "cat"], np.array(["cat", "cat"])], ids=repr)
def test_names_that_are_missing_or_equal_are_refused(names):
    with pytest.raises(ValueError, match="different strings, at least one"):
        checked_class_names(names)


class Sound(str, enum.Enum):  # noqa: UP042 - the text of its members is not their value
    DOG = "dog"
    RAIN = "rain"


@pytest.mark.parametrize(
    ("names", "texts"),
    [
        (range(2), ["0", "1"]),
        ([7, 3], ["7", "3"]),
        (np.array([7, 3]), ["7", "3"]),
        (torch.tensor([7, 3]), ["7", "3"]),
        (pd.Categorical([7, 3]), ["7", "3"]),
        ([False, True], ["False", "True"]),
        (Sound, ["dog", "rain"]),
        ([Sound.DOG, Sound.RAIN], ["dog", "rain"]),
        ([np.str_("dog"), np.str_("rain")], ["dog", "rain"]),
        ([b"dog", b"rain"], ["dog", "rain"]),
    ],
    ids=repr,
)
def test_names_of_other_types_become_strings(names, texts):
    checked = checked_class_names(names)
    assert checked == texts
    assert {type(name) for name in checked} == {str}
    assert class_name(1, names) == texts[1]


@pytest.mark.parametrize("name", ["dog bark", "001_dog_bark", "dog_bark", "Dog Bark", "1"])
def test_a_target_may_be_named_as_the_folder_of_its_recordings_is(name):
    assert class_index(name, ["cat", "dog bark", "rain"]) == 1


def test_a_number_before_a_name_does_not_make_it_another_class_where_there_are_both():
    assert class_index("2 dog", ["1 dog", "2 dog"]) == 1
    with pytest.raises(ValueError, match="'dog' to mean one class, but it is similar to '1 dog', '2 dog'"):
        class_index("dog", ["1 dog", "2 dog"])


def test_a_class_that_is_unknown_gets_the_list_of_all_where_there_are_few():
    few = ["cat", "dog bark", "rain", "rooster"]
    with pytest.raises(ValueError, match=r"but got 'dogs'; there are: dog bark, cat, rain, rooster$"):
        class_index("dogs", few)
    with pytest.raises(ValueError, match=r"there are: cat, dog bark, rain, rooster$"):
        class_index("wolf", few)
    with pytest.raises(ValueError, match=r"there are: rooster, …$"):
        class_index("rooter", [*few, *map(str, range(20))])
