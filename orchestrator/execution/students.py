"""An experiment's best students as the tracker is told of them; read from files, so without torch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from orchestrator import __version__, names
from orchestrator.analysis.results import Results
from orchestrator.analysis.students import TrainedStudent, best_students
from orchestrator.environment import version_of
from orchestrator.errors import CheckpointError
from orchestrator.export.blueprint import KEY, Blueprint, Format
from orchestrator.export.card import model_card, summary
from orchestrator.search.plan import Plan
from orchestrator.search.teachers import Source
from orchestrator.search.trials import Record
from orchestrator.spec.variants import flatten
from orchestrator.store.folder import ExperimentFolder
from orchestrator.store.home import Home
from orchestrator.store.students import digest_of, student_weights
from orchestrator.store.weights import metadata
from orchestrator.tracking.base import StudentModel

NEEDED = ("torch", "torchvision", "safetensors", "numpy")
"""Packages that a student is loaded with, beside this one."""
SHOWN = (names.VAL_ACC1, names.TEST_ACC1, names.TEST_LOSS, names.TEST_ECE)
"""Metrics that are shown with a student, beside the one that it was chosen by."""


def student_models(
    results: Results, plan: Plan, home: Home, folder: ExperimentFolder, environment: Mapping[str, Any]
) -> tuple[list[StudentModel], list[str]]:
    """Each variant's best student, the best variant's first; and a line on each that has left no usable file.

    Raises `StorageError` where the store of the home does not answer.
    """
    found, lacking = [], []
    for rank, student in enumerate(best_students(results)):
        try:
            found.append(_model(results, plan, home, folder, environment, student, rank))
        except CheckpointError as error:
            lacking.append(f"the student of {student.record.trial.id} is not registered: {error.message}")
    return found, lacking


def _model(
    results: Results,
    plan: Plan,
    home: Home,
    folder: ExperimentFolder,
    environment: Mapping[str, Any],
    student: TrainedStudent,
    rank: int,
) -> StudentModel:
    record = student.record
    weights = student_weights(folder, record.trial.id)
    blueprint = Blueprint.from_text((metadata(weights) or {}).get(KEY), weights)
    run = plan.run_of(record.trial, record.params)
    return StudentModel(
        key=record.trial.id,
        name=student.variant.name,
        weights=weights,
        digest=digest_of(weights),
        image=blueprint.image,
        mean=blueprint.mean,
        classes=blueprint.classes,
        epochs=record.epochs,
        params={**flatten({"student": run.student.model_dump(exclude_defaults=True)}), **record.params},
        tags=_tags(results, student),
        metrics=[name for name in dict.fromkeys((student.metric, *SHOWN)) if name in record.metrics],
        requirements=[f"{package}=={version_of(package).partition('+')[0]}" for package in NEEDED],
        summary=summary(student),
        card=card_of(results, plan, home, folder, student, blueprint, environment),
        rank=rank,
    )


def card_of(
    results: Results,
    plan: Plan,
    home: Home,
    folder: ExperimentFolder,
    student: TrainedStudent,
    blueprint: Blueprint,
    environment: Mapping[str, Any],
    exported: Mapping[Format, str] | None = None,
) -> str:
    """A student's card, with what its experiment's files tell; the last two are as `model_card` has them."""
    record = student.record
    return model_card(
        results,
        plan.run_of(record.trial, record.params),
        student,
        blueprint,
        _teachers(results, plan, home, record),
        exported=exported,
        classes=folder.described(record.trial.id).get("classes.csv", ""),
        environment=environment,
    )


def _teachers(results: Results, plan: Plan, home: Home, record: Record) -> list[tuple[Source, float | None]]:
    """What a student learnt from, each with its validation accuracy in percent where that is known."""
    trained = {r.trial.variant: r.metrics.get(names.VAL_ACC1) for r in results.teachers}
    found = []
    for source in plan.sources_of(record.trial):
        if source.key is None:
            accuracy = record.described.get("teacher.val_acc1")
        else:
            accuracy = trained.get(source.key) or home.teacher_accuracy(source.key)
        found.append((source, accuracy))
    return found


def _tags(results: Results, student: TrainedStudent) -> dict[str, str]:
    """Where it comes from, and its figures; accuracies in percent."""
    trial, test = student.record.trial, student.variant.test
    metrics = student.record.metrics
    tags = {
        f"{names.TAG_PREFIX}experiment": results.id,
        f"{names.TAG_PREFIX}variant": trial.variant,
        f"{names.TAG_PREFIX}trial": trial.id,
        f"{names.TAG_PREFIX}seed": str(trial.seed),
        f"{names.TAG_PREFIX}version": __version__,
        **{name: f"{metrics[name]:.4f}" for name in dict.fromkeys((student.metric, *SHOWN)) if name in metrics},
    }
    if test is not None:
        tags |= {f"{names.TEST_ACC1}.mean": f"{test.mean:.4f}", f"{names.TEST_ACC1}.seeds": str(test.count)}
        if test.sd is not None:
            tags[f"{names.TEST_ACC1}.sd"] = f"{test.sd:.4f}"
    return tags
