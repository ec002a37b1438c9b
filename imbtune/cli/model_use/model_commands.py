"""`imbtune predict`, `evaluate`, `threshold` and `export`: a trained model in use."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path

from imbtune import strict_json
from imbtune.cli.model_use.evaluation_tables import number_of_images, print_evaluation
from imbtune.cli.settings import make_console, print_text, with_trust
from imbtune.config.yaml_files import parse_value
from imbtune.errors import printable
from imbtune.inference import use_model
from imbtune.metrics.from_confusion import costs_in_words
from imbtune.paths import local_path

SECONDS = 30  # between lines of progress


def predict_command(*, trust: bool, **options: object) -> None:
    """Predict images, write the table, and say how many could not be read."""
    progress = _lines_of_progress()
    found = with_trust(
        lambda: use_model.predict(**options, trust=trust, progress=progress),  # type: ignore[arg-type]
        trust,
    )
    console = make_console()
    for note in found.notes:
        print_text(printable(note), console)
    predicted = number_of_images(found.count - found.failed)
    print_text(f"{predicted} predicted: {found.path}", console)
    if found.failed:
        more = ", …" if found.failed > len(found.first_failures) else ""
        named = "; ".join(map(printable, found.first_failures))
        print_text(f"{number_of_images(found.failed)} could not be read: {named}{more}", console)


def evaluate_command(*, trust: bool, out: str | None, **options: object) -> None:
    """Print every metric with its interval, and every class."""
    result = with_trust(
        lambda: use_model.evaluate(**options, out=out, trust=trust),  # type: ignore[arg-type]
        trust,
    )
    print_evaluation(result)
    if out is not None:
        print_text(f"Written to {out}", make_console())


def threshold_command(*, trust: bool, metric: str, **options: object) -> None:
    """Choose a threshold, store it, and print it with its uncertainty."""
    setting = parse_value(metric, "--metric")
    found = with_trust(
        lambda: use_model.choose_threshold(metric=setting, **options, trust=trust),  # type: ignore[arg-type]
        trust,
    )
    low, high = found.probability_interval
    console = make_console()
    name = found.metric if isinstance(found.metric, str) else found.metric["name"]
    if not isinstance(found.metric, str) and "costs" in found.metric:
        costs = costs_in_words(str(found.metric["costs"]), list(found.counts))
        print_text(printable(f"Costs: {costs}"), console)
    print_text(
        f"Threshold: class '{printable(found.positive)}' from a probability of "
        f"{found.probability:.4g} on [{low:.4g}, {high:.4g}]",
        console,
    )
    print_text(
        f"{name} expected on other images: {found.corrected:.4f} [{found.interval[0]:.4f}, "
        f"{found.interval[1]:.4f}]; on the images that it was chosen on {found.value:.4f}, where "
        f"predicting the more probable class has {found.argmax_value:.4f}",
        console,
    )
    counts = ", ".join(f"{count:,} of '{name}'" for name, count in found.counts.items())
    print_text(printable(f"Chosen on {found.chosen_on}: {counts}"), console)
    print_text("predict, evaluate and export use it from now on", console)


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
        f"probabilities differ by at most {found.difference:.1g}",
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
    print_text(f"Resizing: {found.metadata['resize']}", console)
    if "random pixels" in found.checked_on:
        print_text("For a comparison on real images give --data", console)


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
