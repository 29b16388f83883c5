"""Students in MLflow: logged as models with what they take and give, and registered, the best under aliases.

A logged student is MLflow's "pyfunc": a safetensors file, and the name of the module of this package that loads it.
Nothing in it is code or a pickle, so that who loads it has to trust no more than the package that is installed there.
"""

from __future__ import annotations

import json
import platform
import re
import shutil
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from mlflow import MlflowClient
from mlflow.entities import LoggedModel, LoggedModelOutput, LoggedModelStatus, Metric
from mlflow.exceptions import MlflowException
from mlflow.models import Model, ModelSignature
from mlflow.types import Schema, TensorSpec

from orchestrator import names
from orchestrator.tracking.base import StudentModel
from orchestrator.tracking.writer import Writer

ALIASES = ("champion", "challenger")
"""Of the best student, and of the next variant's."""
WEIGHTS_TAG = f"{names.TAG_PREFIX}weights"
LOADER = "orchestrator.export.serving"
MODEL_TYPE = "student"
_EXAMPLE, _SERVING_EXAMPLE, _ENVIRONMENT = "input_example.json", "serving_input_example.json", "python_env.yaml"


class Registry:
    """Logs and registers students in one store; what is there already is not written again.

    All is written through `writer`, in its thread. `run_ids` are the ids of trials' runs by the trial's key.
    """

    def __init__(self, client: MlflowClient, writer: Writer, experiment_id: str, run_ids: Mapping[str, str]) -> None:
        self._client = client
        self._writer = writer
        self._experiment_id = experiment_id
        self._run_ids = run_ids

    def register(self, name: str, models: Sequence[StudentModel]) -> None:
        """Have the models as versions of the registered model `name`, and its aliases on the first ranks.

        An alias whose rank has no model stays where it is: the next one has not won.
        """
        if not models or not self._writer.persist(f"{name}: its registered model", lambda: self._find_or_create(name)):
            return
        aliases = dict(enumerate(ALIASES))
        for model in models:
            # Where a run could not be made, that is told, and the next session makes it with its student.
            version = self._version(name, model) if model.key in self._run_ids else None
            alias = aliases.get(model.rank)
            if version and alias:
                self._writer.persist(f"{name}: {alias}", partial(self._move, name, alias, version))

    def _find_or_create(self, name: str) -> None:
        try:
            self._client.get_registered_model(name)
        except MlflowException as error:
            if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                raise
            told = (
                f"The best students of the experiment {name}, one of each variant. `{ALIASES[0]}` is the best by "
                f"validation, `{ALIASES[1]}` that of the next variant."
            )
            self._client.create_registered_model(name, {f"{names.TAG_PREFIX}experiment": name}, told)

    def _version(self, name: str, model: StudentModel) -> str | None:
        """The version that a model has, registered now where it was not; None where that cannot be."""
        found: list[str] = []

        def find_or_create() -> None:
            known = self._client.search_model_versions(f"name='{name}'")
            mine = [str(each.version) for each in known if each.tags.get(WEIGHTS_TAG) == model.digest]
            found[:] = mine[:1] or [self._create(name, model)]

        self._writer.persist(f"{model.key}: its registered student", find_or_create)
        return found[0] if found else None

    def _create(self, name: str, model: StudentModel) -> str:
        logged = self._logged(model)
        made = self._client.create_model_version(
            name,
            # Not models:/ID, which a database would be asked for that this process knows as MLflow's default.
            logged.artifact_location,
            self._run_ids[model.key],
            {**model.tags, WEIGHTS_TAG: model.digest},
            description=model.summary,
            await_creation_for=0,
            model_id=logged.model_id,
        )
        # What MLflow's pages lead from the one to the other by.
        versions = json.dumps([{"name": name, "version": made.version}])
        self._client.set_logged_model_tags(logged.model_id, {"mlflow.modelVersions": versions})
        return str(made.version)

    def _logged(self, model: StudentModel) -> LoggedModel:
        """The logged model with these weights; logged now where there is none."""
        query = f"tags.`{WEIGHTS_TAG}` = '{model.digest}'"
        run_id = self._run_ids[model.key]
        for known in self._client.search_logged_models([self._experiment_id], query):
            if known.source_run_id == run_id:
                if known.status == LoggedModelStatus.READY:
                    return known
                # Whoever began it was ended.
                self._client.delete_logged_model(known.model_id)
        made = self._client.create_logged_model(
            self._experiment_id,
            re.sub(r"[/:.%\"']", "-", model.name),
            run_id,
            {**model.tags, WEIGHTS_TAG: model.digest},
            {path: str(value) for path, value in model.params.items()},
            MODEL_TYPE,
        )
        with TemporaryDirectory() as folder:
            path = Path(folder)
            _save(model, path, made.model_id, run_id)
            self._client.log_model_artifacts(made.model_id, str(path))
        self._client.log_outputs(run_id, [LoggedModelOutput(made.model_id, model.epochs)])
        self._link_metrics(run_id, made.model_id, model)
        return self._client.finalize_logged_model(made.model_id, LoggedModelStatus.READY)

    def _link_metrics(self, run_id: str, model_id: str, model: StudentModel) -> None:
        """Have the run's last metrics as the model's too: the same points, so that the run gets none twice."""
        linked = []
        for name in model.metrics:
            for point in self._client.get_metric_history(run_id, name):
                if point.step == model.epochs:
                    linked.append(Metric(name, point.value, point.timestamp, point.step, model_id=model_id))
        if linked:
            self._client.log_batch(run_id, metrics=linked)

    def _move(self, name: str, alias: str, version: str) -> None:
        """Have an alias on a version that has won anew; one that somebody has moved by hand since stays there."""
        won = f"{names.TAG_PREFIX}{alias}"
        registered = self._client.get_registered_model(name)
        if registered.tags.get(won) != version:
            self._client.set_registered_model_alias(name, alias, version)
            self._client.set_registered_model_tag(name, won, version)


def _save(model: StudentModel, path: Path, model_id: str, run_id: str) -> None:
    """Put a model's files together in a folder, in the format that MLflow documents.

    `mlflow.pyfunc.save_model` would first look at every file of every installed package to compare versions, for a
    second, and copy the project files of whatever folder the command was given in.
    """
    weights = path / "data" / model.weights.name
    weights.parent.mkdir(parents=True)
    shutil.copyfile(model.weights, weights)
    takes = TensorSpec(np.dtype("float32"), (-1, *model.image))
    gives = TensorSpec(np.dtype("float32"), (-1, len(model.classes)))
    about = Model(
        run_id=run_id,
        model_id=model_id,
        model_uuid=model_id,
        signature=ModelSignature(Schema([takes]), Schema([gives])),
        saved_input_example_info={
            "artifact_path": _EXAMPLE,
            "serving_input_path": _SERVING_EXAMPLE,
            "type": "ndarray",
        },
        metadata={"classes": list(model.classes), **model.tags},
    )
    about.add_flavor(
        "python_function",
        loader_module=LOADER,
        python_version=platform.python_version(),
        data=str(weights.relative_to(path)),
        env={"virtualenv": _ENVIRONMENT},
    )
    about.save(str(path / "MLmodel"))
    needed = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    texts = {
        _ENVIRONMENT: json.dumps(needed),  # which is YAML as well
        "requirements.txt": "\n".join(["mlflow", *model.requirements, ""]),
        _EXAMPLE: json.dumps(_plain(model)),
        _SERVING_EXAMPLE: json.dumps({"inputs": _plain(model)}),
        "README.md": model.card.replace(names.MODEL_ADDRESS, f"models:/{model_id}"),
    }
    for name, text in texts.items():
        (path / name).write_text(text, encoding="utf-8")


def _plain(model: StudentModel) -> list[Any]:
    """One image of the training images' mean colour [1, C, H, W], as what is logged shows nobody's picture."""
    _, height, width = model.image
    return [[[[round(level, 3)] * width] * height for level in model.mean]]
