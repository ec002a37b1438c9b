"""One Ray actor that trains trial after trial. Its data and threads outlive a trial."""

from __future__ import annotations

from typing import Any

from imbtune.garbage import collected_seldom

with collected_seldom():
    import ray
    from ray import tune

    from imbtune.data.splits import Splits
    from imbtune.search.climber import Climber, Course, prepare
    from imbtune.search.cluster import node_of
    from imbtune.search.gpu_share import explained


class TrialActor(tune.Trainable):
    """Ray's view of a trial: each `step` trains to the next rung, or for a few seconds."""

    def setup(
        self, config: dict[str, Any], splits: Splits | None = None, course: Course | None = None
    ) -> None:
        """Put the data on the device, once an actor, and begin the first trial."""
        assert splits and course
        context = ray.get_runtime_context()
        # a trial without a share of a GPU stays off it: Ray does not hide the GPUs from it
        has_gpu = bool(context.get_accelerator_ids()["GPU"])
        self._course, self._node = course, context.get_node_id()
        with explained(course.gpus):
            self._data = prepare(splits, course, has_gpu, cpus=node_of(self._node).cpus)
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin another trial in the same process."""
        with explained(self._course.gpus):
            self._climber = Climber(self._course, self._data, self._node, new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train on; the epochs since the last report, and the rung where one was reached."""
        with explained(self._course.gpus):
            return self._climber.step()
