"""Which device a process trains on, by what Ray has granted it."""

from __future__ import annotations

import pytest
import torch

from orchestrator.errors import ResourceError
from orchestrator.execution import device


@pytest.mark.parametrize(
    ("granted", "usable", "expected"),
    [([], False, "cpu"), ([], True, "cpu"), ([3], True, "cuda:0"), ([3, 5], True, "cuda:0")],
)
def test_a_gpu_is_used_where_ray_has_granted_one(monkeypatch, granted: list[int], usable: bool, expected: str) -> None:
    monkeypatch.setattr(device.ray, "get_gpu_ids", lambda: granted)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
    assert device.granted_device() == torch.device(expected)


def test_a_gpu_that_torch_cannot_use_is_said(monkeypatch) -> None:
    monkeypatch.setattr(device.ray, "get_gpu_ids", lambda: [0])
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ResourceError, match=r"resources\.gpus_per_worker"):
        device.granted_device()
