"""An installed package of its own adds a loss, a feature loss, a model and a data set, which a spec then names."""

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
GROUPS = {
    "losses": "absolute = my_package:Absolute",
    "features": "centres = my_package:Centres",
    "models": "linear = my_package:linear",
    "datasets": "dots = my_package:load_dots",
}
OTHERS = '''
import torch
from torch import nn

from orchestrator.data import Dataset, Images
from orchestrator.distillation.features import FeatureLoss


class Centres(FeatureLoss):
    """The mean activation of each sample."""

    default_layers = "embedding"

    def compute(self, student, teacher, batch):
        gaps = [(s.mean(1) - t.mean(1)).square() for s, t in zip(student, teacher)]
        return batch.workers.share_of_mean(sum(gaps))


class Linear(nn.Module):
    feature_layers = ("flat",)
    classifier_layer = "head"

    def __init__(self, channels, classes):
        super().__init__()
        self.flat = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(16 * channels, 8))
        self.head = nn.Linear(8, classes)

    def forward(self, images):
        return self.head(self.flat(images))


def linear(num_classes, in_channels=3, **others):
    return Linear(in_channels, num_classes)


def load_dots(root, verify):
    draws = torch.Generator().manual_seed(0)
    labels = torch.arange(40) % 2
    images = torch.randint(0, 100, (40, 1, 6, 6), generator=draws) + 100 * labels[:, None, None, None]
    part = Images(images.to(torch.uint8), labels)
    return Dataset("dots", part, part, ("dark", "bright"), (0.5,), (0.25,), flip=False, crop_padding=0)
'''
TRIAL = """
import torch
from orchestrator import build, load_spec
from orchestrator.spec.variants import variants

spec = load_spec({
    "name": "plugins",
    "data": {"dataset": "dots"},
    "teacher": {"model": "linear"},
    "student": {"model": "linear"},
    "distillation": {
        "temperature": {"method": "flsw"},
        "adjustment": {"rule": "probability_shift"},
        "loss": {"method": "absolute", "options": {"weight": 0.5}},
        "features": [{"method": "centres", "weight": 2.0}],
    },
    "training": {"epochs": 1, "batch_size": 8},
})
run = variants(spec)[0].run
splits = build.build_splits(run, build.load_data(run.data), 0)
training = build.build_student_run(run, splits, build.build_teacher(run, splits.dataset))
metrics = training.train_epoch()
total = 0.1 * metrics["train/loss_ce"] + 0.9 * metrics["train/loss_kd"] + 2 * metrics["train/loss_centres"]
assert abs(total - metrics["train/loss"]) < 1e-4, metrics
assert metrics["train/loss_kd"] > 0 and metrics["train/loss_centres"] > 0, metrics
print("trained", type(training.criterion.loss).__name__, training.criterion.loss.weights)
"""


def test_an_installed_package_adds_methods(tmp_path: Path) -> None:
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    shown = re.search(r"```python\n(.*?)```", contributing, re.DOTALL)
    assert shown is not None
    (tmp_path / "my_package.py").write_text(shown[1] + OTHERS)
    installed = tmp_path / "my_package-1.0.dist-info"
    installed.mkdir()
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    points = "".join(f"[orchestrator.{group}]\n{line}\n" for group, line in GROUPS.items())
    (installed / "entry_points.txt").write_text(points)

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
    documented = set(re.findall(r"\| `(orchestrator\.\w+)` \|", (ROOT / "CONTRIBUTING.md").read_text()))
    # Specs have no `options` for these two.
    assert documented == groups - {"orchestrator.optimizers", "orchestrator.schedules"}
    assert {f"orchestrator.{group}" for group in GROUPS} <= documented
