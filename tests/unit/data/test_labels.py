"""Labels mean the same class in every file: matched by name, or refused with both lists."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from data_files import raises_one_line
from hypothesis import given
from hypothesis import strategies as st

from imbtune.data.readers.labels import (
    Labels,
    labels_from_array,
    labels_from_numbers,
    labels_from_positions,
    labels_from_texts,
    match_labels,
)

NAMES = ("ape", "bee", "cat")


def listed(words: str, names: str, place: str = "f") -> Labels:
    """Labels of the words, as positions in a list of names."""
    order = tuple(names.split())
    return labels_from_positions(np.array([order.index(w) for w in words.split()]), order, place)


def texts(words: str, place: str = "f") -> Labels:
    return labels_from_texts(words.split(), place)


def numbers(*values: int, place: str = "f") -> Labels:
    return labels_from_numbers(np.array(values), place)


def matched(train: list[Labels], test: list[Labels]) -> tuple[list[str], list[str]]:
    """The class names of all training and test images."""
    names, train_labels, test_labels, _ = match_labels(train, test)
    return [names[k] for k in train_labels], [names[k] for k in test_labels]


@given(st.data())
def test_any_order_of_names_in_any_file_is_the_same_classes(data: st.DataObject) -> None:
    words = st.lists(st.sampled_from(NAMES), max_size=8)
    parts, expected = [], []
    for _ in range(4):
        order = data.draw(st.permutations(NAMES))
        as_texts = data.draw(st.booleans())
        drawn = [*NAMES, *data.draw(words)]
        expected += [drawn]
        label = texts(" ".join(drawn)) if as_texts else listed(" ".join(drawn), " ".join(order))
        parts.append(label)
    train, test = matched(parts[:2], parts[2:])
    assert train == expected[0] + expected[1]
    assert test == expected[2] + expected[3]


def test_classes_are_in_the_order_of_the_training_set() -> None:
    train, test = listed("cat ape bee", "cat ape bee"), listed("ape bee", "ape bee cat dog")
    names, _, labels, notes = match_labels([train], [test])
    assert names == ("cat", "ape", "bee") and labels.tolist() == [1, 2]
    assert notes == ()
    assert match_labels([texts("cat ape bee")])[0] == NAMES  # strings: alphabetical
    assert match_labels([numbers(10, 9, 0)])[0] == ("0", "9", "10")  # numbers: by size
    assert match_labels([texts("10 9 0")])[0] == ("0", "10", "9")


def test_test_class_without_training_images_is_refused_with_both_lists() -> None:
    for train, test in (
        (listed("ape bee cat", "ape bee cat"), listed("bee dog", "bee cat dog", "t")),
        (texts("ape bee cat"), texts("bee dog", "t")),
        (texts("ape bee cat"), listed("bee dog", "bee dog", "t")),
    ):
        with raises_one_line("class 'dog' of t", "'ape', 'bee', 'cat', these", "'bee', 'dog':"):
            match_labels([train], [test])
    with raises_one_line("class '3' of t", "'0', '1', '2', these have '1', '3'"):
        match_labels([numbers(0, 1, 2)], [numbers(1, 3, place="t")])


def test_listed_class_without_training_images_is_left_out_with_a_note() -> None:
    names, labels, _, (note,) = match_labels([listed("bee cat", "ape bee cat")])
    assert names == ("bee", "cat") and labels.tolist() == [0, 1]
    assert "'ape'" in note and "left out" in note
    with raises_one_line("class 'ape' of t"):
        match_labels([listed("bee cat", "ape bee cat")], [listed("ape", "ape bee", "t")])


@pytest.mark.parametrize("named_first", [True, False])
def test_numbers_are_positions_in_the_list_of_another_file(named_first: bool) -> None:
    parts = [[listed("cat ape bee", "cat bee ape", "named")], [numbers(0, 1, 2, place="bare")]]
    train, test = parts if named_first else parts[::-1]
    names, *labels, (note,) = match_labels(train, test)
    assert names == ("cat", "bee", "ape")
    by_file = dict(zip(("named", "bare"), labels if named_first else labels[::-1], strict=True))
    assert by_file["named"].tolist() == [0, 2, 1] and by_file["bare"].tolist() == [0, 1, 2]
    assert "bare has numbers" in note and "class names of named" in note
    with raises_one_line("labels of bare", "from 1 to 3", "from 0 to 2"):
        match_labels(parts[0], [numbers(1, 2, 3, place="bare")])


def test_numbers_are_not_guessed_where_lists_differ() -> None:
    train = [listed("ape bee", "ape bee", "one"), listed("ape bee", "bee ape", "two")]
    with raises_one_line("three has numbers", "one: 'ape', 'bee'", "two: 'bee', 'ape'"):
        match_labels(train, [numbers(0, place="three")])


def test_names_that_differ_in_case_spaces_or_unicode_form() -> None:
    nfc = unicodedata.normalize("NFC", "café")
    nfd = unicodedata.normalize("NFD", "café")
    for one, other in (("Cat", "cat"), (nfc, nfd), ("cat", "cat ")):
        with raises_one_line("f has the classes", "differ only", "join them, or rename one"):
            match_labels([labels_from_texts([one, other, "dog"], "f")])
        names, _, labels, (note,) = match_labels(
            [labels_from_texts([one, "dog"], "f")], [labels_from_texts([other, "dog"], "t")]
        )
        assert labels.tolist() == [names.index(one), names.index("dog")]
        assert note == f"class '{other}' of t is taken for the class '{one}'"
    assert match_labels([texts("A a B b")])[0] == ("A", "B", "a", "b")  # letters to be recognised


def test_gaps_and_large_ids_are_classes_of_that_name_with_a_note() -> None:
    names, labels, _, (note,) = match_labels([numbers(7, 10**12, 7, 2**62)])
    assert names == ("7", str(10**12), str(2**62)) and labels.tolist() == [0, 1, 0, 2]
    assert f"'7', '{10**12}'" in note and "not all whole numbers from 0 on" in note
    assert match_labels([numbers(1, 2, 3)])[0] == ("1", "2", "3")
    assert match_labels([numbers(0, 1, 2)])[3] == ()
    with raises_one_line("class '0' of t"):  # numbered from 1 here, from 0 there
        match_labels([numbers(1, 2, 3)], [numbers(0, 1, 2, place="t")])


def test_negative_labels_name_the_file_and_what_to_do() -> None:
    with raises_one_line("f has 2 images with the label -1", "no label", "leave these images out"):
        numbers(-1, 0, 1, -1)
    with raises_one_line("f has 1 image with the label -1"):
        labels_from_positions(np.array([0, -1]), NAMES, "f")
    with raises_one_line("f lists a class name twice", "'ape', 'ape'"):
        labels_from_positions(np.array([0]), ("ape", "ape"), "f")


@pytest.mark.parametrize("label", ["-1", " -1 ", "-1.0", "-007", "\u22121", "- 2"])
@pytest.mark.parametrize("others", [("0", "1"), ("ape", "bee")])
def test_negative_labels_as_text_are_no_classes(label: str, others: tuple[str, str]) -> None:
    """In Parquet, .npz, CSV, a list of names, and as a folder."""
    parts = [
        labels_from_texts([*others, label, label], "f"),
        labels_from_array(np.array([*others, label, label]), "f"),
        labels_from_positions(np.array([0, 1, 2, 2]), (*others, label), "f"),
    ]
    for part in parts:
        for train, test in (([part], []), ([texts(" ".join(others))], [part])):
            with raises_one_line(
                f"f has 2 images with the label {label.strip()}, ", "or rename the class"
            ):
                match_labels(train, test)
    folders = Labels((*others, label), np.array([0, 1, 2]), "f", folders=True)
    with raises_one_line(f"f/{label.strip()} has 1 image with the label {label.strip()}"):
        match_labels([folders])


def test_names_that_only_look_negative_are_classes() -> None:
    for name in ("-0", "-1.5", "-x", "1-1", "-", "-1a"):
        assert name in match_labels([labels_from_texts(["ape", name], "f")])[0]
    unused = labels_from_positions(np.array([0, 1]), ("ape", "bee", "-1"), "f")
    assert match_labels([unused])[0] == ("ape", "bee")


def test_what_pandas_writes_for_no_label_is_no_class() -> None:
    for label in ("nan", "NaN", "<NA>"):
        with raises_one_line(f"f has 2 images with the label '{label}'", "pandas", "leave these"):
            match_labels([labels_from_texts(["ape", label, "bee", label], "f")])
    assert "none" in match_labels([texts("ape none Nan")])[0]


@pytest.mark.parametrize(
    ("values", "names"),
    [
        (np.array([0.0, 2.0, 1.0]), ("0", "1", "2")),
        (np.array([True, False]), ("False", "True")),
        (np.array([b"bee", b"ape"]), ("ape", "bee")),
        (np.array([b"bee", "ape"], dtype=object), ("ape", "bee")),
        (np.array(["bee", "ape"]), ("ape", "bee")),
        (np.array([0, 255], dtype=np.uint8), ("0", "255")),
        (np.array([2, 0], dtype=np.float16), ("0", "2")),
        (np.array([b"\xe9a", b"\xe8a"]), ("\\xe8a", "\\xe9a")),
        (np.array([1, 2**64 - 1], dtype=np.uint64), ("1", str(2**64 - 1))),
    ],
)
def test_labels_of_any_type(values: np.ndarray, names: tuple[str, ...]) -> None:
    labels = labels_from_array(values, "f")
    assert labels.names == names and labels.index.dtype == np.int64


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (np.array([0, 0.5]), "label 0.5"),
        (np.array([0, np.nan]), "label nan"),
        (np.array([1e300]), "label 1e+300"),
        (np.array([1j]), "complex128"),
    ],
)
def test_values_that_are_no_labels(values: np.ndarray, message: str) -> None:
    with raises_one_line("f", message, "whole numbers or strings"):
        labels_from_array(values, "f")


@pytest.mark.parametrize("empty", ["", " ", "\u00a0"])
def test_images_with_an_empty_label_are_refused(empty: str) -> None:
    train = listed("ape bee", "ape bee")
    nameless = labels_from_texts(["ape", empty, empty], "g")
    for parts in (([nameless], []), ([train], [nameless])):
        with raises_one_line("g has 2 images with an empty label", "leave these images out"):
            match_labels(*parts)
    unused = labels_from_positions(np.array([1, 2]), (empty, "ape", "bee"), "g")
    assert match_labels([unused])[0] == ("ape", "bee")


def test_names_that_are_not_utf8_are_written_with_escapes() -> None:
    # how Python reads a folder's name in Latin-1, and half of a character from JSON
    train = labels_from_texts(["caf\udce9", "\ud800", "tea"], "f")
    names, train_labels, test_labels, notes = match_labels([train], [train])
    assert names == ("caf\\udce9", "tea", "\\ud800")
    assert train_labels.tolist() == test_labels.tolist() == [0, 2, 1]
    assert len(notes) == 1 and "f has class names that are not UTF-8" in notes[0]


def test_texts_of_a_file_without_types_may_be_numbers() -> None:
    assert labels_from_texts(["10", "9", "1.0"], "f", numeric=True).names == ("1", "9", "10")
    assert labels_from_texts(["10", "9", "x"], "f", numeric=True).names == ("10", "9", "x")
    with raises_one_line("label -1"):
        labels_from_texts(["0", "-1"], "f", numeric=True)


def test_published_data_has_its_number_of_classes() -> None:
    names, labels, *_ = match_labels([numbers(1, 2)], [numbers(0)], classes=3)
    assert names == ("0", "1", "2") and labels.tolist() == [1, 2]
    names, *_ = match_labels([listed("bee", "ape bee")], classes=2)
    assert names == ("ape", "bee")
    with raises_one_line("f names 2 classes, not 3", "right data set"):
        match_labels([listed("bee", "ape bee")], classes=3)
    with raises_one_line("labels of f are from 0 to 3", "from 0 to 2"):
        match_labels([numbers(0, 3)], classes=3)
