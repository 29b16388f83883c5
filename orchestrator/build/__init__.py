"""The one bridge from spec sections to torch objects."""

from orchestrator.build.data import Splits, build_augmentation, build_splits, build_views, load_data
from orchestrator.build.losses import build_criterion, build_features
from orchestrator.build.networks import (
    NetworkSize,
    blueprint,
    build_network,
    build_teacher,
    join_teachers,
    load_teacher,
    network_size,
)
from orchestrator.build.runs import build_student_run, build_teacher_run, try_out

__all__ = [
    "NetworkSize",
    "Splits",
    "blueprint",
    "build_augmentation",
    "build_criterion",
    "build_features",
    "build_network",
    "build_splits",
    "build_student_run",
    "build_teacher",
    "build_teacher_run",
    "build_views",
    "join_teachers",
    "load_data",
    "load_teacher",
    "network_size",
    "try_out",
]
