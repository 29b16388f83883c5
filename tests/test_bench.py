"""Benchmarks say what they measure and have a short form; what a user cannot run everywhere runs here in small."""

import ast
import importlib
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from orchestrator.data import load_dataset

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted((ROOT / "bench").glob("*.py"))
HELPS = ["scaling_model", "browser"]
"""What others use: it predicts from their figures, or shows them pages."""


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_says_what_it_measures_and_has_a_short_form(script: Path) -> None:
    source = script.read_text()
    assert len(ast.get_docstring(ast.parse(source)) or "") > 60
    assert ("--quick" in source) == (script.stem not in HELPS)


def test_make_runs_all_in_their_short_form() -> None:
    done = subprocess.run(["make", "--dry-run", "bench"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "grep -l -e --quick bench/*.py" in done.stdout
    assert "$script --quick" in done.stdout


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Imports a script, as another one does."""
    monkeypatch.syspath_prepend(ROOT / "bench")
    for name in ("OMP_NUM_THREADS", "TORCHINDUCTOR_FORCE_DISABLE_CACHES"):
        # Scripts set these for themselves.
        monkeypatch.setenv(name, "1")
    return importlib.import_module


def test_the_plain_loop_beside_which_a_trial_is_measured(script: Callable[[str], ModuleType], tmp_path: Path) -> None:
    assert script("trial_overhead").work(tmp_path, 2) > 0


def test_the_plain_loop_of_a_gpu_has_workers_in_its_process(script: Callable[[str], ModuleType]) -> None:
    gpu, device = script("gpu"), torch.device("cpu")
    rows = {gpu.PLAIN: gpu.rows(device, 1)[gpu.PLAIN]}
    taken, first = gpu.step_speed.seconds(rows, 16, 32, 1, wall=True)
    assert len(taken[gpu.PLAIN]) == 1
    assert first[gpu.PLAIN] > 0


def test_a_gpus_learners_reach_an_accuracy_side_by_side(
    script: Callable[[str], ModuleType], capsys: pytest.CaptureFixture[str]
) -> None:
    data = load_dataset("digits")
    few = replace(data, train=data.train.take(torch.arange(100)))
    script("gpu").accuracy(torch.device("cpu"), few, 1.0, 3, 50, 0)
    title, *rows = capsys.readouterr().out.strip().splitlines()
    assert title.startswith("digits, 1 %")
    assert [row[:20].strip() for row in rows] == ["plain loop", "float32", "bf16"]
    assert not [row for row in rows if "not far enough" in row]
