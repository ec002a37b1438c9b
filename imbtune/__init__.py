"""imbtune: distributed hyperparameter search for deep imbalanced classification.

    import imbtune

    study = imbtune.search("digits-lt", trials=30)
    result = imbtune.train(study.winner, seeds=5)
    model = imbtune.load_model(result.path)

The names are imported when they are first used (PEP 562), so `import imbtune` takes milliseconds
and imports neither torch nor Ray. docs/python.md describes them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    from imbtune.api import (
        calibrate,
        compare,
        load_study,
        plan,
        registries,
        resume,
        search,
        space,
        train,
    )
    from imbtune.comparison.result import ComparisonResult
    from imbtune.config.train_config import TrainConfig
    from imbtune.errors import (
        ClusterError,
        ConfigError,
        DataError,
        DivergenceError,
        ImbtuneError,
        StudyError,
    )
    from imbtune.final_training.final_run import FinalRun
    from imbtune.final_training.retrain import TrainResult
    from imbtune.inference.decisions.threshold import Threshold
    from imbtune.inference.evaluating.evaluate_model import EvaluationResult
    from imbtune.inference.loading import load_model
    from imbtune.inference.onnx_export import ExportedModel
    from imbtune.inference.predicting.predict_images import PredictedImages
    from imbtune.inference.trained_model import TrainedModel
    from imbtune.inference.use_model import evaluate, export, predict
    from imbtune.inference.use_threshold import choose_threshold, remove_threshold
    from imbtune.registry import Knob, Registry
    from imbtune.spaces.search_space import SearchSpace
    from imbtune.study.evidence import Evidence
    from imbtune.study.outcome import SearchOutcome
    from imbtune.study.view import Study, Trial
    from imbtune.tuning.calibration.run_calibration import CalibrationOutcome
    from imbtune.tuning.forecast.forecast import Forecast

__all__ = [
    "CalibrationOutcome",
    "ClusterError",
    "ComparisonResult",
    "ConfigError",
    "DataError",
    "DivergenceError",
    "EvaluationResult",
    "Evidence",
    "ExportedModel",
    "FinalRun",
    "Forecast",
    "ImbtuneError",
    "Knob",
    "PredictedImages",
    "Registry",
    "SearchOutcome",
    "SearchSpace",
    "Study",
    "StudyError",
    "Threshold",
    "TrainConfig",
    "TrainResult",
    "TrainedModel",
    "Trial",
    "__version__",
    "calibrate",
    "choose_threshold",
    "compare",
    "evaluate",
    "export",
    "load_model",
    "load_study",
    "plan",
    "predict",
    "registries",
    "remove_threshold",
    "resume",
    "search",
    "space",
    "train",
]

_MODULES = {  # of each public name
    "api": "calibrate compare load_study plan registries resume search space train",
    "comparison.result": "ComparisonResult",
    "config.train_config": "TrainConfig",
    "errors": "ClusterError ConfigError DataError DivergenceError ImbtuneError StudyError",
    "final_training.final_run": "FinalRun",
    "registry": "Knob Registry",
    "final_training.retrain": "TrainResult",
    "spaces.search_space": "SearchSpace",
    "study.evidence": "Evidence",
    "study.outcome": "SearchOutcome",
    "study.view": "Study Trial",
    "inference.use_model": "evaluate export predict",
    "inference.use_threshold": "choose_threshold remove_threshold",
    "inference.decisions.threshold": "Threshold",
    "inference.evaluating.evaluate_model": "EvaluationResult",
    "inference.loading": "load_model",
    "inference.onnx_export": "ExportedModel",
    "inference.predicting.predict_images": "PredictedImages",
    "inference.trained_model": "TrainedModel",
    "tuning.calibration.run_calibration": "CalibrationOutcome",
    "tuning.forecast.forecast": "Forecast",
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names.split()}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'imbtune' has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"imbtune.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
