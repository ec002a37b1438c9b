"""`imbtune predict`, `evaluate`, `threshold` and `export`: a trained model in use."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_CEILING, Context
from pathlib import Path
from typing import Any

import typer
from rich.console import Console

from imbtune import strict_json
from imbtune.cli.model_use.evaluation_tables import number_of_images, print_evaluation
from imbtune.cli.model_use.threshold_lines import threshold_in_words, threshold_lines
from imbtune.cli.settings import make_console, print_text, with_trust
from imbtune.config.yaml_files import parse_value
from imbtune.errors import ConfigError, ImbtuneError, printable, some_of
from imbtune.inference import use_model, use_threshold
from imbtune.inference.predicting.predict_images import NAMED
from imbtune.paths import local_path
from imbtune.study.hints import program

SECONDS = 30  # between lines of progress


def predict_command(*, trust: bool, out: str | None, **options: object) -> None:
    """Predict images, write the table, and say how many could not be read.

    Exits with code 1 where none could be.
    """
    if out is None:
        raise ConfigError(
            "give --out FILE, a new .parquet or .csv file, such as --out predictions.parquet"
        )
    progress = _lines_of_progress()
    found = with_trust(
        lambda: use_model.predict(**options, out=out, trust=trust, progress=progress),  # type: ignore[arg-type]
        trust,
    )
    console = make_console()
    for note in found.notes:
        print_text(printable(note), console)
    predicted = found.count - found.failed
    named = some_of(map(printable, found.first_failures), NAMED, found.failed)
    if not predicted:
        count = number_of_images(found.count)
        line = ImbtuneError(f"of {count} none could be read: {named}; {found.path} has the errors")
        print(f"error: {line}", file=sys.stderr)
        raise typer.Exit(1)
    print_text(f"{number_of_images(predicted)} predicted: {found.path}", console)
    if found.failed:
        print_text(f"{number_of_images(found.failed)} could not be read: {named}", console)


def evaluate_command(
    *, trust: bool, out: str | None, metric: list[str] | None, **options: Any
) -> None:
    """Print every metric with its interval, and every class."""
    if any(not text.strip() for text in metric or ()):
        raise ConfigError("--metric '': it is empty: give a metric, or leave it out")
    metrics: Any = [parse_value(text, "--metric") for text in metric or ()]
    result = with_trust(
        lambda: use_model.evaluate(**options, metrics=metrics, out=out, trust=trust), trust
    )
    print_evaluation(result)
    if out is not None:
        print_text(f"Written to {out}", make_console())


def threshold_command(*, trust: bool, metric: str | None, remove: bool, **options: Any) -> None:
    """Choose a threshold, store it, and print it with its uncertainty; or remove the model's."""
    if remove:
        _remove_threshold(trust, metric, **options)
        return
    if metric is None:
        raise ConfigError(
            "give --metric, what the threshold is best for, such as --metric f_beta, or --remove"
        )
    setting: Any = parse_value(metric, "--metric")
    changed = with_trust(
        lambda: use_threshold.change_threshold(metric=setting, **options, trust=trust), trust
    )
    console = make_console()
    for line in threshold_lines(changed):
        print_text(printable(line), console)
    if changed.is_stored:
        print_text("Stored: predict, evaluate and export use it from now on", console)
        _print_outdated(changed.outdated, options, console)
        return
    found, before, kept = changed.chosen, changed.before, ""
    if before is not None:
        words = threshold_in_words(before, found.positive)
        remove_it = _command("threshold", options, "--remove")
        kept = f"; the threshold {words} stays: {remove_it} removes it"
    line = (
        f"Not stored, since it gains nothing: {found.as_good} is expected to be as good on other "
        f"images, or better{kept}"
    )
    print_text(printable(line), console)


def _remove_threshold(trust: bool, metric: str | None, **options: Any) -> None:
    model, seed = options["model"], options["seed"]
    others = {name: value for name, value in options.items() if name not in ("model", "seed")}
    given = [f"--{name.replace('_', '-')}" for name, value in others.items() if value]
    given += ["--metric"] * (metric is not None)
    if given:
        raise ConfigError(f"--remove only removes the threshold: leave {', '.join(given)} out")
    outdated = with_trust(
        lambda: use_threshold.remove_threshold(model, seed=seed, trust=trust), trust
    )
    console = make_console()
    of_seed = "" if seed is None else f", seed {seed},"
    print_text(
        f"The threshold of {model}{of_seed} is removed: the more probable class is predicted",
        console,
    )
    _print_outdated(outdated, options, console)


def _print_outdated(outdated: Sequence[Path], options: Mapping[str, Any], console: Console) -> None:
    for path in outdated:
        export = _command("export", options, "--out", str(path))
        print_text(
            f"{path} is out of date, since it has another threshold: delete it, and make it again "
            f"with {export}",
            console,
        )


def _command(verb: str, options: Mapping[str, Any], *more: str) -> str:
    """Another command for the same model, quoted for a shell."""
    seed = options["seed"]
    of_seed = [] if seed is None else ["--seed", str(seed)]
    return shlex.join([program(), verb, str(options["model"]), *of_seed, *more])


def export_command(
    *,
    trust: bool,
    out: str | None,
    model: str,
    seed: int | None,
    ensemble: bool,
    **options: object,
) -> None:
    """Write an ONNX file, and say what was compared and what it leaves out."""
    path = out or ""
    if out is None:
        name = "ensemble.onnx" if ensemble else "model.onnx"
        name = name if seed is None else f"model-seed{seed}.onnx"
        place = Path(local_path("the model", model))
        path = str((place.parent if place.is_file() else place) / name)
    found = with_trust(
        lambda: use_model.export(
            model,
            path,
            seed=seed,
            ensemble=ensemble,
            trust=trust,
            **options,  # type: ignore[arg-type]
        ),
        trust,
    )
    console = make_console()
    print_text(f"{found.path}: {found.size / 1e6:.3g} MB, one file", console)
    print_text(
        f"Compared with the model in onnxruntime on {found.checked_on}: the same classes, "
        f"{difference_in_words(found.difference)}",
        console,
    )
    print_text(f"Input 'images': {found.metadata['input']}", console)
    print_text("Outputs: 'probabilities' (N, classes), 'label' (N), the index of a class", console)
    if threshold := strict_json.loads(found.metadata["threshold"]):
        positive, probability = printable(threshold["positive"]), threshold["probability"]
        print_text(
            f"'label' is '{positive}' from a probability of {probability:.4g} on: the threshold of "
            "the model; export it again after choosing another",
            console,
        )
    for note in found.notes:
        print_text(f"'label' is the more probable class: {note}", console)
    print_text(f"Resizing: {found.metadata['resize']}", console)
    for other in found.outdated:
        print_text(f"{other} is out of date, since it has another threshold: delete it", console)


def difference_in_words(difference: float) -> str:
    """The largest difference of a probability, rounded up to one digit."""
    if not difference:
        return "and the same probabilities"
    most = Context(prec=1, rounding=ROUND_CEILING).create_decimal(difference)
    return f"probabilities differ by at most {float(most):g}"


def _lines_of_progress() -> Callable[[int, int | None], None]:
    """Prints, every 30 seconds, how many images are predicted."""
    started = last = time.monotonic()

    def progress(count: int, total: int | None) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last < SECONDS:
            return
        last = now
        of = "" if total is None else f" of {total:,}"
        print(
            f"{number_of_images(count)}{of}, {count / (now - started):.0f}/s",
            file=sys.stderr,
            flush=True,
        )

    return progress
