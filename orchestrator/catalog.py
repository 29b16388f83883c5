"""What can be named in a spec, and where each lives; reading the names imports none of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple

from orchestrator.registry import Family, Registry

Factory = Callable[..., Any]
TORCHVISION = "torchvision/"
"""What begins the name of a model that torchvision has."""


def _is_wide_resnet(name: str) -> bool:
    match = re.fullmatch(r"wrn_([1-9]\d*)_([1-9]\d*)", name)
    return match is not None and int(match[1]) > 4 and int(match[1]) % 6 == 4


MODELS: Registry[Factory] = Registry(
    "model",
    {
        **{
            f"resnet{form}": f"orchestrator.models.resnet:resnet{form}"
            for form in ("8", "14", "20", "32", "44", "56", "110", "8x4", "32x4", "18", "34", "50")
        },
        **{f"vgg{depth}": f"orchestrator.models.vgg:vgg{depth}" for depth in (8, 11, 13, 16, 19)},
        "mobilenet_v2": "orchestrator.models.mobilenet:MobileNetV2",
        "shufflenet_v1": "orchestrator.models.shufflenet:ShuffleNetV1",
        "shufflenet_v2": "orchestrator.models.shufflenet:ShuffleNetV2",
    },
    families=[
        Family(
            f"{TORCHVISION}<name>",
            lambda name: name.startswith(TORCHVISION) and name != TORCHVISION,
            "orchestrator.models.torchvision_models:by_name",
        ),
        Family("wrn_<6n+4>_<k>", _is_wide_resnet, "orchestrator.models.wide_resnet:by_name"),
    ],
)
DATASETS: Registry[Factory] = Registry(
    "dataset",
    {
        "arrays": "orchestrator.data.arrays:load_arrays",
        "cifar10": "orchestrator.data.cifar:load_cifar10",
        "cifar100": "orchestrator.data.cifar:load_cifar100",
        "cinic10": "orchestrator.data.cinic10:load_cinic10",
        "digits": "orchestrator.data.digits:load_digits",
        "fashion-mnist": "orchestrator.data.fashion_mnist:load_fashion_mnist",
        "image-folder": "orchestrator.data.image_folder:load_image_folder",
        "tiny-imagenet": "orchestrator.data.tiny_imagenet:load_tiny_imagenet",
    },
)


class DatasetFacts(NamedTuple):
    """What is the same of a data set wherever it is."""

    images: int
    """For training, validation included."""
    classes: int
    channels: int
    pixels: int
    """Height and width."""


DATASET_FACTS = {
    "cifar10": DatasetFacts(50_000, 10, 3, 32),
    "cifar100": DatasetFacts(50_000, 100, 3, 32),
    "cinic10": DatasetFacts(90_000, 10, 3, 32),
    "digits": DatasetFacts(1438, 10, 1, 8),
    "fashion-mnist": DatasetFacts(60_000, 10, 1, 28),
    "tiny-imagenet": DatasetFacts(100_000, 200, 3, 64),
}
"""To check specs and tell sizes by, without loading anything."""
TEMPERATURES: Registry[Factory] = Registry(
    "temperature",
    {
        "constant": "orchestrator.distillation.temperature:ConstantTemperature",
        "flsw": "orchestrator.distillation.temperature:FLSWTemperature",
        "cwsm": "orchestrator.distillation.temperature:CWSMTemperature",
    },
)
ADJUSTMENTS: Registry[Factory] = Registry(
    "adjustment",
    {
        "none": "orchestrator.distillation.adjustment:NoAdjustment",
        "probability_shift": "orchestrator.distillation.adjustment:ProbabilityShift",
        "label_smoothing": "orchestrator.distillation.adjustment:LabelSmoothing",
    },
)
LOSSES: Registry[Factory] = Registry(
    "loss",
    {
        "kd": "orchestrator.distillation.logit_loss:SoftTargets",
        "dkd": "orchestrator.distillation.decoupled:DecoupledKD",
        "dist": "orchestrator.distillation.correlation:Correlation",
    },
)
FEATURE_LOSSES: Registry[Factory] = Registry(
    "feature",
    {
        "fitnet": "orchestrator.distillation.features.fitnet:FitNet",
        "attention_transfer": "orchestrator.distillation.features.attention:AttentionTransfer",
        "nst": "orchestrator.distillation.features.nst:NeuronSelectivity",
        "sp": "orchestrator.distillation.features.similarity:SimilarityPreserving",
        "rkd": "orchestrator.distillation.features.relational:Relational",
        "pkt": "orchestrator.distillation.features.pkt:ProbabilisticTransfer",
        "vid": "orchestrator.distillation.features.vid:Variational",
        "crd": "orchestrator.distillation.features.crd:Contrastive",
        "review": "orchestrator.distillation.features.review:Review",
    },
)
OPTIMIZERS: Registry[Factory] = Registry(
    "optimizer",
    {"sgd": "orchestrator.training.optim:sgd", "adamw": "orchestrator.training.optim:adamw"},
)
SCHEDULES: Registry[Factory] = Registry(
    "schedule",
    {
        "constant": "orchestrator.training.optim:constant",
        "step": "orchestrator.training.optim:step",
        "cosine": "orchestrator.training.optim:cosine",
    },
)
