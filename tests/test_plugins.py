"""The package of docs/extending.md, installed, adds a loss, a feature loss, a model and a data set; its spec trains."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "extending.md"
TRIAL = """
import torch
from orchestrator import build, load_spec
from orchestrator.spec.variants import variants

spec = load_spec("plugins.yaml")
run = variants(spec)[0].run
splits = build.build_splits(run, build.load_data(run.data), 0)
training = build.build_student_run(run, splits, build.build_teacher(run, splits.dataset))
metrics = training.train_epoch()
total = 0.1 * metrics["train/loss_ce"] + 0.9 * metrics["train/loss_kd"] + 2 * metrics["train/loss_centres"]
assert abs(total - metrics["train/loss"]) < 1e-4, metrics
assert metrics["train/loss_kd"] > 0 and metrics["train/loss_centres"] > 0, metrics
print("trained", type(training.criterion.loss).__name__, training.criterion.loss.weights)
"""


def shown(language: str) -> str:
    """All blocks of a language on the page, one after the other."""
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL))


def test_an_installed_package_adds_methods(tmp_path: Path) -> None:
    (tmp_path / "my_package.py").write_text(shown("python"))
    (tmp_path / "plugins.yaml").write_text(shown("yaml"))
    project = tomllib.loads(shown("toml"))["project"]
    installed = tmp_path / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    points = ((group, *point) for group, points in project["entry-points"].items() for point in points.items())
    (installed / "entry_points.txt").write_text("".join(f"[{group}]\n{name} = {at}\n" for group, name, at in points))

    path = os.pathsep.join([str(tmp_path), str(ROOT)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRIAL], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "trained Absolute {'absolute': 0.5}\n"), done.stderr


def test_the_groups_that_are_documented_are_those_of_the_registries() -> None:
    from orchestrator import catalog
    from orchestrator.registry import Registry

    groups = {value.group for value in vars(catalog).values() if isinstance(value, Registry)}
    documented = set(re.findall(r"\| `(orchestrator\.\w+)` \|", PAGE.read_text()))
    # Specs have no `options` for these two.
    assert documented == groups - {"orchestrator.optimizers", "orchestrator.schedules"}
    assert set(tomllib.loads(shown("toml"))["project"]["entry-points"]) <= documented
