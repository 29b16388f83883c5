"""Losses, from the `distillation` section: on outputs, and on features of two networks."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from orchestrator.build.options import arguments
from orchestrator.build.seeds import Stream, stream_seed
from orchestrator.catalog import ADJUSTMENTS, FEATURE_LOSSES, LOSSES, TEMPERATURES
from orchestrator.data import Images
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.features import FeatureTerm, Setup
from orchestrator.errors import RegistryError
from orchestrator.models.pairing import usual_layers
from orchestrator.models.taps import feature_shapes
from orchestrator.spec.base import PluginSection
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.spec.experiment import RunSpec
from orchestrator.spec.features import FeatureSection, FeatureSpec


def build_criterion(distillation: DistillationSpec) -> Criterion:
    """The loss of a `distillation` section."""
    return Criterion(
        distillation.ce_weight,
        distillation.kd_weight,
        TEMPERATURES[distillation.temperature.method](**arguments(distillation.temperature, "method")),
        ADJUSTMENTS[distillation.adjustment.rule](**arguments(distillation.adjustment, "rule")),
        LOSSES[distillation.loss.method](**arguments(distillation.loss, "method")),
        distillation.logit_standardization,
        distillation.warmup_epochs,
    )


def build_features(
    run: RunSpec, student: nn.Module, teacher: nn.Module, train: Images, device: torch.device
) -> tuple[FeatureTerm, ...]:
    """The feature losses of a run, for networks on `device`; their initial weights depend on the seed alone.

    Raises `RegistryError` that names the entry whose layers do not exist or do not suit its method.
    """
    terms = []
    for number, section in enumerate(run.distillation.features):
        try:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(stream_seed(run.seed, Stream.FEATURE_INIT))
                term = _feature_term(section, student, teacher, train, device)
                # Review's usual rise may be longer than the training; where it is set, the spec's check refuses that.
                terms.append(replace(term, warmup_epochs=min(term.warmup_epochs, run.training.epochs)))
        except RegistryError as error:
            raise RegistryError(f"distillation.features.{number}: {error.message}", hint=error.hint) from error
        except ValueError as error:
            raise RegistryError(f"distillation.features.{number}: {error}") from error
    return tuple(terms)


def _feature_term(
    section: FeatureSpec, student: nn.Module, teacher: nn.Module, train: Images, device: torch.device
) -> FeatureTerm:
    factory = FEATURE_LOSSES[section.method]
    usual = getattr(factory, "default_layers", "stages")
    example = torch.zeros(1, *train.images.shape[1:], device=device)
    networks, layers = (student, teacher), [section.layers or (), section.teacher_layers or ()]
    if not all(layers):
        found = usual_layers(usual, student, teacher, example)
        layers = [given or own for given, own in zip(layers, found, strict=True)]
    shapes = [feature_shapes(network, wanted, example) for network, wanted in zip(networks, layers, strict=True)]
    shapes_student, shapes_teacher = (
        [found[layer] for layer in wanted] for found, wanted in zip(shapes, layers, strict=True)
    )
    setup = Setup(shapes_student, shapes_teacher, train.labels.cpu())
    shared = set(FeatureSection.model_fields)
    options = section.options if isinstance(section, PluginSection) else section.model_dump(exclude={"method", *shared})
    loss = factory(setup, **options).to(device)
    return FeatureTerm(section.method, loss, section.weight, tuple(layers[0]), tuple(layers[1]), section.warmup_epochs)
