import pytest
import torch

from orchestrator.errors import ResourceError
from orchestrator.training import resolve_precision
from orchestrator.training.precision import autocast

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("requested", "device", "capability", "expected"),
    [
        ("auto", CPU, None, "float32"),
        ("bf16", CPU, None, "bf16"),
        ("float32", CUDA, (9, 0), "float32"),
        ("auto", CUDA, (8, 0), "bf16"),
        ("auto", CUDA, (7, 5), "float32"),
        ("bf16", CUDA, (9, 0), "bf16"),
    ],
)
def test_the_precision_fits_request_and_device(
    requested: str,
    device: torch.device,
    capability: tuple[int, int] | None,
    expected: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    precision, reason = resolve_precision(requested, device)
    assert precision == expected
    assert reason


def test_bf16_without_support_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    with pytest.raises(ResourceError, match="cuda:0 cannot compute in bf16"):
        resolve_precision("bf16", CUDA)


def test_autocast_acts_for_bf16_only() -> None:
    layer, inputs = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    with autocast("float32", CPU):
        assert layer(inputs).dtype == torch.float32
    with autocast("bf16", CPU):
        assert layer(inputs).dtype == torch.bfloat16
