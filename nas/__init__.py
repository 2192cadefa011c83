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
    from nas.architecture import PRESETS as PRESETS
    from nas.architecture import Architecture as Architecture
    from nas.architecture import ImageInput as ImageInput
    from nas.counting import Count as Count
    from nas.counting import Layer as Layer
    from nas.counting import count_mult_adds as count_mult_adds
    from nas.counting import count_parameters as count_parameters
    from nas.counting import layer_table as layer_table
    from nas.data.loading import load_dataset as load_dataset
    from nas.export.loading import Classifier as Classifier
    from nas.export.loading import Prediction as Prediction
    from nas.export.loading import load as load
    from nas.export.spec import ModelSpec as ModelSpec
    from nas.export.writing import write_model as write_model
    from nas.final.final import FinalResult as FinalResult
    from nas.final.final import run_final as run_final
    from nas.final.request import FinalRequest as FinalRequest
    from nas.model import build as build
    from nas.report.page import write_report as write_report
    from nas.search.request import SearchRequest as SearchRequest
    from nas.search.run import SearchResult as SearchResult
    from nas.search.run import run_search as run_search
    from nas.space import Limits as Limits
    from nas.space import SearchSpace as SearchSpace
    from nas.space import default_space as default_space
    from nas.space import load_space as load_space
    from nas.study.location import StudyLocation as StudyLocation
    from nas.study.reader import read_study as read_study
    from nas.study.records import Outcome as Outcome
    from nas.study.records import StudyRecord as StudyRecord
    from nas.study.records import TrialRecord as TrialRecord
    from nas.training.config import TrainingConfig as TrainingConfig
    from nas.training.loop import train as train

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
__all__ = list(_HOME)


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 'nas' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOME[name]), name)
