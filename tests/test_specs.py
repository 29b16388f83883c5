"""Every example spec loads, plans, and builds its networks and losses."""

from functools import cache
from pathlib import Path

import pytest
import torch

from orchestrator.build import build_criterion, build_network, build_teacher
from orchestrator.catalog import DATASET_SHAPES, DATASET_SIZES
from orchestrator.data import Dataset, Images
from orchestrator.machine import Machine
from orchestrator.search.plan import make_plan
from orchestrator.spec import load_spec

ROOT = Path(__file__).parents[1] / "specs"
SPECS = sorted(ROOT.rglob("*.yaml"))

each_spec = pytest.mark.parametrize("path", SPECS, ids=lambda path: str(path.relative_to(ROOT)))


@cache
def stand_in(name: str) -> Dataset:
    """Noise in a data set's shape."""
    generator = torch.Generator().manual_seed(0)
    (channels, pixels), (_, classes) = DATASET_SHAPES[name], DATASET_SIZES[name]
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
    needs = spec.resources.num_workers * spec.resources.cpus_per_worker
    gpus = spec.resources.num_workers * spec.resources.gpus_per_worker
    data = plan.to_dict(Machine(max(4, needs), gpus))
    assert data["search_trials"] == sum(variant["trials"] for variant in data["variants"]) > 0


def test_examples_have_names_of_their_own() -> None:
    names = [load_spec(path).name for path in SPECS]
    assert len(set(names)) == len(names)


@each_spec
def test_a_spec_builds(path: Path) -> None:
    plan = make_plan(load_spec(path))
    for arm in plan.arms:
        run = arm.variant.run
        dataset = stand_in(run.data.dataset)
        pixels = dataset.train.images[:4].float() / 255
        students = {
            (model, width)
            for model in _ends(arm.variant.space, "student.model", run.student.model)
            for width in _ends(arm.variant.space, "student.width", run.student.width)
        }
        for model, width in students:
            student = build_network(
                run.with_values({"student.model": model, "student.width": width}).student, dataset, 0
            )
            logits = student(pixels)
            assert logits.shape == (4, len(dataset.classes))
        teacher_logits = None
        if run.needs_teacher:
            with torch.no_grad():
                teacher_logits = build_teacher(run, dataset)(pixels)
            assert teacher_logits.shape == logits.shape
        output = build_criterion(run.distillation)(logits, teacher_logits, dataset.train.labels[:4])
        output.total.backward()
        assert torch.isfinite(output.total)
        assert all(torch.isfinite(parameter.grad).all() for parameter in student.parameters())


@each_spec
def test_the_ends_of_every_domain_build_a_loss(path: Path) -> None:
    for arm in make_plan(load_spec(path)).arms:
        space = arm.variant.space
        for end in (0, -1):
            point = arm.variant.repaired({path: domain.extremes[end] for path, domain in space.items()})
            build_criterion(arm.variant.run.with_values(point).distillation)


def _ends(space: dict, path: str, fixed: object) -> list:
    return space[path].extremes if path in space else [fixed]
