"""Runs in MLflow: those of the trials are nested in that of the study.

A run is found again by its tag `nas.run`. It is written whole and then ended: one that is not ended
was cut off, and is written anew.
"""

import logging
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # read when MLflow is imported

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from nas.errors import RequestError
from nas.runtime import signals
from nas.trackers.runs import TrackedRun, TrackedStudy

_EXPERIMENT = "nas"
_STUDY, _RUN, _PARENT = "nas.study", "nas.run", "mlflow.parentRunId"
_AT_ONCE = 500  # metrics; a server takes 1,000
_MODEL = "model"  # folder of the exported model, among the artifacts of a study


def log(study: TrackedStudy, folder: Path | None) -> tuple[int, str]:
    """Logs what is not there yet; gives how many runs that were, and where they are.

    Args:
        study: what to log.
        folder: of a database of its own; None: where MLFLOW_TRACKING_URI says, or `mlflow.db`.

    Raises:
        RequestError: the store cannot be used.
        OSError: a file cannot be written.
    """
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    given = os.environ.get("MLFLOW_TRACKING_URI")
    uri = given if given and folder is None else f"sqlite:///{folder or Path()}/mlflow.db"
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    with _errors(uri):
        client = MlflowClient(tracking_uri=uri)
        experiment = _experiment(client, folder)
        known = _known(client, experiment, study.run.key)
        parent = known.get(study.run.key) or _begin(client, experiment, study.run, {})
        new = 0
        for run in study.children:
            signals.check()
            if (found := known.get(run.key)) is not None:
                if found.info.status != "RUNNING":
                    continue
                client.delete_run(found.info.run_id)
            tags = {_STUDY: study.run.key, _PARENT: parent.info.run_id}
            _write(client, _begin(client, experiment, run, tags), run)
            new += 1
        _write(client, parent, study.run)
        for file in study.files:
            client.log_artifact(parent.info.run_id, str(file), _MODEL)
    return new, uri


@contextmanager
def _errors(uri: str) -> Iterator[None]:
    try:
        yield
    except MlflowException as error:
        reason = str(error).partition(". ")[0]
        raise RequestError(
            f"--to mlflow: expected a store that can be written at {uri}, got: {reason}; name "
            "another with MLFLOW_TRACKING_URI or --dir"
        ) from error


def _experiment(client: MlflowClient, folder: Path | None) -> str:
    name = os.environ.get("MLFLOW_EXPERIMENT_NAME", _EXPERIMENT)
    found = client.get_experiment_by_name(name)
    if found is not None:
        return str(found.experiment_id)
    place = None if folder is None else (folder / "mlartifacts").absolute().as_uri()
    return str(client.create_experiment(name, artifact_location=place))


def _known(client: MlflowClient, experiment: str, study: str) -> dict[str, Run]:
    """The runs of a study by their keys."""
    found: dict[str, Run] = {}
    page = None
    while page != "":
        runs = client.search_runs([experiment], f"tags.`{_STUDY}` = '{study}'", page_token=page)
        found |= {run.data.tags[_RUN]: run for run in runs}
        page = runs.token or ""
    return found


def _begin(client: MlflowClient, experiment: str, run: TrackedRun, tags: Mapping[str, str]) -> Run:
    own = {_STUDY: run.key, _RUN: run.key, "mlflow.source.name": "nas", **tags}
    return client.create_run(experiment, _milliseconds(run.started), own, run.name)


def _write(client: MlflowClient, there: Run, run: TrackedRun) -> None:
    """Writes a run, of which some may be there, and ends it."""
    number, now = there.info.run_id, _milliseconds(run.ended)
    metrics = [Metric(name, value, now, 0) for name, value in run.results.items()]
    for name, curve in run.curves.items():
        logged = client.get_metric_history(number, name) if name in there.data.metrics else []
        last = max((metric.step for metric in logged), default=0)
        metrics += [
            Metric(name, value, _milliseconds(run.time_of(step)), step)
            for step, value in curve
            if step > last
        ]
    params = [Param(name, str(value)) for name, value in run.parameters.items()]
    tags = [RunTag(name, value) for name, value in run.tags.items()]
    for start in range(0, len(metrics), _AT_ONCE):
        client.log_batch(number, metrics=metrics[start : start + _AT_ONCE])
    for start in range(0, len(params), _AT_ONCE // 5):
        client.log_batch(number, params=params[start : start + _AT_ONCE // 5])
    client.log_batch(number, tags=tags)
    client.set_terminated(number, "FAILED" if run.failed else "FINISHED", now)


def _milliseconds(time: datetime | None) -> int:
    return 0 if time is None else round(1000 * time.timestamp())
