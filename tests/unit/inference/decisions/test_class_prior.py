"""Class priors: what is taken for one, what is refused, and Bayes' rule."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from data_files import raises_one_line
from hypothesis import given, settings
from hypothesis import strategies as st

from imbtune.errors import ConfigError
from imbtune.inference.decisions.class_prior import log_shift, prior_from

CLASSES = ("cat", "dog")


@pytest.mark.parametrize(
    "text",
    ["cat=30,dog=10", "cat=.75, dog=.25", "{cat: 3, dog: 1}", '{"cat": 0.75, "dog": 0.25}'],
)
def test_text(text: str) -> None:
    assert prior_from(text, CLASSES).tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.json", '{"dog": 1, "cat": 3}'),
        ("p.yaml", "cat: 3\ndog: 1\n"),
        ("p.YML", "cat: 0.75\ndog: 0.25\n"),
        ("p.csv", "class,count\ncat,3\ndog,1\n"),
        ("p.csv", "cat,3\r\ndog,1\r\n"),
        ("p.csv", "class;count\ncat;3\ndog;1\n"),
        ("p.csv", "cat\t3\ndog\t1\n"),
        ("p.csv", '\ufeff"cat",3\n\ndog,1'),
    ],
)
def test_files(name: str, content: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(content, encoding="utf-8")
    assert prior_from(path, CLASSES).tolist() == [0.75, 0.25]
    assert prior_from(str(path), CLASSES).tolist() == [0.75, 0.25]


@pytest.mark.parametrize(
    ("name", "content"),
    [("p.json", '{"dog": 1, "cat": 3}'), ("p.yaml", "cat: 3\ndog: 1\n"), ("p.csv", "cat,3\ndog,1")],
)
def test_files_in_utf16(name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content.encode("utf-16"))
    assert prior_from(tmp_path / name, CLASSES).tolist() == [0.75, 0.25]


def test_a_json_file_may_be_indented_by_tabs(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{\n\t"cat": 3,\n\t"dog": 1\n}')
    assert prior_from(tmp_path / "p.json", CLASSES).tolist() == [0.75, 0.25]


def test_mapping_and_balanced() -> None:
    assert prior_from({"dog": 0, "cat": 7}, CLASSES).tolist() == [1, 0]
    assert prior_from("balanced", CLASSES).tolist() == [0.5, 0.5]


def test_names_that_yaml_takes_for_something_else() -> None:
    """`no` is False for YAML, and 1 a number."""
    assert prior_from("{yes: 1, no: 3}", ["no", "yes"]).tolist() == [0.75, 0.25]
    assert prior_from("{0: 1, 1: 3}", ["0", "1"]).tolist() == [0.25, 0.75]
    assert prior_from("a=b=1,c=3", ["a=b", "c"]).tolist() == [0.25, 0.75]


def test_class_names_with_commas() -> None:
    classes = ["Krebs, Übergang", "gesund", "a, b, c"]
    for text in ("Krebs, Übergang=1,gesund=2,a, b, c=1", "a, b, c=1, gesund=2,  Krebs, Übergang=1"):
        assert prior_from(text, classes).tolist() == [0.25, 0.5, 0.25]
    for text in ("gesund=2,a, b", "Krebs, Übergang", "gesund=2,"):
        with raises_one_line("give a share or count", kind=ConfigError):
            prior_from(text, classes)
    with raises_one_line("unknown class in --prior 'Krebs, gesund'", kind=ConfigError):
        prior_from("Krebs, gesund=2, a, b, c=1", classes)


def test_another_spelling_of_a_class() -> None:
    classes = ["Übergang", "cat"]
    spelled = unicodedata.normalize("NFD", "Übergang")
    assert prior_from({spelled: 3, "Cat ": 1}, classes).tolist() == [0.75, 0.25]
    with raises_one_line("class 'CAT' is given twice", kind=ConfigError):
        prior_from({"Übergang": 3, "cat": 1, "CAT": 1}, classes)
    assert prior_from("a=1,A=3", ["a", "A"]).tolist() == [0.25, 0.75]  # letters
    with raises_one_line("unknown class in --prior 'B'", kind=ConfigError):
        prior_from("a=1,B=3", ["a", "b"])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("cat=1", "no number for 'dog'"),
        ("cat=1,dog=2,emu=3", "unknown class in --prior 'emu'"),
        ("cat=1,cat=2,dog=1", "class 'cat' is given twice"),
        ("cat=-1,dog=2", "class 'cat' has '-1'"),
        ("cat=nan,dog=2", "class 'cat' has 'nan'"),
        ("cat=inf,dog=2", "class 'cat' has 'inf'"),
        ("cat=x,dog=2", "class 'cat' has 'x'"),
        ("cat=0,dog=0", "add up to 0"),
        ("cat,dog", "give a share or count"),
        ("", "give a share or count"),
        ("0.5", "give a share or count"),
        ("{cat: 1, dog: }", "class 'dog' has None"),
        ("{cat: true, dog: 1}", "class 'cat' has True"),
        ("{cat: [1], dog: 1}", "class 'cat' has [1]"),
        ("{cat: 1, cat: 2, dog: 3}", "given twice"),
        ("nothere.json", "nothere.json"),
    ],
)
def test_what_is_refused(given: str, says: str) -> None:
    with raises_one_line(says, kind=ConfigError):
        prior_from(given, CLASSES)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("p.csv", "cat,3\ndog\n", "line 2 has 1 columns"),
        ("p.csv", "cat,3\ndog,x\n", "class 'dog' has 'x'"),
        ("p.csv", "cat,3\ncat,3\ndog,1\n", "given twice"),
        ("p.csv", "", "no number for 'cat', 'dog'"),
        ("p.json", "[1, 2]", "[1, 2]"),
        ("p.json", "{", "is not JSON"),
        ("p.json", '{"cat": 1, "cat": 2, "dog": 3}', "given twice"),
        ("p.yaml", "cat: {", "is not YAML"),
        ("p.npy", "", "unknown"),
    ],
)
def test_files_that_are_refused(name: str, content: str, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    if name.endswith(".npy"):
        says = "ends in .json"
    with raises_one_line(says, kind=ConfigError):
        prior_from(tmp_path / name, CLASSES)


@settings(max_examples=50)
@given(st.binary(max_size=60), st.sampled_from(["p.json", "p.csv", "p.yaml"]))
def test_any_file_is_a_prior_or_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str
) -> None:
    path = tmp_path_factory.mktemp("fuzz") / name
    path.write_bytes(content)
    with raises_one_line(kind=ConfigError):
        prior_from(path, CLASSES)


@given(
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    st.lists(st.floats(0.01, 1), min_size=3, max_size=3),
    st.lists(st.floats(-5, 5), min_size=3, max_size=3),
)
def test_the_shift_is_bayes_rule(old: list[float], new: list[float], z: list[float]) -> None:
    """Literally, from p(x | k) ∝ p(k | x) / π(k)."""
    fitted_K, wanted_K = np.array(old) / sum(old), np.array(new) / sum(new)
    p_K = np.exp(z) / np.exp(z).sum()
    expected = [p / a * b for p, a, b in zip(p_K, fitted_K, wanted_K, strict=True)]
    shifted = np.exp(np.array(z) + log_shift(wanted_K, fitted_K))
    np.testing.assert_allclose(shifted / shifted.sum(), np.array(expected) / sum(expected))


def test_a_class_that_does_not_occur() -> None:
    shift_K = log_shift(np.array([1.0, 0.0]), np.array([0.5, 0.5]))
    assert shift_K.tolist() == [np.log(2), -np.inf]
