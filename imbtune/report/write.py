"""Writes the report and its figures, and replaces nothing but earlier ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from imbtune.errors import ConfigError, StudyError
from imbtune.paths import is_uri, local_path
from imbtune.report.figures import Image, images
from imbtune.report.frames.calibration_frame import CalibrationData
from imbtune.report.frames.comparison_frames import ComparisonData
from imbtune.report.pages.calibration_page import FIGURES as OF_CALIBRATION
from imbtune.report.pages.calibration_page import CalibrationPlots, calibration_page
from imbtune.report.pages.comparison_page import FIGURES as OF_COMPARISON
from imbtune.report.pages.comparison_page import ComparisonPlots, comparison_page
from imbtune.report.pages.rendering import MARK
from imbtune.report.pages.studies_page import studies_page
from imbtune.report.pages.study_page import study_page
from imbtune.report.plots import StudyPlots
from imbtune.report.sections import EVERY
from imbtune.report.study_data import StudyData
from imbtune.report.wording import texts_of
from imbtune.storage import Store
from imbtune.storage.retry import reason_of

NAME = "report.html"
CAPTIONS = "captions.md"  # in a folder of figures: what each shows


Reported = StudyData | ComparisonData | CalibrationData


def write_report(studies: Sequence[Reported], path: str | None) -> str:
    """Write the report of a study, or of several searches side by side.

    Args:
        path: of the file; None for `report.html` in the study's folder, and in the current folder
            for several studies or one in a bucket.

    Returns:
        The path.

    Raises:
        ConfigError: the path is no file of this machine.
        StudyError: there is another file, it cannot be written, two studies are one, or one of
            several is no search.
    """
    target = out_path(studies, path)
    check_replaceable(target)
    page = page_of(studies[0]) if len(studies) == 1 else studies_page(_searches(studies))
    folder = Store(str(target.parent), seconds=0)  # the user can repeat it
    folder.create()
    folder.write(target.name, page.encode())
    return str(target)


def page_of(study: Reported, live: str | None = None) -> str:
    """The report of a search, a comparison or a calibration, as HTML.

    Args:
        live: as for :func:`imbtune.report.pages.rendering.rendered`.
    """
    if isinstance(study, ComparisonData):
        return comparison_page(study, live)
    if isinstance(study, CalibrationData):
        return calibration_page(study, live)
    return study_page(study, live)


def _searches(studies: Sequence[Reported]) -> list[StudyData]:
    for study in studies:
        if not isinstance(study, StudyData):
            raise StudyError(
                f"{study.path} is a {study.info['purpose']}, which has a report of its own: give "
                "it alone"
            )
    return [study for study in studies if isinstance(study, StudyData)]


def _figures(study: Reported) -> Iterator[Image]:
    if isinstance(study, ComparisonData):
        return images(ComparisonPlots(study), OF_COMPARISON)
    if isinstance(study, CalibrationData):
        return images(CalibrationPlots(study), OF_CALIBRATION)
    return images(StudyPlots(study), texts_of(study, EVERY))


def out_path(studies: Sequence[Reported], path: str | None) -> Path:
    """Where the report goes."""
    if path is not None:
        target = Path(local_path("--out", path))
        with naming("--out", path):
            is_folder = target.is_dir()
        if is_folder:
            raise ConfigError(f"--out {path} is a folder: give a file, such as {target / NAME}")
        return target
    alone = len(studies) == 1 and not is_uri(studies[0].path)
    return Path(studies[0].path, NAME) if alone else Path(NAME)


def check_replaceable(target: Path) -> None:
    """Raise StudyError if a file is there that is no report, or that cannot be read."""
    with naming("--out", str(target)):
        if not target.exists():
            return
        if not target.is_file():
            raise StudyError(f"{target} is no file: give another --out")
        with target.open("rb") as file:
            if MARK.encode() not in file.read(200):
                raise StudyError(f"{target} exists and is no report: give another --out")


@contextmanager
def naming(option: str, path: str) -> Iterator[None]:
    """Raise StudyError, with the option, where the system refuses its path."""
    try:
        yield
    except OSError as error:
        raise StudyError(
            f"{option} {path} cannot be used ({reason_of(error)}): give another one"
        ) from error


def write_figures(study: Reported, folder: str) -> list[str]:
    """Write every figure as PNG and SVG, and `captions.md`, which says how to read each.

    Args:
        folder: a new or empty one, or one with the figures of an earlier call.

    Returns:
        The names of the files.

    Raises:
        ConfigError: it is no folder of this machine.
        StudyError: there are other files in it, or it cannot be written to.
    """
    store = figure_folder(folder)
    store.create()
    lines = [f"{MARK}\n\n# Figures of {study.name}\n"]
    store.write(CAPTIONS, lines[0].encode())  # first: a folder with this file may be written again
    written = []
    for image in _figures(study):
        lines.append(f"**{image.text.title}** (`{image.text.name}`). {image.text.reading}\n")
        if image.missing:
            lines[-1] = (
                f"**{image.text.title}** (`{image.text.name}`): no figure, {image.missing}.\n"
            )
        if image.png is not None:
            written.append(f"{image.text.name}.png")
            store.write(written[-1], image.png)
        if image.svg is not None:
            written.append(f"{image.text.name}.svg")
            store.write(written[-1], image.svg.encode())
    store.write(CAPTIONS, "\n".join(lines).encode())
    return [*written, CAPTIONS]


def figure_folder(folder: str) -> Store:
    """The folder that figures may be written to, which may not exist yet.

    Raises:
        ConfigError, StudyError: as `write_figures`.
    """
    store = Store(local_path("--png", folder), seconds=0)  # the user can repeat it
    path = store.local
    assert path
    with naming("--png", folder):
        if path.exists() and not path.is_dir():
            raise StudyError(f"--png {path} is no folder: give another one")
        if store.is_empty():
            return store
        captions = path / CAPTIONS
        if not captions.is_file() or MARK not in captions.read_text("utf-8", "replace")[:200]:
            raise StudyError(f"--png {path} has other files: give a new folder")
    return store
