"""Every example spec loads, plans, builds its networks, features and schemes, and takes a step."""

import itertools
import math
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import nn

from orchestrator import names
from orchestrator.build import (
    Splits,
    build_criterion,
    build_network,
    build_student_run,
    build_teacher,
    join_teachers,
)
from orchestrator.catalog import DATASET_FACTS
from orchestrator.data import Dataset, Images
from orchestrator.machine import Machine
from orchestrator.search.plan import make_plan
from orchestrator.search.teachers import Source
from orchestrator.spec import RunSpec, load_spec

ROOT = Path(__file__).parents[1] / "specs"
SPECS = sorted(ROOT.rglob("*.yaml"))

each_spec = pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def stand_in(name: str) -> Dataset:
    """Noise in a data set's shape."""
    generator = torch.Generator().manual_seed(0)
    _, classes, channels, pixels = DATASET_FACTS[name]
    images = torch.randint(0, 256, (classes, channels, pixels, pixels), dtype=torch.uint8, generator=generator)
    labelled = Images(images, torch.arange(classes))
    names, levels = tuple(map(str, range(classes))), (0.5,) * channels
    return Dataset(name, labelled, labelled, names, levels, levels, flip=False, crop_padding=1)


def test_there_are_examples() -> None:
    assert ROOT / "quickstart.yaml" in SPECS


@each_spec
def test_a_spec_loads_and_plans(path: Path) -> None:
    spec = load_spec(path)
    plan = make_plan(spec)
    workers = spec.resources.workers[0]
    needs, gpus = workers * spec.resources.cpus_per_worker, workers * spec.resources.gpus_per_worker
    data = plan.to_dict(Machine(max(4, needs), math.ceil(gpus)))
    assert data["search_trials"] == sum(variant["trials"] for variant in data["variants"]) > 0


def test_examples_have_names_of_their_own() -> None:
    found = [load_spec(path).name for path in SPECS]
    assert len(set(found)) == len(found)


@each_spec
def test_a_spec_builds(path: Path) -> None:
    """Every variant, with its scheme, features and the ends of its networks, takes a step; so does every assistant."""
    plan = make_plan(load_spec(path))
    networks: dict[str, nn.Module] = {}
    for arm in plan.arms:
        run, space = arm.variant.run, arm.variant.space
        splits = few_images(run.data.dataset)
        teacher = teacher_of(run, arm.sources, splits.dataset, networks)
        for model, width in itertools.product(
            _ends(space, "student.model", run.student.model), _ends(space, "student.width", run.student.width)
        ):
            chosen = run.with_values({"student.model": model, "student.width": width})
            student_run = build_student_run(chosen, splits, teacher)
            metrics = student_run.train_epoch()
            assert all(parameter.isfinite().all() for parameter in student_run.student.parameters())
            assert all(math.isfinite(value) for value in metrics.values())
            assert (names.TRAIN_AGREEMENT in metrics) == (run.distillation.kd_weight > 0)
            assert {names.loss_metric(feature.method) for feature in run.distillation.features} <= set(metrics)
    for stage_0 in plan.teachers.values():
        splits = few_images(stage_0.run.data.dataset)
        if stage_0.trains_student:
            teacher = teacher_of(stage_0.run, stage_0.sources, splits.dataset, networks)
            made = build_student_run(stage_0.run, splits, teacher).train_epoch()
            assert math.isfinite(made[names.TRAIN_LOSS_KD])
        else:
            network = build_teacher(stage_0.run, splits.dataset)
            assert network(splits.val.images.float()).shape == (len(splits.val), len(splits.dataset.classes))


def few_images(name: str) -> Splits:
    """Four images to train on, and as many of each other part."""
    dataset = stand_in(name)
    few = dataset.train.take(torch.arange(4))
    return Splits(dataset, few, few, few)


def teacher_of(
    run: RunSpec, sources: tuple[Source, ...], dataset: Dataset, networks: dict[str, nn.Module]
) -> nn.Module | None:
    """What a run learns from, with fresh weights; of one model the same network."""
    if not sources:
        return None
    for source in sources:
        networks.setdefault(repr(source.model), build_network(source.model, dataset, 0))
    return join_teachers(run.scheme, [networks[repr(source.model)] for source in sources])


@each_spec
def test_the_ends_of_every_domain_build_a_loss(path: Path) -> None:
    for arm in make_plan(load_spec(path)).arms:
        space = arm.variant.space
        for end in (0, -1):
            point = arm.variant.repaired({path: domain.extremes[end] for path, domain in space.items()})
            build_criterion(arm.variant.run.with_values(point).distillation)


def _ends(space: dict, path: str, fixed: object) -> list:
    return space[path].extremes if path in space else [fixed]
