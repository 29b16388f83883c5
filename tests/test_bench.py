"""Benchmarks keep working: each says what it measures, has a short form, and calls what there is."""

import ast
import importlib.util
import subprocess
from pathlib import Path

import pytest

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


def test_the_plain_loop_beside_which_a_trial_is_measured(tmp_path: Path) -> None:
    spec = importlib.util.spec_from_file_location("trial_overhead", ROOT / "bench" / "trial_overhead.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.work(tmp_path, 2) > 0
