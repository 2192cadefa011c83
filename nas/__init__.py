"""Find the most accurate residual network that fits a parameter budget, and say how good it is.

From Python::

    import nas

    request = nas.SearchRequest(max_parameters=5_000_000, trials=50, dataset="digits")
    result = nas.run_search(request)
    print(result.study.incumbent)
    nas.write_report(result.study, "reports")

Names are loaded when they are first used, so that ``import nas`` costs nothing.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nas.architecture import PRESETS, Architecture, ImageInput
    from nas.counting import Count, Layer, count_mult_adds, count_parameters, layer_table
    from nas.data.loading import load_dataset
    from nas.export.loading import Classifier, Prediction, load
    from nas.export.spec import ModelSpec
    from nas.export.writing import write_model
    from nas.final.final import FinalResult, run_final
    from nas.final.request import FinalRequest
    from nas.model import build
    from nas.report.page import write_report
    from nas.search.request import SearchRequest
    from nas.search.run import SearchResult, run_search
    from nas.space import Limits, SearchSpace, default_space, load_space
    from nas.study.location import StudyLocation
    from nas.study.reader import read_study
    from nas.study.records import Outcome, StudyRecord, TrialRecord
    from nas.training.config import TrainingConfig
    from nas.training.loop import train

__all__ = [
    "PRESETS",
    "Architecture",
    "Classifier",
    "Count",
    "FinalRequest",
    "FinalResult",
    "ImageInput",
    "Layer",
    "Limits",
    "ModelSpec",
    "Outcome",
    "Prediction",
    "SearchRequest",
    "SearchResult",
    "SearchSpace",
    "StudyLocation",
    "StudyRecord",
    "TrainingConfig",
    "TrialRecord",
    "build",
    "count_mult_adds",
    "count_parameters",
    "default_space",
    "layer_table",
    "load",
    "load_dataset",
    "load_space",
    "read_study",
    "run_final",
    "run_search",
    "train",
    "write_model",
    "write_report",
]

_HOMES = {
    "nas.architecture": ("PRESETS", "Architecture", "ImageInput"),
    "nas.counting": ("Count", "Layer", "count_mult_adds", "count_parameters", "layer_table"),
    "nas.data.loading": ("load_dataset",),
    "nas.export.loading": ("Classifier", "Prediction", "load"),
    "nas.export.spec": ("ModelSpec",),
    "nas.export.writing": ("write_model",),
    "nas.final.final": ("FinalResult", "run_final"),
    "nas.final.request": ("FinalRequest",),
    "nas.model": ("build",),
    "nas.report.page": ("write_report",),
    "nas.space": ("Limits", "SearchSpace", "default_space", "load_space"),
    "nas.study.location": ("StudyLocation",),
    "nas.study.records": ("Outcome", "StudyRecord", "TrialRecord"),
    "nas.search.request": ("SearchRequest",),
    "nas.search.run": ("SearchResult", "run_search"),
    "nas.study.reader": ("read_study",),
    "nas.training.config": ("TrainingConfig",),
    "nas.training.loop": ("train",),
}
_HOME = {name: module for module, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
