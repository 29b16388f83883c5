"""Which device a process trains on, and how much of it, by what Ray has granted it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from orchestrator.errors import ResourceError
from orchestrator.execution import device


@pytest.fixture
def granted(monkeypatch):
    """Grants GPUs, and tells what becomes of their memory."""
    shares: list[tuple[float, torch.device]] = []

    def grant(numbers: list[int], usable: bool, gpus: float = 1.0) -> list[tuple[float, torch.device]]:
        context = SimpleNamespace(get_assigned_resources=lambda: {"CPU": 1.0, "GPU": gpus})
        monkeypatch.setattr(device.ray, "get_gpu_ids", lambda: numbers)
        monkeypatch.setattr(device.ray, "get_runtime_context", lambda: context)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: usable)
        monkeypatch.setattr(
            torch.cuda, "set_per_process_memory_fraction", lambda share, where: shares.append((share, where))
        )
        return shares

    return grant


@pytest.mark.parametrize(
    ("numbers", "usable", "expected"),
    [([], False, "cpu"), ([], True, "cpu"), ([3], True, "cuda:0"), ([3, 5], True, "cuda:0")],
)
def test_a_gpu_is_used_where_ray_has_granted_one(granted, numbers: list[int], usable: bool, expected: str) -> None:
    shares = granted(numbers, usable, float(len(numbers)))
    assert device.granted_device() == torch.device(expected)
    assert not shares


def test_a_share_of_a_gpu_is_a_share_of_its_memory(granted) -> None:
    shares = granted([3], True, 0.25)
    second = torch.device("cuda", 1)
    assert device.granted_device(second) == second
    assert shares == [(0.25, second)]


def test_a_gpu_that_torch_cannot_use_is_said(granted) -> None:
    granted([0], False)
    with pytest.raises(ResourceError, match=r"resources\.gpus_per_worker"):
        device.granted_device(torch.device("cpu"))
