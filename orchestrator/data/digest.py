"""A short name for a set of labelled images, by what is in it."""

from __future__ import annotations

import hashlib

import torch

from orchestrator.data.images import Images

SAMPLE = 1024
"""Images whose pixels count."""


def quick_digest(data: Images) -> str:
    """Sixteen hex digits of the shape, of all labels in their order, and of up to `SAMPLE` images, evenly spaced.

    Sets that differ in a few other pixels alone have the same one: it costs milliseconds for a set of any size.
    """
    chosen = torch.linspace(0, len(data) - 1, min(len(data), SAMPLE), device=data.images.device).long()
    found = hashlib.sha256(repr(tuple(data.images.shape)).encode())
    for part in (data.labels, data.images.index_select(0, chosen)):
        found.update(part.cpu().contiguous().numpy().data)
    return found.hexdigest()[:16]
