"""What a trial's actor does with a trial that fails, without Ray."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from orchestrator import load_spec
from orchestrator.errors import OrchestratorError
from orchestrator.execution import runner
from orchestrator.execution.job import FAILURE, MEMORY
from orchestrator.machine import Machine
from orchestrator.store.home import Home
from orchestrator.tracking.memory import MemoryTracker
from tests.execution.conftest import SPEC

pytest.importorskip("ray")

from ray.exceptions import RayTaskError

from orchestrator.execution.adapters import DriverCallback
from orchestrator.execution.trial import DistillationTrainable

ASSERT = "CUDA error: device-side assert triggered\nCompile with TORCH_USE_CUDA_DSA"


def failing(folder: Path, error: Exception) -> Any:
    """A trainable whose trial fails."""

    def fail() -> None:
        raise error

    made = object.__new__(DistillationTrainable)
    made._job = SimpleNamespace(folder=str(folder))  # type: ignore[assignment]
    made._train = fail  # type: ignore[method-assign,assignment]
    return made


@pytest.mark.parametrize("error", [RuntimeError(ASSERT), torch.cuda.AcceleratorError(ASSERT)], ids=["old", "new"])
def test_a_process_whose_gpu_is_lost_ends_with_its_trial(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(OrchestratorError, match=r"^CUDA error: device-side assert triggered$"):
        failing(tmp_path, error).step()
    assert "Compile with" in (tmp_path / "error.txt").read_text()


@pytest.mark.parametrize(
    ("error", "memory"),
    [
        (ValueError("no"), False),
        (RuntimeError("no"), False),
        (torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.50 GiB."), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: out of memory"), True),
    ],
    ids=str,
)
def test_what_else_fails_is_a_result_and_the_process_goes_on(tmp_path: Path, error: Exception, memory: bool) -> None:
    result = failing(tmp_path, error).step()
    assert (result["done"], result[MEMORY]) == (True, memory)
    assert result[FAILURE]


def test_the_reason_of_a_death_is_what_the_process_raised() -> None:
    told: list[str] = []
    driver: Any = SimpleNamespace(on_death=lambda trial, reason: told.append(reason))
    raised = RayTaskError("train", "Traceback", OrchestratorError("CUDA error: it is lost"), "ray", 1, "ip")
    trial = SimpleNamespace(trial_id="t", error_file=None, get_pickled_error=raised.make_dual_exception_instance)
    DriverCallback(driver).on_trial_error(1, [trial], trial)
    assert told == ["CUDA error: it is lost"]


@pytest.mark.parametrize(("workers", "looked"), [(1, False), (2, True)])
def test_gpus_that_torch_cannot_use_are_told_before_ray_train_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int, looked: bool
) -> None:
    def look(*_: Any) -> None:
        raise OrchestratorError("looked first")

    def train(*_: Any) -> None:
        raise OrchestratorError("trained at once")

    machine = Machine(cpus=2, gpus=2)
    monkeypatch.setattr(runner, "this_machine", lambda: machine)
    monkeypatch.setattr(runner, "ray_session", lambda *_: contextlib.nullcontext(machine))
    monkeypatch.setattr(runner, "preflight", look)
    monkeypatch.setattr(runner, "_run_trials", train)
    changes = {"resources": {"num_workers": workers, "gpus_per_worker": 1}, "student.norm": "group"}
    with pytest.raises(OrchestratorError, match="looked first" if looked else "trained at once"):
        runner.run_experiment(load_spec(SPEC, changes), Home(tmp_path), tracker=MemoryTracker())
