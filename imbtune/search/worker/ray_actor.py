"""One Ray actor that trains trial after trial. Its data and threads outlive a trial."""

from __future__ import annotations

from typing import Any

from imbtune.runtime import fewer_collections

with fewer_collections():
    import ray
    from ray import tune

    from imbtune.data.splits import Splits
    from imbtune.search.worker.gpu_memory import explained
    from imbtune.search.worker.trial_runner import TrialRunner, WorkerSettings, prepare


class TrialActor(tune.Trainable):
    """Ray's view of a trial: each `step` trains to the next rung, or for a few seconds."""

    def setup(
        self,
        config: dict[str, Any],
        splits: Splits | None = None,
        worker_settings: WorkerSettings | None = None,
    ) -> None:
        """Put the data on the device, once an actor, and begin the first trial."""
        assert splits and worker_settings
        context = ray.get_runtime_context()
        # a trial without a share of a GPU stays off it: Ray does not hide the GPUs from it
        has_gpu = bool(context.get_accelerator_ids()["GPU"])
        self._course, self._node = worker_settings, context.get_node_id()
        with explained(worker_settings.gpus):
            self._data = prepare(splits, worker_settings, has_gpu)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process."""
        with explained(self._course.gpus):
            self._climber = TrialRunner(self._course, self._data, self._node, new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train on; the epochs since the last report, and the rung where one was reached."""
        with explained(self._course.gpus):
            return self._climber.step()
