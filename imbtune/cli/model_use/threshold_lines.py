"""What `imbtune threshold` prints of a threshold that it chose."""

from __future__ import annotations

from imbtune.inference.decisions.threshold import Threshold
from imbtune.inference.use_threshold import ThresholdChange
from imbtune.metrics.metric import metric_from
from imbtune.metrics.number_text import as_text


def threshold_lines(change: ThresholdChange) -> list[str]:
    """The threshold, what is expected of it, and the images that it was chosen on."""
    found = change.chosen
    costs = metric_from(found.metric).costs
    warnings = [] if found.condition is None else found.condition.warnings
    counts = ", ".join(f"{count:,} of '{name}'" for name, count in found.counts.items())
    low, high = found.probability_interval
    return [
        *change.notes,
        *([f"Costs: {costs.in_words(list(found.counts))}"] if costs else []),
        f"Threshold: an image is predicted as '{found.positive}' if its probability is at least "
        f"{found.probability:.4g} (95 % interval {low:.4g} to {high:.4g}). Until now: "
        f"{threshold_in_words(change.before, found.positive)}",
        f"{_expected(found)}; on the images that it was chosen on {_there(found)}",
        *(f"Warning: {warning}" for warning in warnings),
        f"Chosen on {found.chosen_on}: {counts}",
    ]


def threshold_in_words(threshold: Threshold | None, positive: str) -> str:
    """A threshold in a few words, as a probability of a class.

    Args:
        threshold: None for the more probable class.
        positive: the class, of two.
    """
    if threshold is None:
        return "0.5 (the more probable class)"
    name = metric_from(threshold.metric).name
    if threshold.positive == positive:
        return f"{threshold.probability:.4g} (chosen for {name})"
    return (
        f"{1 - threshold.probability:.4g}, that is '{threshold.positive}' from "
        f"{threshold.probability:.4g} on (chosen for {name} of '{threshold.positive}')"
    )


def _expected(found: Threshold) -> str:
    """The metric on other images, and the precision or recall that it asks for."""
    title = metric_from(found.metric).title(found.class_counts)
    expected = _with_interval(found.corrected, found.interval)
    if (asked := found.condition) is None:
        return f"{title} expected on other images: {expected}"
    return (
        f"{title}. Expected on other images of a threshold that is chosen in this way: "
        f"{found.quantity} {expected}, {asked.name} "
        f"{_with_interval(asked.expected, asked.interval)}, at least {asked.wanted:g} in "
        f"{asked.reached:.0%} of the resamples"
    )


def _there(found: Threshold) -> str:
    """The same on the images of the choice, beside what needs no threshold."""
    value = as_text(found.value)
    if (asked := found.condition) is not None:
        value = f"{found.quantity} {value} and {asked.name} {as_text(asked.value)}"
    default = "does not reach it"
    if found.argmax_value is not None:
        default = f"has {as_text(found.argmax_value)}"
    if found.constant is not None:
        name, of_constant = found.constant
        default += f", and predicting '{name}' for every image {as_text(of_constant)}"
    return f"{value}, where predicting the more probable class {default}"


def _with_interval(value: float, interval: tuple[float, float]) -> str:
    return f"{as_text(value)} [{', '.join(map(as_text, interval))}]"
