"""Finds studies by their study.yaml: those of a folder, or the one that may be meant."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from imbtune.errors import StudyError
from imbtune.storage import Store, join
from imbtune.storage.store import AT_A_TIME

MOST_LOOKED, MOST_NAMED = 100, 5  # folders in which studies are looked for, and named


def studies_in(place: str, may_be_empty: bool = False) -> list[str]:
    """The studies at a place: itself, if it is one, or else those in it.

    Args:
        place: a folder or a URI.
        may_be_empty: whether there may be none.

    Raises:
        StudyError: there is none, or the place cannot be reached.
    """
    store = Store(place)
    try:
        if store.exists("study.yaml"):
            return [place]
        inside = [join(place, name) for name in store.names("")]
        with ThreadPoolExecutor(AT_A_TIME) as threads:
            are = list(threads.map(lambda path: Store(path).exists("study.yaml"), inside))
    except OSError as error:
        raise StudyError(f"cannot reach {place}: {error}") from error
    if not any(are) and not may_be_empty:
        raise StudyError(
            f"{place} is not a study, and has none in it: give a study's folder, or a folder of "
            "studies"
        )
    return [path for path, is_study in zip(inside, are, strict=True) if is_study]


def not_a_study(store: Store) -> str:
    """What is wrong with a folder without study.yaml, and which one may be meant."""
    wrong = f"{store.path} is not a study, it has no study.yaml"
    try:
        if store.exists("metrics.json") or store.exists("results.json"):  # of earlier versions
            return f"{wrong}, but a trained model: give the study's folder"
        inside = [n for n in store.names("")[:MOST_LOOKED] if store.exists(f"{n}/study.yaml")]
    except (OSError, StudyError):
        inside = []
    if inside:
        more = ", …" if len(inside) > MOST_NAMED else ""
        return f"{wrong}: give one of its studies, {', '.join(inside[:MOST_NAMED])}{more}"
    return f"{wrong}: give a study's folder"
