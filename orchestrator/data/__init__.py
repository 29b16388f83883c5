"""Data sets as uint8 tensors: loading, splits, and augmentation that runs where the tensors are."""

from orchestrator.data.augment import Augmentation, normalise
from orchestrator.data.draws import uniform
from orchestrator.data.images import Dataset, Images, load_dataset
from orchestrator.data.split import stratified_split, stratified_subset

__all__ = [
    "Augmentation",
    "Dataset",
    "Images",
    "load_dataset",
    "normalise",
    "stratified_split",
    "stratified_subset",
    "uniform",
]
