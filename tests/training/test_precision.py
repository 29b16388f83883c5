import pytest
import torch
from torch import nn

from orchestrator.errors import ResourceError
from orchestrator.models import LARGE, build_model
from orchestrator.training import resolve_precision
from orchestrator.training.precision import autocast

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
PLAIN, GROUPED = nn.Conv2d(4, 4, 1), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 4, 1, groups=2))


@pytest.mark.parametrize(
    ("requested", "device", "capability", "expected"),
    [
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
    precision, reason = resolve_precision(requested, device, GROUPED, 1)
    assert precision == expected
    assert reason


@pytest.mark.parametrize(
    ("units", "network", "multiply_adds", "expected", "reason"),
    [
        ({"avx512_bf16": True}, PLAIN, LARGE, "bf16", "auto: this processor has avx512_bf16, and 5 million"),
        ({"amx_bf16": True, "avx512_bf16": True}, PLAIN, 4 * 10**7, "bf16", "has amx_bf16, and 40 million"),
        ({"avx512_bf16": True}, PLAIN, LARGE - 1, "float32", "gains little"),
        ({"avx512_bf16": True}, GROUPED, LARGE, "float32", "grouped convolutions"),
        ({"avx512_bf16": False}, PLAIN, LARGE, "float32", "this processor has no bf16 units"),
        ({}, PLAIN, LARGE, "float32", "this processor has no bf16 units"),
    ],
)
def test_auto_on_a_processor_is_bf16_where_that_is_fast(
    units: dict[str, bool],
    network: nn.Module,
    multiply_adds: int,
    expected: str,
    reason: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: units)
    precision, why = resolve_precision("auto", CPU, network, multiply_adds)
    assert precision == expected
    assert reason in why
    assert resolve_precision("float32", CPU, network, multiply_adds) == ("float32", "asked for")


def test_bf16_without_support_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 0))
    with pytest.raises(ResourceError, match="cuda:0 cannot compute in bf16"):
        resolve_precision("bf16", CUDA, PLAIN, LARGE)


def test_autocast_acts_for_bf16_only() -> None:
    layer, inputs = torch.nn.Linear(2, 2), torch.zeros(1, 2)
    with autocast("float32", CPU):
        assert layer(inputs).dtype == torch.float32
    with autocast("bf16", CPU):
        assert layer(inputs).dtype == torch.bfloat16


def test_the_processors_units_are_known() -> None:
    network = build_model("resnet8", num_classes=10)
    assert resolve_precision("auto", CPU, network, LARGE)[0] in ("float32", "bf16")
    with torch.no_grad(), autocast("bf16", CPU):
        assert network(torch.zeros(1, 3, 8, 8)).dtype == torch.float32
