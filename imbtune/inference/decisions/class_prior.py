"""Another class mix than that which a model's probabilities imply.

Where the images of each class look the same in both places and only their shares differ (label
shift), Bayes' rule gives the new probabilities:

    p_new(k | x)  ∝  p(k | x) · π_new(k) / π(k)

so log(π_new / π) is added to the logits (Saerens et al. 2002, doi 10.1162/089976602753284446).

Shapes: N images, K classes.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from imbtune.config.yaml_files import MOST_BYTES, parse_value, read_yaml
from imbtune.data.csv_rows import csv_rows, delimiter_of
from imbtune.errors import ConfigError, DataError, shown, some_of, unknown
from imbtune.metrics.class_names import find_class
from imbtune.paths import local_path
from imbtune.storage.store import check_regular
from imbtune.text_encoding import decoded

Floats = NDArray[np.float64]

BALANCED = "balanced"
FORMATS = (".json", ".yaml", ".yml", ".csv")
HOW = (
    'give a share or count of each class, such as "cat=90,dog=10", balanced, or a JSON, YAML or '
    "CSV file"
)
NAMED = 5  # classes that a message names


def prior_from(given: str | Path | Mapping[str, float], classes: Sequence[str]) -> Floats:
    """The share of each class, (K,), which sum to 1.

    Args:
        given: counts or shares by class name: a mapping; a text `cat=90,dog=10` or
            `{cat: 90, dog: 10}`; the word `balanced` for equal shares; or a file: JSON or YAML with
            such a mapping, or CSV with a class and a number in each line (a header is passed over).
        classes: the names, in the order of the model's outputs. Each must be given.

    Raises:
        ConfigError: a class that there is not, one that is missing or given twice, or a number that
            is negative, not finite, or no number; or the file cannot be read.
    """
    name, values = _values(given, classes)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: {shown(values)}: {HOW}")
    by_name: dict[str, object] = {}
    for key, value in values.items():
        label = _label_of(key, classes)
        found = find_class(label, classes)
        if found is None:
            raise unknown(f"class in {name}", label, classes)
        if classes[found] in by_name:
            raise ConfigError(f"{name}: class '{label}' is given twice: give it once")
        by_name[classes[found]] = value
    if missing := [label for label in classes if label not in by_name]:
        named = some_of([f"'{label}'" for label in missing], NAMED)
        raise ConfigError(f"{name}: no number for {named}: give one for each class, also 0")
    counts_K = np.array([_number(name, label, by_name[label]) for label in classes])
    total = counts_K.sum()
    if not 0 < total < math.inf:
        raise ConfigError(f"{name}: the numbers add up to {total:g}: {HOW}")
    shares_K: Floats = counts_K / total
    return shares_K


def log_shift(prior_K: Floats, fitted_K: Floats) -> Floats:
    """What is added to the logits, (K,): log(π_new / π); −inf for a class that does not occur.

    Args:
        prior_K: the new share of each class.
        fitted_K: those that the probabilities imply; all above 0, as no class is without images.
    """
    with np.errstate(divide="ignore"):
        shift_K: Floats = np.log(prior_K) - np.log(fitted_K)
    return shift_K


def _values(given: str | Path | Mapping[str, float], classes: Sequence[str]) -> tuple[str, object]:
    """How the prior is called in messages, and what it says."""
    if isinstance(given, Mapping):
        return "--prior", given
    text = str(given)
    if text.strip() == BALANCED:
        return "--prior", dict.fromkeys(classes, 1)
    is_file = Path(text).suffix.lower() in FORMATS and "=" not in text and "{" not in text
    if isinstance(given, Path) or is_file:
        path = Path(local_path("--prior", given))
        suffix = path.suffix.lower()
        if suffix not in FORMATS:
            raise ConfigError(f"--prior {path}: give a file that ends in {', '.join(FORMATS)}")
        if suffix == ".json":
            return f"--prior {path}", _read_json(path)
        return f"--prior {path}", _read_csv(path) if suffix == ".csv" else read_yaml(path)
    if text.lstrip().startswith("{"):
        return "--prior", parse_value(text, "--prior")
    return "--prior", _pairs(text, classes)


def _label_of(key: object, classes: Sequence[str]) -> str:
    """The class that a key of YAML stands for: `no` is read as False, and `1` as a number."""
    if isinstance(key, str):
        return key
    same = [label for label in classes if _as_yaml(label) == (type(key), key)]
    return same[0] if len(same) == 1 else str(key)


def _as_yaml(label: str) -> tuple[type, object] | None:
    """Type and value that YAML reads; None where it reads nothing."""
    try:
        value = parse_value(label)
    except ConfigError:
        return None
    return type(value), value


def _pairs(text: str, classes: Sequence[str]) -> dict[str, str]:
    """`cat=90,dog=10` as a mapping. A name may have `=` in it; the number is after the last one.

    A name may have commas, too, if a class has: then what has no `=` belongs to the name after it.
    """
    found: dict[str, str] = {}
    begun, may_have_commas = "", any("," in name for name in classes)
    for part in text.split(","):
        pair = begun + part
        label, equals, value = pair.rpartition("=")
        if may_have_commas and not equals:
            begun = f"{pair},"
            continue
        begun = ""
        if not equals or not label.strip() or not value.strip():
            raise ConfigError(f"--prior {shown(text)}: {HOW}")
        if label.strip() in found:
            raise ConfigError(f"--prior: class '{label.strip()}' is given twice: give it once")
        found[label.strip()] = value.strip()
    if begun:
        raise ConfigError(f"--prior {shown(text)}: {HOW}")
    return found


def _read_json(path: Path) -> object:
    """The value in a JSON file; a class that is given twice is an error."""

    def pairs(items: list[tuple[str, object]]) -> dict[str, object]:
        found: dict[str, object] = {}
        for key, value in items:
            if key in found:
                raise ConfigError(f"--prior {path}: class '{key}' is given twice: give it once")
            found[key] = value
        return found

    try:
        value: object = json.loads(_text(path), object_pairs_hook=pairs)
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"--prior {path} is not JSON: {error}") from error
    return value


def _text(path: Path) -> str:
    """The text of a small file."""
    try:
        check_regular(path)
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        if len(content) > MOST_BYTES:
            raise ConfigError(f"--prior {path} is larger than {MOST_BYTES // 2**20} MiB")
        return decoded(content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"cannot read --prior {path} ({reason}): give another file") from error


def _read_csv(path: Path) -> dict[str, str]:
    """The class and the number in each line of a CSV file, with any usual delimiter."""
    text = _text(path)
    found: dict[str, str] = {}
    try:
        first = text.partition("\n")[0]  # a number may have a decimal comma
        delimiter = next((found for found in ("\t", ";") if found in first), delimiter_of(text))
        rows = list(csv_rows(path, text, delimiter))
    except DataError as error:
        raise ConfigError(f"--prior {error}") from error
    for number, (line, row) in enumerate(rows):
        if len(row) != 2:
            raise ConfigError(
                f"--prior {path}: line {line} has {len(row)} columns: give two, the class and its "
                "count or share"
            )
        label, value = row[0].strip(), row[1].strip()
        if number == 0 and not _is_number(value):  # the header
            continue
        if label in found:
            raise ConfigError(f"--prior {path}: class '{label}' is given twice: give it once")
        found[label] = value
    return found


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _number(name: str, label: str, value: object) -> float:
    """A count or share; ConfigError for anything else."""
    try:
        number = float(value) if isinstance(value, str | int | float | np.number) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if isinstance(value, bool) or not 0 <= number < math.inf:
        raise ConfigError(f"{name}: class '{label}' has {shown(value)}: {HOW}")
    return number
