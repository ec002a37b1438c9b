"""torch's compiler, left out until somebody asks for it.

`torch.optim` imports `torch._dynamo` with the first optimiser, and asks it for two things that do
nothing where nothing is compiled. That import brings SymPy, Triton and the distributed tensors:
more than a second of CPU time before a trial's first step, and 160 MB in every process that trains.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

COMPILER = "torch._dynamo"


def defer_compiler() -> None:
    """Let `torch._dynamo` load when it is first used for anything else than by `torch.optim`."""
    if COMPILER not in sys.modules:
        deferred = _Deferred(COMPILER)
        sys.modules[COMPILER] = deferred
        sys.meta_path.insert(0, _Submodules(deferred))


class _Deferred(ModuleType):
    """Stands in for the module; whatever it does not have loads the real one."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = [str(Path(path) / "_dynamo") for path in torch.__path__]

    def graph_break(self) -> None:
        """Nothing, outside of a compiled function."""

    def disable(self, *args: Any, wrapping: bool = True, **options: Any) -> Any:
        """The function itself, for torch's own `_disable_dynamo`, which alone asks for no wrapping;
        what is compiled later may trace into it."""
        if wrapping:
            return self.load().disable(*args, **options)
        function: Callable[..., Any] = args[0]
        return function

    def __getattr__(self, name: str) -> Any:
        # `inspect.getmodule` asks every module for its `__file__`, and pydantic asks that
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.load(), name)

    def load(self) -> ModuleType:
        """The real module, in the place of this one."""
        if sys.modules.get(COMPILER) is self:
            del sys.modules[COMPILER]
        return importlib.import_module(COMPILER)


class _Submodules(MetaPathFinder):
    """Loads the real module before any part of it is imported.

    It imports most of its parts itself, and Python would go on to make those a second time.
    """

    def __init__(self, deferred: _Deferred) -> None:
        self._deferred = deferred

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if not fullname.startswith(COMPILER + "."):
            return None
        sys.meta_path.remove(self)
        self._deferred.load()
        # out of `sys.modules` meanwhile, or Python takes its own spec, and runs it anew
        there = sys.modules.pop(fullname, None)
        return ModuleSpec(fullname, _There(there)) if there else None


class _There(Loader):
    """Gives a module that has been imported, as it is."""

    def __init__(self, module: ModuleType) -> None:
        self._module, self._spec = module, module.__spec__

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return self._module

    def exec_module(self, module: ModuleType) -> None:
        with suppress(AttributeError):  # of torch's modules of settings, which let nobody set it
            module.__spec__ = self._spec
