"""What bf16 changes on a processor: the time of a step by network, and what a student learns.

The first table has the CPU time of one thread that a network takes as a student (forward and backward) and as a teacher
(forward, folded where it is large), in batches of 64: `training.precision: auto` takes bf16 from the size on from which
both gain, and never for grouped convolutions.

The second trains students on Fashion-MNIST in float32 and in bf16, with the same teacher, seeds, images and order, by
KD and by KD with LA and DTD, and tells test accuracies and their differences seed by seed. It needs the data set's
files; see docs/data.md.
"""

from __future__ import annotations

import argparse
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import torch
from torch import nn

from orchestrator.build import build_criterion
from orchestrator.data import Augmentation, load_dataset, stratified_subset
from orchestrator.models import LARGE, build_model, flop_count
from orchestrator.models.folding import folded
from orchestrator.spec.distillation import DistillationSpec
from orchestrator.training import Precision, TrainingData, TrainingRun, TrainingSettings, evaluate
from orchestrator.training.optim import cosine, sgd
from orchestrator.training.precision import autocast
from orchestrator.training.process import prepare_process

CPU = torch.device("cpu")
PRECISIONS: tuple[Precision, Precision] = ("float32", "bf16")
BATCH = 64
NETWORKS: tuple[tuple[str, float, int, int, int], ...] = (
    ("resnet8", 0.25, 1, 8, 1),
    ("resnet8", 0.25, 1, 28, 2),
    ("resnet8", 0.25, 1, 28, 1),
    ("resnet14", 1, 1, 8, 1),
    ("resnet8", 1, 1, 28, 2),
    ("vgg8", 0.25, 3, 32, 1),
    ("resnet20", 0.5, 3, 32, 1),
    ("resnet8", 1, 3, 32, 1),
    ("wrn_16_1", 1, 3, 32, 1),
    ("resnet20", 1, 3, 32, 1),
    ("wrn_16_2", 1, 3, 32, 1),
    ("resnet8x4", 1, 3, 32, 1),
    ("mobilenet_v2", 1, 3, 32, 2),
    ("shufflenet_v1", 1, 3, 32, 1),
    ("shufflenet_v2", 1, 3, 32, 1),
)
"""Name, width, channels and side of the images, stride of the stem."""
METHODS: dict[str, dict[str, Any]] = {
    "kd": {"temperature": {"method": "constant", "base": 4.0}},
    "la-ps+dtd-flsw": {
        "temperature": {"method": "flsw", "base": 4.0, "beta": 20.0, "min": 1.0, "max": 12.0},
        "adjustment": {"rule": "probability_shift"},
    },
}
TEACHER_IMAGES, STUDENT_IMAGES = 6000, 1000
TEACHER_EPOCHS, STUDENT_EPOCHS = 6, 20


def speeds(rounds: int) -> None:
    head = f"{'network':14} {'width':>5} {'pixels':>6} {'multiply-adds':>13}"
    print(f"{head}   {'student ms':>10} {'bf16':>6}   {'teacher ms':>10} {'bf16':>6}")
    for name, width, channels, side, stride in NETWORKS:
        torch.manual_seed(0)
        network = build_model(name, num_classes=100, in_channels=channels, width=width, stem_stride=stride)
        images = torch.randn(BATCH, channels, side, side)
        multiply_adds = flop_count(network, (1, channels, side, side))
        network.to(memory_format=torch.channels_last)
        turns = [(pass_, precision) for pass_ in (student_step, teacher_pass) for precision in PRECISIONS]
        calls = [pass_(network, images, precision) for pass_, precision in turns]
        taken: list[list[float]] = [[] for _ in calls]
        for number in range(rounds + 1):
            for call, spent in zip(calls, taken, strict=True):
                seconds = timed(call)
                if number:
                    spent.append(seconds)
        student, student_bf16, teacher, teacher_bf16 = (1000 * statistics.median(spent) for spent in taken)
        line = f"{name:14} {width:5} {side:6} {multiply_adds / 1e6:12.2f}M   {student:10.2f}"
        print(f"{line} {student / student_bf16:5.2f}x   {teacher:10.2f} {teacher / teacher_bf16:5.2f}x", flush=True)
    print(f"auto takes bf16 from {LARGE / 1e6:g}M on, without grouped convolutions")


def timed(call: Callable[[], None]) -> float:
    """CPU seconds of a call, over at least 50 ms of calls."""
    started, calls = time.process_time(), 0
    while time.process_time() - started < 0.05:
        call()
        calls += 1
    return (time.process_time() - started) / calls


def student_step(network: nn.Module, images: torch.Tensor, precision: Precision) -> Callable[[], None]:
    def step() -> None:
        network.train()
        with autocast(precision, CPU):
            logits = network(images)
        logits.square().mean().backward()
        network.zero_grad()

    return step


def teacher_pass(network: nn.Module, images: torch.Tensor, precision: Precision) -> Callable[[], None]:
    frozen = folded(network, images[:1])

    def forward() -> None:
        frozen.eval()
        with torch.inference_mode(), autocast(precision, CPU):
            frozen(images)

    return forward


def accuracies(seeds: int, epochs: int) -> None:
    dataset = load_dataset("fashion-mnist")

    def train(name: str, images: int, epochs: int, seed: int, precision: Precision, **distillation: Any) -> TrainingRun:
        torch.manual_seed(seed)
        network = build_model(name, num_classes=len(dataset.classes), in_channels=1)
        chosen = dataset.train.take(stratified_subset(dataset.train.labels, images, seed))
        run = TrainingRun(
            network,
            distillation.pop("criterion"),
            sgd(network.parameters(), lr=0.1, weight_decay=5e-4),
            cosine(epochs),
            TrainingSettings(epochs, BATCH, seed, precision, eval_every=epochs),
            TrainingData(
                chosen, dataset.test, dataset.mean, dataset.std, Augmentation(dataset.crop_padding, dataset.flip)
            ),
            **distillation,
        )
        while not run.done:
            run.train_epoch()
        return run

    alone = build_criterion(DistillationSpec(ce_weight=1.0, kd_weight=0.0))
    teacher = train("resnet14", TEACHER_IMAGES, TEACHER_EPOCHS, 1000, "float32", criterion=alone).student
    seen = evaluate(teacher, dataset.test, dataset.mean, dataset.std, batch_size=500)
    print(f"\nteacher: resnet14, {TEACHER_IMAGES} images, {seen.acc1:.2f} % on test images")
    print(f"students: resnet8, {STUDENT_IMAGES} images, {epochs} epochs, {seeds} seeds, test accuracy in %")
    for method, values in METHODS.items():
        criterion = build_criterion(DistillationSpec.model_validate({"ce_weight": 0.5, "kd_weight": 0.5, **values}))
        found: dict[Precision, list[float]] = {precision: [] for precision in PRECISIONS}
        for seed in range(seeds):
            for precision in PRECISIONS:
                run = train("resnet8", STUDENT_IMAGES, epochs, seed, precision, criterion=criterion, teacher=teacher)
                # Judged alike, whatever they were trained in.
                seen = evaluate(run.student, dataset.test, dataset.mean, dataset.std, batch_size=500)
                found[precision].append(seen.acc1)
        apart = [bf16 - exact for exact, bf16 in zip(found["float32"], found["bf16"], strict=True)]
        text = {p: f"{statistics.mean(values):.2f} (sd {statistics.pstdev(values):.2f})" for p, values in found.items()}
        print(
            f"{method:16} float32 {text['float32']}  bf16 {text['bf16']}  difference {statistics.mean(apart):+.2f} "
            f"(by seed: {', '.join(f'{value:+.2f}' for value in apart)})",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="few rounds and no training: does it run")
    parser.add_argument("--accuracy", action="store_true", help="the second table alone")
    arguments = parser.parse_args()
    prepare_process(threads=1)
    if not arguments.accuracy:
        speeds(1 if arguments.quick else 7)
    if not arguments.quick:
        accuracies(seeds=5, epochs=STUDENT_EPOCHS)


if __name__ == "__main__":
    main()
