"""What LA and DTD add to a step of standard KD: the paper's claim that they cost no extra training time.

First the losses alone, forward and backward, on the logits of a batch; then whole training steps, in which a ResNet-56
teaches a ResNet-20 on 3 x 32 x 32 images of 100 classes in batches of 64. The arms take turns, in a new order each
round. Times are medians: on a CPU the CPU time of one thread, on a GPU the time until the device is done. The ratio of
steps is the median of each round's ratio to plain KD; `losses / step` is what the losses alone add, in the share of
a plain KD step, and has far less noise than the difference of two steps.
"""

from __future__ import annotations

import argparse
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Mapping

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch

from orchestrator.build import build_criterion
from orchestrator.data import Augmentation, Images
from orchestrator.distillation.criterion import Criterion
from orchestrator.models import build_model
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.training import TrainingData, TrainingRun, TrainingSettings, World
from orchestrator.training.optim import constant, sgd

BATCH, CLASSES, SIZE = 64, 100, 32
STEPS = 2
"""Of one turn of one arm."""
FLSW, CWSM = ({"method": method, "beta": 20.0} for method in ("flsw", "cwsm"))
PS, LSR = ({"rule": rule} for rule in ("probability_shift", "label_smoothing"))
LOSSES: dict[str, dict[str, object]] = {
    "kd": {},
    "la-ps": {"adjustment": PS},
    "la-lsr": {"adjustment": LSR},
    "dtd-flsw": {"temperature": FLSW},
    "dtd-cwsm": {"temperature": CWSM},
    "la-ps + dtd-flsw": {"adjustment": PS, "temperature": FLSW},
    "la-lsr + dtd-cwsm": {"adjustment": LSR, "temperature": CWSM},
    "standardised kd": {"logit_standardization": True},
    "dkd": {"loss": {"method": "dkd"}},
    "dist": {"loss": {"method": "dist"}},
    "la-ps + dtd-flsw + dkd + standardised": {
        "adjustment": PS,
        "temperature": FLSW,
        "loss": {"method": "dkd"},
        "logit_standardization": True,
    },
}
STEP_ARMS = ("kd", "la-ps + dtd-flsw", "la-lsr + dtd-cwsm")


def criterion(name: str) -> Criterion:
    return build_criterion(DistillationSpec.model_validate(LOSSES[name]))


def rounds(turns: Mapping[str, Callable[[], None]], count: int, device: torch.device) -> dict[str, list[float]]:
    """Seconds of each arm's turn in each of `count` rounds, after two rounds that are not counted."""
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    order, shuffle = list(turns), random.Random(0).shuffle
    seconds: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(count + 2):
        shuffle(order)
        for name in order:
            started = clock()
            turns[name]()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number >= 2:
                seconds[name].append(clock() - started)
    return seconds


def loss_turn(name: str, repeats: int, device: torch.device) -> Callable[[], None]:
    """`repeats` times forward and backward of a criterion."""
    made = criterion(name)
    generator = torch.Generator().manual_seed(0)
    student, teacher = (3 * torch.randn(2, BATCH, CLASSES, generator=generator)).to(device)
    target = torch.randint(CLASSES, (BATCH,), generator=generator).to(device)
    student.requires_grad_()

    def turn() -> None:
        for _ in range(repeats):
            torch.autograd.grad(made(student, teacher, target).total, student)

    return turn


def step_turn(name: str, device: torch.device) -> Callable[[], None]:
    """`STEPS` training steps, with augmentation, teacher, optimizer and metrics."""
    torch.manual_seed(0)
    student, teacher = (
        build_model(model, num_classes=CLASSES, in_channels=3).to(device) for model in ("resnet20", "resnet56")
    )
    count = BATCH * STEPS
    images = Images(torch.randint(256, (count, 3, SIZE, SIZE), dtype=torch.uint8), torch.randint(CLASSES, (count,)))
    never = 1_000_000
    run = TrainingRun(
        student,
        criterion(name),
        sgd(student.parameters(), lr=0.05),
        constant(never),
        TrainingSettings(epochs=never, batch_size=BATCH, seed=0, eval_every=never),
        TrainingData(images, images, (0.5, 0.5, 0.5), (0.25, 0.25, 0.25), Augmentation(4, True)),
        teacher=teacher,
        world=World(device=device),
    )

    def turn() -> None:
        run.train_epoch()

    return turn


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds: does it run, not what does it cost")
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    torch.set_num_threads(1)
    loss_rounds, repeats, step_rounds = (5, 5, 2) if arguments.quick else (40, 20, 30)

    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"one thread, {platform.machine()}"
    print(f"torch {torch.__version__}, {where}; batches of {BATCH} x {CLASSES} logits")
    alone = rounds({name: loss_turn(name, repeats, device) for name in LOSSES}, loss_rounds, device)
    steps = rounds({name: step_turn(name, device) for name in STEP_ARMS}, step_rounds, device)
    step = statistics.median(steps["kd"]) / STEPS
    losses = {name: statistics.median(seconds) / repeats for name, seconds in alone.items()}

    print(f"\n{'loss alone':40} {'ms':>8} {'added ms':>9} {'losses / step':>14}")
    for name, seconds in losses.items():
        added = seconds - losses["kd"]
        print(f"{name:40} {1000 * seconds:8.3f} {1000 * added:+9.3f} {added / step:+14.2%}")
    print(f"\n{'whole step':40} {'ms':>8} {'ratio':>9}   middle half of rounds")
    for name, seconds in steps.items():
        ratios = [one / plain for one, plain in zip(seconds, steps["kd"], strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        print(f"{name:40} {1000 * statistics.median(seconds) / STEPS:8.2f} {middle:9.4f}   {low:.4f} to {high:.4f}")


if __name__ == "__main__":
    main()
