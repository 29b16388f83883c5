"""Whole trainings, ready for their first epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from orchestrator.build.data import Splits, build_augmentation, build_views
from orchestrator.build.losses import build_criterion, build_features
from orchestrator.build.networks import build_network, build_teacher, join_teachers, network_size
from orchestrator.build.options import arguments
from orchestrator.build.seeds import PEER_SEED, Stream, stream_seed
from orchestrator.catalog import OPTIMIZERS, SCHEDULES
from orchestrator.data import Dataset, Images
from orchestrator.data.views import View, Views
from orchestrator.distillation.adjustment import NoAdjustment
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.model import ModelSpec
from orchestrator.spec.scheme import Mutual
from orchestrator.spec.training import TrainingSpec
from orchestrator.training import SINGLE, TrainingData, TrainingRun, TrainingSettings, World, resolve_precision


def try_out(run: RunSpec, teachers: Sequence[ModelSpec], dataset: Dataset) -> None:
    """Build what a distillation consists of once, from untrained networks, and raise what keeps it from training."""
    peers = run.scheme.peers if isinstance(run.scheme, Mutual) else ()
    models = (run.student, *peers, *teachers)
    networks = [build_network(model, dataset, 0) for model in models]
    for model, network in zip(models, networks, strict=True):
        network_size(model, lambda built=network: built, dataset)  # type: ignore[misc]
    build_criterion(run.distillation)
    build_augmentation(run.data, dataset)
    if teachers:
        teacher = join_teachers(run.scheme, networks[-len(teachers) :])
        build_features(run, networks[0], teacher, dataset.train, torch.device("cpu"))


def build_student_run(
    run: RunSpec,
    splits: Splits,
    teacher: nn.Module | None,
    *,
    targets: Callable[[View], Tensor] | None = None,
    trial: str = "training",
    world: World = SINGLE,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingRun:
    """A distillation, ready to train its first epoch; `targets` stand for the teacher as in `TrainingRun`."""
    student = build_network(run.student, splits.dataset, stream_seed(run.seed, Stream.STUDENT_INIT))
    peers = [
        build_network(peer, splits.dataset, stream_seed(run.seed + PEER_SEED + number, Stream.STUDENT_INIT))
        for number, peer in enumerate(run.scheme.peers if isinstance(run.scheme, Mutual) else (), start=1)
    ]
    return _training_run(
        run,
        run.training,
        run.student,
        student,
        build_criterion(run.distillation),
        splits,
        splits.train,
        teacher,
        trial,
        world,
        should_stop,
        peers,
        targets,
        build_views(run, splits),
    )


def build_teacher_run(
    run: RunSpec,
    splits: Splits,
    *,
    trial: str,
    world: World = SINGLE,
    should_stop: Callable[[], bool] | None = None,
) -> TrainingRun:
    """The training of a teacher, on the labels alone."""
    criterion = Criterion(1.0, 0.0, ConstantTemperature(1.0), NoAdjustment())
    network, model = build_teacher(run, splits.dataset), run.teacher
    if model is None:
        raise ValueError("this run has no teacher")
    return _training_run(
        run,
        run.teacher_training,
        model,
        network,
        criterion,
        splits,
        splits.teacher_train,
        None,
        trial,
        world,
        should_stop,
    )


def _training_run(
    run: RunSpec,
    training: TrainingSpec,
    model: ModelSpec,
    network: nn.Module,
    criterion: Criterion,
    splits: Splits,
    train: Images,
    teacher: nn.Module | None,
    trial: str,
    world: World,
    should_stop: Callable[[], bool] | None,
    peers: Sequence[nn.Module] = (),
    targets: Callable[[View], Tensor] | None = None,
    views: Views | None = None,
) -> TrainingRun:
    dataset = splits.dataset
    size = network_size(model, lambda: network, dataset)
    precision, reason = resolve_precision(training.precision, world.device, network, size.multiply_adds)
    augmentation = build_augmentation(run.data, dataset)
    for part in (network, *peers, *([] if teacher is None else [teacher])):
        part.to(world.device)
    features = () if teacher is None else build_features(run, network, teacher, train, world.device)
    trained = (network, *peers, *(term.loss for term in features))
    parameters = [parameter for part in trained for parameter in part.parameters()]
    optimizer, schedule = training.optimizer, training.schedule
    return TrainingRun(
        network,
        criterion,
        OPTIMIZERS[optimizer.method](parameters, **arguments(optimizer, "method")),
        SCHEDULES[schedule.method](training.epochs, **arguments(schedule, "method")),
        TrainingSettings(
            training.epochs,
            training.batch_size,
            run.seed,
            precision,
            training.gradient_clip,
            precision_reason=reason,
            accumulation=training.accumulation,
            compile=training.compile,
        ),
        TrainingData(train, splits.val, dataset.mean, dataset.std, augmentation, views),
        teacher=teacher,
        targets=targets,
        features=features,
        peers=peers,
        world=world,
        trial=trial,
        should_stop=should_stop,
    )
