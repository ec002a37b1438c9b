"""A searched knob: its range or its choices, and how Optuna suggests a value of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from imbtune.errors import ConfigError
from imbtune.registry import Value


class Suggests(Protocol):
    """The methods of an Optuna trial that a space calls."""

    def suggest_categorical(self, name: str, choices: Any) -> Any: ...
    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float: ...
    def suggest_int(self, name: str, low: int, high: int, *, log: bool = False) -> int: ...


@dataclass(frozen=True)
class SearchedKnob:
    """A searched knob: a list of choices, or a range.

    Attributes:
        key: such as `mix.omega`, a slot (`mix`), or a setting without a slot (`batch_size`).
        type: of its values.
        low, high: the ends of a range, both included.
        scale: `linear`, `log`, or `complement`: logarithmic in 1 - x.
        choices: empty for a range.
    """

    key: str
    type: type
    low: float = 0.0
    high: float = 0.0
    scale: str = "linear"
    choices: tuple[Value, ...] = ()

    @property
    def slot(self) -> str:
        """The slot that the knob belongs to, or the setting without a slot itself."""
        return self.key.partition(".")[0]

    @property
    def optuna_name(self) -> str:
        """The name of its Optuna parameter, which is 1 - x on the complement scale."""
        return f"1-{self.key}" if self.scale == "complement" else self.key

    def suggest(self, trial: Suggests) -> Value:
        """Let an Optuna trial choose a value."""
        name, log = self.optuna_name, self.scale == "log"
        if self.choices:
            return trial.suggest_categorical(name, self.choices)  # type: ignore[no-any-return]
        if self.type is int:
            return trial.suggest_int(name, int(self.low), int(self.high), log=log)
        if self.scale == "complement":
            return 1 - trial.suggest_float(name, 1 - self.high, 1 - self.low, log=True)
        return trial.suggest_float(name, self.low, self.high, log=log)

    def contains(self, value: Value) -> bool:
        """Whether the knob can have this value."""
        return value in self.choices if self.choices else self.low <= float(value) <= self.high

    def to_optuna(self, value: Value) -> Value:
        """The value of the Optuna parameter for a value of the knob.

        Raises:
            ConfigError: the value is outside the range.
        """
        if not self.contains(value):
            raise ConfigError(f"{self.key}={value} is not in the space's range: {self.describe()}")
        return 1 - float(value) if self.scale == "complement" else value

    def describe(self) -> str:
        """The range in words."""
        if self.choices:
            return " | ".join(map(str, self.choices))
        scale = {"linear": "", "log": ", log", "complement": ", log in 1-x"}[self.scale]
        return f"{self.low:g} to {self.high:g}{scale}"
