"""What `make` installs for what: whoever only runs experiments needs none of the tests' packages."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize(
    ("target", "needs_tests_packages"),
    [("setup", False), ("run", False), ("test", True), ("lint", True), ("bench", True)],
)
def test_a_target_installs_what_it_needs(tmp_path: Path, target: str, needs_tests_packages: bool) -> None:
    done = subprocess.run(
        ["make", "--dry-run", target, f"VENV={tmp_path}/new"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    installed = [line for line in done.stdout.splitlines() if "pip install" in line]
    assert "--constraint constraints.txt --editable '.[hyperopt,cmaes]'" in installed[0]
    assert any("'.[dev]'" in line for line in installed) == needs_tests_packages
