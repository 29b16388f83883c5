"""An MLflow store: opening or making it, searching it, closing what was left in it, fetching what lies in it."""

from __future__ import annotations

import gc
import json
import os
import re
import sqlite3
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Dataset, DatasetInput, Experiment, InputTag, Run, ViewType
from mlflow.utils.mlflow_tags import MLFLOW_DATASET_CONTEXT

from orchestrator import names
from orchestrator.errors import TrackingError
from orchestrator.passwords import redacted
from orchestrator.search.trials import Status
from orchestrator.tracking.base import DataSet
from orchestrator.tracking.failures import cause, unusable
from orchestrator.tracking.uris import experiment_page
from orchestrator.tracking.views import EXPERIMENT, NOTE_BEGINS, PHASE, TAG, Contents, address, charts_key, note, views

KEY_TAG = f"{names.TAG_PREFIX}key"
STATUS_TAG = f"{names.TAG_PREFIX}status"
NOTE_TAG = "mlflow.note.content"
TRIED = "orchestrator-doctor"
"""What begins the names of experiments in which a store is tried out."""
PAGE = 200
"""Runs of one search: a server takes a second for that many, and a request may last 20."""


def open_client(uri: str, artifacts: Path | None = None) -> MlflowClient:
    """A client of the store; makes a sqlite store that is not there. `artifacts` is where ours are kept."""
    # A server that is away must be noticed in seconds. MLflow would repeat requests whose answer was lost
    # without asking what came of them, so the writer thread does the retrying.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    # It would print the URI of every run that ends, with the password in it.
    os.environ["MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"] = "true"
    if not uri.startswith("sqlite:///"):
        return MlflowClient(uri)
    # Making the client makes or migrates the database, which two processes must not do at once.
    database = _database(uri)
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{database}.lock", timeout=60):
        if not database.exists():
            _create(database, artifacts)
        # MLflow would try for minutes to open what cannot be opened.
        with closing(sqlite3.connect(database, timeout=20)) as connection:
            connection.execute("PRAGMA schema_version")
        return MlflowClient(uri)


def _create(database: Path, artifacts: Path | None) -> None:
    """Make a store, whole or not at all: one that was left half made, MLflow can neither use nor complete."""
    with TemporaryDirectory(prefix=f".{database.name}-", dir=database.parent) as folder:
        unfinished = Path(folder) / database.name
        client = MlflowClient(f"sqlite:///{unfinished}")
        if artifacts and artifacts.parent == database.parent:
            # In a store of our own nothing uses MLflow's empty "Default", whose artifacts would go to ./mlruns.
            client.delete_experiment("0")
        unfinished.replace(database)


def _database(uri: str) -> Path:
    return Path(uri.removeprefix("sqlite:///").partition("?")[0])


def _is_missing(uri: str) -> bool:
    return uri.startswith("sqlite:///") and not _database(uri).exists()


def search(client: MlflowClient, experiment_id: str, query: str) -> list[Run]:
    """All runs that a query finds."""
    runs: list[Run] = []
    token: str | None = None
    with _uncollected():
        while True:
            page = client.search_runs([experiment_id], query, max_results=PAGE, page_token=token)
            runs += page
            token = page.token
            if not token:
                return runs


@contextmanager
def _uncollected() -> Iterator[None]:
    """Without garbage collections, which make two thirds of the time that MLflow takes to read many runs."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def show(client: MlflowClient, experiment_id: str, seen: Contents) -> None:
    """Have MLflow's page of an experiment show what there is to see; somebody's own note stays."""
    made = views(seen)
    tags = {
        # MLflow 3.17 goes by the address, see `experiment_page`; where pages go by the experiment's kind, by this.
        "mlflow.experimentKind": "custom_model_development",
        "mlflow.experiment.primaryMetric.name": seen.metric,
    }
    there = client.get_experiment(experiment_id).tags
    if there.get(NOTE_TAG, NOTE_BEGINS).startswith(NOTE_BEGINS):
        tags[NOTE_TAG] = note(made, seen.id, experiment_page("", experiment_id).lstrip("/"))
    now = int(time.time() * 1000)
    for number, view in enumerate(made):
        if not view.is_in(there.get(view.tag, "")):
            tags[view.tag] = view.value(now - number)
    for name, value in tags.items():
        if there.get(name) != value:
            client.set_experiment_tag(experiment_id, name, value)


def as_input(data: DataSet) -> DatasetInput:
    """Images as MLflow has what goes into a run, under the types that its own readers know."""
    count, *image = data.shape
    tensors = {
        part: json.dumps([{"type": "tensor", "tensor-spec": {"dtype": dtype, "shape": [-1, *shape]}}])
        for part, dtype, shape in (("features", "uint8", image), ("targets", "int64", []))
    }
    kind = "code" if data.root is None else "local"
    code = {"mlflow.source.name": f"orchestrator: data.dataset {data.name}"}
    source = {"tags": code} if data.root is None else {"uri": data.root}
    return DatasetInput(
        Dataset(
            name=data.name,
            digest=data.digest,
            source_type=kind,
            source=json.dumps(source),
            schema=json.dumps({"mlflow_tensorspec": tensors}),
            profile=json.dumps({"num_rows": count, "num_classes": data.classes}),
        ),
        [InputTag(MLFLOW_DATASET_CONTEXT, data.context)],
    )


def close_orphans(uri: str, experiment: str, parent_key: str) -> int:
    """Mark the runs of an experiment whose driver is gone as killed; returns how many there were.

    Raises `TrackingError` when the store cannot be used.
    """
    try:
        client = open_client(uri)
        found = client.get_experiment_by_name(experiment)
        if found is None:
            return 0
        parents = search(client, found.experiment_id, f"tags.`{KEY_TAG}` = '{parent_key}'")
        orphans = [run for run in parents if run.info.status == "RUNNING"]
        for parent in parents:
            children = f"tags.`{names.PARENT_RUN_TAG}` = '{parent.info.run_id}'"
            orphans += search(client, found.experiment_id, f"{children} and attributes.status = 'RUNNING'")
        for run in orphans:
            client.set_terminated(run.info.run_id, "KILLED")
            client.set_tag(run.info.run_id, STATUS_TAG, Status.INTERRUPTED)
    except Exception as error:
        raise unusable(uri, error) from None
    return len(orphans)


def find_experiment(uri: str, experiment: str) -> Experiment | None:
    """An MLflow experiment, None if there is none; raises `TrackingError` where MLflow cannot be asked."""
    if _is_missing(uri):
        return None
    try:
        return open_client(uri).get_experiment_by_name(experiment)
    except Exception as error:
        raise unusable(uri, error) from None


def find_page(uri: str, server: str, experiment: str, ours: str) -> str | None:
    """The address of an MLflow experiment's runs on a server, None if there is none such; `ours` is our own id of it.

    It opens our view of them where the store has it: that of final runs, in which every variant is seen, as soon as
    there are some. Raises `TrackingError` where MLflow cannot be asked.
    """
    found = find_experiment(uri, experiment)
    if found is None:
        return None
    query = f"tags.`{EXPERIMENT}` = '{ours}' and tags.`{PHASE}` = 'final'"
    try:
        has_finals = bool(open_client(uri).search_runs([found.experiment_id], query, max_results=1))
    except Exception as error:
        raise unusable(uri, error) from None
    page, key = experiment_page(server, found.experiment_id), charts_key(ours, finals=has_finals)
    return address(page, key) if f"{TAG}{key}" in found.tags else page


@dataclass(frozen=True)
class StoredTrial:
    """A search trial that has a result, as a store has it."""

    variant: str
    params: Mapping[str, str]
    value: float
    """The metric after the last epoch."""
    epochs: int


def search_trials(uri: str, experiment: str, metric: str, besides: str) -> list[StoredTrial] | None:
    """The search trials of an MLflow experiment, oldest first, without our own `besides`'; None if there is none such.

    Those whose values may have changed in mid-training are not among them.
    Raises `TrackingError` where MLflow cannot be asked.
    """
    stored = find_experiment(uri, experiment)
    if stored is None:
        return None
    try:
        client = open_client(uri)
        found = []
        runs = search(client, stored.experiment_id, f"tags.`{names.TAG_PREFIX}phase` = 'search'")
        for run in sorted(runs, key=lambda run: (run.info.start_time, run.info.run_name)):
            tags, has_result = run.data.tags, run.data.tags.get(STATUS_TAG) in (Status.FINISHED, Status.STOPPED)
            changing = any(name.startswith(names.value_metric("")) for name in run.data.metrics)
            if tags.get(f"{names.TAG_PREFIX}experiment") == besides or changing:
                continue
            if has_result and metric in run.data.metrics:
                last = max(client.get_metric_history(run.info.run_id, metric), key=lambda point: point.step)
                variant = tags.get(f"{names.TAG_PREFIX}variant", "")
                found.append(StoredTrial(variant, dict(run.data.params), last.value, last.step))
    except Exception as error:
        raise unusable(uri, error) from None
    return found


@contextmanager
def place_to_try(uri: str, owner: str, artifacts: Path | None = None) -> Iterator[str]:
    """The name of an experiment of the owner's own for `try_out`, which counts as deleted before and after.

    So no page shows it. Raises `TrackingError` where there can be none.
    """
    name = f"{TRIED}-{owner}"
    try:
        client = open_client(uri, artifacts)
        found = client.get_experiment_by_name(name)
        if found is None:
            experiment_id = client.create_experiment(name, artifacts and str(artifacts / name))
        else:
            experiment_id = found.experiment_id
            if found.lifecycle_stage == "deleted":
                client.restore_experiment(experiment_id)
    except Exception as error:
        raise unusable(uri, error) from None
    try:
        yield name
    finally:
        try:
            client.delete_experiment(experiment_id)
        except Exception as error:
            raise unusable(uri, error) from None


def try_out(uri: str, experiment: str, who: str = "tried") -> None:
    """Write a metric and an artifact to a run of an experiment and read them back.

    The run counts as deleted before and after, and is used again by the same `who`. Raises `TrackingError` that says
    what fails.
    """
    try:
        client, value = open_client(uri), time.time()
        found = client.get_experiment_by_name(experiment)
        if found is None:
            raise ValueError(f"there is no experiment {experiment}")
        named = f"attributes.run_name = '{who}'"
        earlier = client.search_runs([found.experiment_id], named, ViewType.ALL, max_results=1)
        run_id = (earlier[0] if earlier else client.create_run(found.experiment_id, run_name=who)).info.run_id
        if earlier and earlier[0].info.lifecycle_stage == "deleted":
            client.restore_run(run_id)
        try:
            client.log_metric(run_id, "tried", value)
            client.log_text(run_id, str(value), "tried.txt")
            if client.get_run(run_id).data.metrics.get("tried") != value:
                raise ValueError("a metric was not there when it was read back")
            with TemporaryDirectory() as folder:
                if Path(client.download_artifacts(run_id, "tried.txt", folder)).read_text() != str(value):
                    raise ValueError("an artifact was not there when it was read back")
        finally:
            client.delete_run(run_id)
    except Exception as error:
        raise unusable(uri, error) from None


def download(artifact: str, uri: str, folder: Path) -> Path:
    """Copy the file or folder that an artifact's URI stands for (models:/name/1, runs:/id/path) into `folder`.

    `uri` is the tracking store that knows it. Raises `TrackingError` where it cannot be had.
    """
    from mlflow.artifacts import download_artifacts

    try:
        if _is_missing(uri):
            raise FileNotFoundError("there is no store yet")
        stored = _stored_at(artifact, open_client(uri))
        return Path(download_artifacts(artifact_uri=stored, dst_path=str(folder), tracking_uri=uri, registry_uri=uri))
    except Exception as error:
        raise TrackingError(
            f"{artifact} cannot be downloaded from MLflow at {redacted(uri)}: {cause(error, uri)}",
            hint="check its name and version, and tracking.uri (or MLFLOW_TRACKING_URI)",
        ) from error


def _stored_at(artifact: str, client: MlflowClient) -> str:
    """Where a registered or logged model lies; left to itself, MLflow would ask the process's default store."""
    match = re.fullmatch(r"models:/([^/@]+)(?:@([^/]+)|/(\d+|latest))?(/.*)?", artifact)
    if match is None:
        return artifact
    name, alias, version, path = match.groups()
    if alias:
        version = client.get_model_version_by_alias(name, alias).version
    elif version is None:
        return f"{client.get_logged_model(name).artifact_location}{path or ''}"
    elif version == "latest":
        found = client.search_model_versions(f'name="{name}"', order_by=["version_number DESC"], max_results=1)
        version = found[0].version if found else "1"
    return f"{client.get_model_version_download_uri(name, str(version))}{path or ''}"
