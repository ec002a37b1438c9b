"""Whether files are those of a published data set, by their class names and number of images.

Files that a user gives for one may hold another with as many classes. Class names decide where the
files have them. CIFAR-10 and CINIC-10 have the same, so that the number of images decides; a part
of a data set may be given, and is noted.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from imbtune.data.readers.labels import Labels
from imbtune.data.readers.split_names import quoted
from imbtune.errors import DataError

NAMED = 4  # classes that a message names
SHARE_OTHER = 0.05  # of the class names may differ, since copies of CIFAR-100 have 'cra' for 'crab'
OTHER_NAMES = {"plane": "airplane", "aeroplane": "airplane", "car": "automobile"}


@dataclass(frozen=True)
class Benchmark:
    """What the files of a published data set have.

    Args:
        train: the number of training images.
        test: the number of test images.
        n_classes: the number of classes.
        size: height and width of its images in pixels.
        classes: the names of its classes; empty if they are not compared.
    """

    train: int
    test: int
    n_classes: int
    size: int
    classes: tuple[str, ...] = ()

    @property
    def counts(self) -> str:
        """The numbers of images, for messages."""
        return f"{self.train:,} + {self.test:,} images"


_OBJECTS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
_CLOTHES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag"),
    "Ankle boot",
)
_FINE = """
    apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus
    butterfly camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab
    crocodile cup dinosaur dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard
    lamp lawn_mower leopard lion lizard lobster man maple_tree motorcycle mountain mouse mushroom
    oak_tree orange orchid otter palm_tree pear pickup_truck pine_tree plain plate poppy porcupine
    possum rabbit raccoon ray road rocket rose sea seal shark shrew skunk skyscraper snail snake
    spider squirrel streetcar sunflower sweet_pepper table tank telephone television tiger tractor
    train trout tulip turtle wardrobe whale willow_tree wolf woman worm
"""
BENCHMARKS = {
    "cifar10": Benchmark(50_000, 10_000, 10, 32, _OBJECTS),
    "cifar100": Benchmark(50_000, 10_000, 100, 32, tuple(_FINE.split())),
    "cinic10": Benchmark(90_000, 90_000, 10, 32, _OBJECTS),
    "svhn": Benchmark(73_257, 26_032, 10, 32, tuple("0123456789")),
    "fashion_mnist": Benchmark(60_000, 10_000, 10, 28, _CLOTHES),
    "tiny_imagenet": Benchmark(100_000, 10_000, 200, 64),
}


def check_names(name: str, labels: tuple[Labels, ...], classes: tuple[str, ...]) -> None:
    """DataError if the class names in the files are not those of the data set.

    Args:
        name: the data set.
        labels: the labels of all files.
        classes: the class names; not compared if no file has more than numbers as labels.
    """
    expected = BENCHMARKS[name].classes
    if not expected or not any(part.listed or not part.numbers for part in labels):
        return
    missing = set(map(_plain, expected)) - set(map(_plain, classes))
    if len(missing) > SHARE_OTHER * len(expected):
        raise DataError(
            f"{labels[0].place} has the classes {quoted(classes, NAMED)}, and {name} has "
            f"{quoted(expected, NAMED)}: set --data to the files of {name}, or choose another "
            f"data set"
        )


def check_counts(name: str, train: int, test: int, place: Path | str) -> tuple[str, ...]:
    """A note if there are fewer images than the data set has.

    Args:
        name: the data set.
        train: the number of training images in the files.
        test: the number of test images in the files.
        place: where the files are, for messages.

    Raises:
        DataError: there are more, or as many as another data set with as many classes has.
    """
    expected = BENCHMARKS[name]
    if (train, test) == (expected.train, expected.test):
        return ()
    found = f"{place} has {train:,} + {test:,} images"
    alike = {
        key: other
        for key, other in BENCHMARKS.items()
        if (other.n_classes, other.size) == (expected.n_classes, expected.size)
    }
    like = [key for key, other in alike.items() if (other.train, other.test) == (train, test)]
    if like or train > expected.train or test > expected.test:
        has = f", as {like[0]} has" if like else ""
        raise DataError(
            f"{found}{has}, and {name} has {expected.counts} (training + test): set --data to the "
            f"files of {name}, or choose another data set"
        )
    return (f"{found}, a part of the {expected.counts} of {name} (training + test)",)


def _plain(name: str) -> str:
    """A class name without case, spaces and punctuation; synonyms as one."""
    plain = "".join(letter for letter in name.casefold() if letter.isalnum())
    return OTHER_NAMES.get(plain, plain)
