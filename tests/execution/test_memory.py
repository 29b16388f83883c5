"""Memory that ran out: how that is told apart, and what is advised."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from orchestrator import load_spec
from orchestrator.errors import BuildError
from orchestrator.execution import memory
from orchestrator.execution.failing import failed
from orchestrator.execution.job import FAILURE, FATAL, LASTING, MEMORY
from orchestrator.execution.memory import KernelKills, advice, in_short, ran_out
from orchestrator.search.plan import make_plan
from orchestrator.spec.resources import ResourcesSpec

SPEC = {
    "name": "a",
    "data": {"dataset": "digits"},
    "teacher": {"model": "resnet8", "training": {"batch_size": 16}},
    "student": {"model": "resnet8"},
    "training": {"batch_size": 128},
}
CUDA = (
    "CUDA out of memory. Tried to allocate 2.50 GiB. GPU 0 has a total capacity of 139.72 GiB of which 1.2 GiB is free."
)


def too_large() -> RuntimeError:
    """What torch raises where the memory of this machine is not enough."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**55)
    return caught.value


def test_what_torch_raises_on_a_cpu_is_told_with_its_size() -> None:
    assert ran_out(too_large())
    assert in_short(too_large()) == "out of memory, asking for 1.44e+08 GB more"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (torch.cuda.OutOfMemoryError(CUDA), "out of memory, asking for 2.50 GiB more"),
        (MemoryError(), "out of memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "out of memory"),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), "out of memory"),
        (RuntimeError("std::bad_alloc"), "out of memory"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_is_told(error: Exception, told: str, tmp_path: Path) -> None:
    result = failed(error, str(tmp_path / "t"))
    assert (result[FAILURE], result[MEMORY], result[FATAL], result[LASTING]) == (told, True, False, False)
    assert type(error).__name__ in (tmp_path / "t" / "error.txt").read_text()


def test_what_memory_was_the_cause_of_is_no_fault_of_the_spec(tmp_path: Path) -> None:
    try:
        raise BuildError("variant 'kd' cannot be built") from too_large()
    except BuildError as error:
        result = failed(error, str(tmp_path))
    assert (result[MEMORY], result[FATAL]) == (True, False)


@pytest.mark.parametrize("error", [ValueError("out of memory"), RuntimeError("no"), OSError(errno.ENOENT, "no")])
def test_other_errors_are_not(error: Exception, tmp_path: Path) -> None:
    assert not failed(error, str(tmp_path))[MEMORY]


def test_a_kill_by_the_kernel_is_told_once_for_each_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = tmp_path / "vmstat"
    monkeypatch.setattr(memory, "VMSTAT", counts)
    counts.write_text("nr_free_pages 7\noom_kill 3\n")
    kills = KernelKills()
    assert not kills.new()
    counts.write_text("nr_free_pages 7\noom_kill 5\n")
    assert [kills.new() for _ in range(3)] == [True, True, False]


def test_a_system_that_does_not_count_has_no_kills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "VMSTAT", tmp_path / "none")
    assert not KernelKills().new()


def advised(changes: dict[str, object], concurrent: int = 1, *, distils: bool = True) -> str:
    spec = load_spec(SPEC, changes)
    return advice(make_plan(spec).arms[0].variant.run, spec.resources, concurrent, distils=distils)


def test_what_leaves_the_experiment_as_it_is_comes_first() -> None:
    assert advised({}, concurrent=3) == (
        "try fewer trials at once (resources.max_concurrent_trials, now 3); or, as another experiment, a smaller "
        "training.batch_size (now 128), a larger training.accumulation (now 1) or training.precision: bf16"
    )
    shared = advised({"resources.gpus_per_worker": 0.5}, concurrent=2)
    assert "a larger share of a GPU (resources.gpus_per_worker, now 0.5)" in shared
    assert "max_concurrent_trials" not in advised({"resources": ResourcesSpec(gpus_per_worker=1).model_dump()}, 8)


def test_only_what_the_spec_could_do_is_advised() -> None:
    assert "max_concurrent_trials" not in advised({})
    assert "accumulation" not in advised({"distillation.temperature": {"method": "flsw", "base": 4}})
    assert "bf16" not in advised({"training.precision": "bf16"})
    assert "keep: stored" in advised({"distillation.teacher_logits.keep": "live"})
    teacher = advised({}, distils=False)
    assert "teacher.training.batch_size (now 16)" in teacher
