"""One Ray actor that trains trial after trial. Its data and threads are kept between trials."""

from __future__ import annotations

from imbtune.runtime import fewer_collections, limit_thread_spinning

limit_thread_spinning()  # before torch is imported
with fewer_collections():
    from ray import tune

    from imbtune.data.splits import Splits
    from imbtune.tuning.messages import TrialSpec, TuneDict
    from imbtune.tuning.worker.gpu_memory import explain_out_of_memory
    from imbtune.tuning.worker.machine import this_machine
    from imbtune.tuning.worker.trial_runner import WorkerSettings, prepare


class TrialActor(tune.Trainable):
    """Ray Tune's trainable: each `step` trains to the next rung, or for a few seconds."""

    def setup(
        self,
        config: TuneDict,
        splits: Splits | None = None,
        worker_settings: WorkerSettings | None = None,
    ) -> None:
        """Put the data on the device, once per actor, and begin the first trial."""
        assert splits and worker_settings
        self._worker = worker_settings
        self._error: Exception | None = None
        try:
            self._machine = this_machine()
            has_gpu = self._machine.gpu is not None
            with explain_out_of_memory(worker_settings.gpus):
                self._data = prepare(splits, worker_settings, has_gpu)
            self.reset_config(config)
        except Exception as error:  # raised here, it would look like a worker that died
            self._error = error

    def reset_config(self, new_config: TuneDict) -> bool:
        """Begin another trial in the same process."""
        with explain_out_of_memory(self._worker.gpus):
            spec = TrialSpec.from_tune(new_config)
            self._runner = self._worker.runner(self._data, self._machine, spec)
        return True

    def step(self) -> TuneDict:
        """Train to the next report: the epochs since the last one, and a rung if one is reached."""
        if self._error:
            raise self._error
        with explain_out_of_memory(self._worker.gpus):
            return self._runner.step().to_tune(self._worker.eta)
