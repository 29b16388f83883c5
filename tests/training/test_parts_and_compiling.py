import os
import shutil
from typing import Any

import pytest
import torch
from torch import Tensor
from training_runs import DISTILL, NanAt, make_run, network, without_times

from orchestrator.distillation.adjustment import ProbabilityShift
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.errors import DivergenceError, ResourceError, UsageError
from orchestrator.training.process import require_compiler


def test_a_batch_in_parts_is_the_same_step() -> None:
    criterion = Criterion(0.3, 0.7, ConstantTemperature(4), ProbabilityShift())

    def trained(accumulation: int) -> tuple[dict[str, float], dict[str, Tensor]]:
        student, teacher = network(), network(seed=5)
        settings = {"accumulation": accumulation, "gradient_clip": 0.5}
        run = make_run(student, criterion, teacher=teacher, batch_size=48, settings=settings)
        return without_times(run.train_epoch()), student.state_dict()

    expected, weights = trained(1)
    # 48 + 48 + 5 samples: in the last step one part has no sample.
    for accumulation in (3, 6):
        metrics, same = trained(accumulation)
        assert metrics == pytest.approx(expected, rel=1e-4)
        for name, value in weights.items():
            torch.testing.assert_close(same[name], value, rtol=1e-3, atol=1e-6)


def test_parts_are_refused_where_samples_are_related() -> None:
    run = make_run(criterion=DISTILL, teacher=network(5), settings={"accumulation": 2})
    with pytest.raises(UsageError, match="relates all samples"):
        run.train_epoch()


def test_divergence_counts_steps_and_not_parts() -> None:
    run = make_run(criterion=NanAt(2 * 2 + 2), settings={"accumulation": 2})
    with pytest.raises(DivergenceError, match=r"epoch 1, step 3"):
        run.train_epoch()


@pytest.mark.skipif(shutil.which(os.environ.get("CXX", "g++")) is None, reason="no C++ compiler on this machine")
def test_a_compiled_teacher_teaches_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled, compile_ = [], torch.compile

    def seen(module: Any, **options: Any) -> Any:
        compiled.append((module, options))
        return compile_(module, **options)

    require_compiler.cache_clear()
    monkeypatch.setattr(torch, "compile", seen)
    student, teacher = network(), network(5)
    run = make_run(student, DISTILL, teacher=teacher, settings={"compile": True})
    # The first shows that there is a compiler. On a processor the student is left as it is.
    assert compiled[1:] == [(teacher, {"options": {"freezing": True}})]
    expected = make_run(network(), DISTILL, teacher=network(5)).train_epoch()
    assert without_times(run.train_epoch()) == pytest.approx(without_times(expected), rel=1e-3, abs=1e-4)


def test_a_missing_compiler_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("No working C++ compiler found")

    require_compiler.cache_clear()
    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(ResourceError, match=r"training\.compile is true.*No working"):
        make_run(settings={"compile": True})
