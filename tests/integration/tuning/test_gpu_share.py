"""`--gpus-per-trial auto`, measured: in threads, and in processes that Ray starts."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import ray
from scripted import tiny_space
from short_runs import CPU, make_config
from small_data import make_splits

from imbtune.study.request import AUTO, SearchRequest
from imbtune.training.cost.shared_device import measure_shared_device
from imbtune.tuning.forecast.gpu_share import settle_share

SPLITS = make_splits([60, 20, 6, 1])


def test_trials_in_one_process_are_measured() -> None:
    """On a CPU too: every count, a rate of image passes, and no memory of a device."""
    configs = [make_config(), make_config(optimizer="imbsam", generate="deepsmote")]
    measured = measure_shared_device(configs, SPLITS, CPU, [1, 2], 1, pack=True)
    assert [(one.trials, one.memory) for one in measured] == [(1, 0), (2, 0)]
    assert all(math.isfinite(one.rate) and one.rate > 0 for one in measured)


@pytest.fixture
def a_gpu_on_paper() -> Iterator[None]:
    """Ray here, which counts a GPU; PyTorch finds none, so a CPU is measured in its place."""
    ray.init(address="local", num_cpus=2, num_gpus=1, include_dashboard=False, log_to_driver=False)
    try:
        yield
    finally:
        ray.shutdown()


@pytest.mark.slow
@pytest.mark.usefixtures("a_gpu_on_paper")
def test_a_search_measures_processes_and_takes_the_share() -> None:
    said: list[str] = []
    asked = SearchRequest(tiny_space(), 9, "n", gpus_per_trial=AUTO)
    settled = settle_share(asked, SPLITS, said.append)
    assert settled.gpus_per_trial in (0.5, 1.0)
    assert said[0] == "--gpus-per-trial auto: measuring 1 / 2 trials at a time on a GPU …"
    assert said[1].startswith("--gpus-per-trial auto: 1 / 2 trials on a GPU train ")
    chosen = f" images per second; chosen: --gpus-per-trial {settled.gpus_per_trial:g}\n"
    assert said[1].endswith(chosen)
    assert settle_share(settled, SPLITS, said.append) is settled
    assert len(said) == 2
