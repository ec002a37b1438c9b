"""torch's compiler is left out of a training, and there for whoever compiles."""

from __future__ import annotations

import subprocess
import sys

import pytest

TRAIN = """
import inspect
import sys
import torch
from imbtune.config import TrainConfig

def trained():
    torch.manual_seed(0)
    weights = torch.nn.Parameter(torch.randn(3, 2))
    optimizer = TrainConfig.from_settings({}).optimizer.make([weights])
    for _ in range(3):
        optimizer.zero_grad()
        weights.square().sum().backward()
        optimizer.step()
    return weights.detach().clone()

"""

# Left out first, also by what looks through all modules, as pydantic does in Ray Tune; then asked
# for, by what compiles and by what shall not be compiled
ASKED = """
without = trained()
inspect.getmodule(sys._getframe())
assert not {"sympy", "torch._dynamo.utils"} & set(sys.modules)
kept = torch.compiler.disable(lambda x: x + torch.compiler.is_compiling())
compiled = torch.compile(lambda x: kept(x) * 2 + 1, backend="eager")
assert compiled(torch.ones(2)).tolist() == [3, 3]
assert "sympy" in sys.modules
assert torch.equal(without, trained())
"""

THERE_BEFORE = """
import torch._dynamo as before
from imbtune.methods.eager import defer_compiler
defer_compiler()
assert sys.modules["torch._dynamo"] is before and before.__path__
"""

# Each part is made once, whichever is asked for first
PART = """
import torch
from imbtune.methods.eager import defer_compiler
defer_compiler()
before = len(sys.meta_path)
import torch._dynamo.{part} as part
whole = sys.modules["torch._dynamo"]
assert part is whole.{part} is sys.modules["torch._dynamo.{part}"]
assert part.__spec__.origin and part.__spec__.loader is not None
from torch._dynamo.eval_frame import OptimizedModule
assert OptimizedModule is torch._dynamo.OptimizedModule
assert isinstance(torch.compile(torch.nn.ReLU(), backend="eager"), OptimizedModule)
assert len(sys.meta_path) == before - 1
try:
    import torch._dynamo.nothing
except ModuleNotFoundError as error:
    assert error.name == "torch._dynamo.nothing"
else:
    raise AssertionError
"""


def holds(code: str) -> bool:
    """Whether it runs in a process of its own, since what is imported stays so."""
    return subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_the_compiler_is_left_out_until_it_is_asked_for() -> None:
    assert holds(TRAIN + ASKED)


def test_a_compiler_that_is_there_stays() -> None:
    assert holds("import sys\n" + THERE_BEFORE)


@pytest.mark.parametrize("part", ["eval_frame", "config", "testing"])
def test_no_part_of_the_compiler_is_there_twice(part: str) -> None:
    assert holds("import sys\n" + PART.format(part=part))
