"""torch's compiler, left out until somebody asks for it.

`torch.optim` imports `torch._dynamo` with the first optimiser, and asks it for two things that do
nothing where nothing is compiled. That import brings SymPy, Triton and the distributed tensors:
more than a second of CPU time before a trial's first step, and 160 MB in every process that trains.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

COMPILER = "torch._dynamo"


def defer_compiler() -> None:
    """Let `torch._dynamo` load when it is first used for anything else than by `torch.optim`."""
    if COMPILER not in sys.modules:
        sys.modules[COMPILER] = _Deferred(COMPILER)


class _Deferred(ModuleType):
    """Stands in for the module; whatever it does not have loads the real one."""

    def graph_break(self) -> None:
        """Nothing, outside of a compiled function."""

    def disable(self, *args: Any, wrapping: bool = True, **options: Any) -> Any:
        """The function itself, for torch's own `_disable_dynamo`, which alone asks for no wrapping;
        what is compiled later may trace into it."""
        if wrapping:
            return self._real().disable(*args, **options)
        function: Callable[..., Any] = args[0]
        return function

    def __getattr__(self, name: str) -> Any:
        # `inspect.getmodule` asks every module for its `__file__`, and pydantic asks that; only who
        # imports a submodule asks for `__path__`
        if name.startswith("__") and name != "__path__":
            raise AttributeError(name)
        return getattr(self._real(), name)

    def _real(self) -> ModuleType:
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return importlib.import_module(COMPILER)
