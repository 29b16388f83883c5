"""Distillation on features: losses between what student and teacher compute before their logits.

Symbols in docstrings: s and t are the features of student and teacher at one layer, maps [B, C, H, W] or vectors
[B, D], B samples; S and T are the student's and the teacher's. Every loss is of the global batch, whatever the
number of workers: losses of one sample are averaged over all workers' samples, losses between samples see the
samples of all workers. All of it computes in float32, or float64 for float64 features, also under autocast.
"""

from orchestrator.distillation.features.base import DefaultLayers, FeatureLoss, FeatureTerm, Setup, Shape

__all__ = ["DefaultLayers", "FeatureLoss", "FeatureTerm", "Setup", "Shape"]
