"""A distillation on a GPU: images a second, several trials on one GPU, and the seconds to an accuracy.

- speed: a ResNet-56 teaches a ResNet-20 on random 3 x 32 x 32 images of 100 classes, live, in the rows of
  `bench/step_speed.py` and of its plain loop with DataLoader workers; the rows take turns. The plain loop convolves in
  TF32, as torch does unless told otherwise, and as this package's float32 does not: a second plain loop has it off.
- packed: as many processes as trials that share the GPU by fractions, each training in bf16 at the same time.
- accuracy: a ResNet-20 learns a real data set from its labels until it has --accuracy on the images held out, in the
  plain loop and in this package's, with the same settings; the seconds are those from the start of training,
  validations included. The set is --dataset, by default CIFAR-10 where --root has its files, and else the digits.

Needs torch and this package's training room alone, no Ray; the plain loop needs torchvision. Seconds are the clock's.
`--device cpu` runs the same code where there is no GPU.

    python bench/gpu.py [speed] [packed] [accuracy]
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import NamedTuple

import step_speed
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from torch import nn

from orchestrator import names
from orchestrator.data import Augmentation, Dataset, Images, load_dataset, stratified_split
from orchestrator.distillation.adjustment import NoAdjustment
from orchestrator.distillation.criterion import Criterion
from orchestrator.distillation.temperature import ConstantTemperature
from orchestrator.errors import DataError, first_line
from orchestrator.models import build_model
from orchestrator.training import Precision, TrainingData, TrainingRun, TrainingSettings, World
from orchestrator.training.optim import cosine, sgd
from orchestrator.training.process import prepare_process

PACKED = (1, 2, 4, 8)
"""Trials at a time on one GPU."""
WANTED = {"cifar10": 88.0}
"""Accuracy, in percent, that is well within 30 epochs; of other sets 95."""
RATE, DECAY, HELD_OUT = 0.1, 5e-4, 0.1
PLAIN = "plain loop"


def rows(device: torch.device, workers: int) -> dict[str, step_speed.Row]:
    plain, ours = (partial(row, device=device) for row in (step_speed.reference, step_speed.ours))
    return {
        PLAIN: partial(plain, workers=workers),
        f"{PLAIN}, no TF32": partial(plain, workers=workers, tf32=False),
        "float32": partial(ours, precision="float32"),
        "float32, compiled": partial(ours, precision="float32", compiled=True),
        "bf16": partial(ours, precision="bf16"),
        "bf16, compiled": partial(ours, precision="bf16", compiled=True),
    }


def speed(device: torch.device, batches: Sequence[int], samples: int, rounds: int, workers: int) -> None:
    for batch in batches:
        taken, first = step_speed.seconds(rows(device, workers), batch, samples, rounds, wall=True)
        print(f"\n{f'batches of {batch}':20} {'images/s':>10} {f'to {PLAIN}':>14} {'first turn':>11}")
        for row, spent in taken.items():
            rate, ratio = samples / statistics.median(spent), step_speed.ratio(taken[PLAIN], spent)
            print(f"{row:20} {rate:10.0f} {ratio:13.2f}x {first[row]:9.1f} s", flush=True)


def trains_along(
    device: torch.device, batch: int, samples: int, seconds: float, start: Barrier, done: multiprocessing.Queue[float]
) -> None:
    """One of several trials at a time: puts its images a second into `done`."""
    turn = step_speed.ours(batch, samples, "bf16", device=device)
    turn()
    start.wait()
    began, turns = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
        turn()
        turns += 1
    done.put(turns * samples / (time.perf_counter() - began))


def packed(device: torch.device, counts: Sequence[int], batch: int, samples: int, seconds: float) -> None:
    context = multiprocessing.get_context("spawn")
    print(f"\n{f'trials, batch {batch}':20} {'images/s':>10} {'to one trial':>14}")
    alone = None
    for count in counts:
        start, done = context.Barrier(count), context.Queue()
        given = (device, batch, samples, seconds, start, done)
        processes = [context.Process(target=trains_along, args=given, daemon=True) for _ in range(count)]
        for process in processes:
            process.start()
        together = sum(done.get(timeout=60 + 10 * seconds) for _ in processes)
        for process in processes:
            process.join()
        alone = alone or together
        print(f"{count:<20} {together:10.0f} {together / alone:13.2f}x", flush=True)


Epoch = Callable[[], float]
"""Trains an epoch; the accuracy in percent on the images held out."""


class Task(NamedTuple):
    """What is to be learnt, and how far."""

    data: Dataset
    train: Images
    held_out: Images
    wanted: float
    """Accuracy in percent on the images held out."""
    epochs: int
    """At most."""
    batch: int
    device: torch.device

    def student(self) -> nn.Module:
        torch.manual_seed(0)
        channels = self.train.images.shape[1]
        return build_model("resnet20", num_classes=len(self.data.classes), in_channels=channels).to(self.device)


def plain_learner(task: Task, workers: int) -> Epoch:
    """Trains as the popular repositories do."""
    from torchvision import transforms

    torch.backends.cudnn.benchmark = torch.backends.cudnn.allow_tf32 = True
    data, student = task.data, task.student()
    crop = [transforms.RandomCrop(task.train.images.shape[-1], padding=data.crop_padding)] if data.crop_padding else []
    flip = [transforms.RandomHorizontalFlip()] if data.flip else []
    end = [transforms.ToTensor(), transforms.Normalize(data.mean, data.std)]
    batches = partial(step_speed.pictures, batch=task.batch, workers=workers)
    loader = batches(task.train, [*crop, *flip, *end], shuffle=True)
    held_out = batches(task.held_out, end, shuffle=False)
    optimizer = torch.optim.SGD(student.parameters(), lr=RATE, momentum=0.9, weight_decay=DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, task.epochs * len(loader))

    def epoch() -> float:
        losses = 0.0
        student.train()
        for images, labels in loader:
            loss = F.cross_entropy(student(images.to(task.device)), labels.to(task.device))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses += loss.item()
        student.eval()
        with torch.no_grad():
            hits = sum(
                (student(images.to(task.device)).argmax(dim=1) == labels.to(task.device)).sum().item()
                for images, labels in held_out
            )
        return 100 * hits / len(task.held_out)

    return epoch


def our_learner(task: Task, precision: Precision) -> Epoch:
    prepare_process(threads=torch.get_num_threads())
    torch.backends.cudnn.benchmark = False
    data, student = task.data, task.student()
    run = TrainingRun(
        student,
        Criterion(1.0, 0.0, ConstantTemperature(1.0), NoAdjustment()),
        sgd(student.parameters(), lr=RATE, weight_decay=DECAY),
        cosine(task.epochs),
        TrainingSettings(task.epochs, task.batch, seed=0, precision=precision),
        TrainingData(task.train, task.held_out, data.mean, data.std, Augmentation(data.crop_padding, data.flip)),
        world=World(device=task.device),
    )
    return lambda: run.train_epoch()[names.VAL_ACC1]


def real_data(name: str | None, root: Path | None) -> Dataset:
    if name is not None:
        return load_dataset(name, root)
    try:
        return load_dataset("cifar10", root)
    except DataError as error:
        print(f"\nnot CIFAR-10: {first_line(error)}")
        return load_dataset("digits")


def accuracy(device: torch.device, data: Dataset, wanted: float | None, epochs: int, batch: int, workers: int) -> None:
    parts = (data.train.take(part) for part in stratified_split(data.train.labels, HELD_OUT, seed=0))
    task = Task(data, *parts, wanted or WANTED.get(data.name, 95.0), epochs, batch, device)
    # Else whoever is first waits for the libraries.
    F.conv2d(torch.ones(1, 1, 8, 8, device=device), torch.ones(1, 1, 3, 3, device=device)).sum().item()
    print(f"\n{f'{data.name}, {task.wanted:g} %':20} {'seconds':>10} {f'to {PLAIN}':>14} {'epochs':>7} {'reached':>10}")
    plain_s = None
    for row, learner in {
        PLAIN: partial(plain_learner, workers=workers),
        "float32": partial(our_learner, precision="float32"),
        "bf16": partial(our_learner, precision="bf16"),
    }.items():
        epoch = learner(task)
        began, seen, count = time.perf_counter(), 0.0, 0
        while seen < task.wanted and count < task.epochs:
            seen, count = epoch(), count + 1
        spent = time.perf_counter() - began
        plain_s = plain_s or spent
        missed = "" if seen >= task.wanted else "   not far enough"
        print(f"{row:20} {spent:10.1f} {plain_s / spent:13.2f}x {count:7} {seen:8.2f} %{missed}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=["speed", "packed", "accuracy", []], help="default: all")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--workers", type=int, default=8, help="DataLoader workers of the plain loop")
    parser.add_argument("--dataset", help="default: cifar10 where its files are there, else digits")
    parser.add_argument("--root", type=Path, help="folder of the data set's files")
    parser.add_argument("--accuracy", type=float, help="in percent; default: 88 for cifar10, else 95")
    parser.add_argument("--epochs", type=int, default=30, help="at most")
    parser.add_argument("--quick", action="store_true", help="few rounds and images: does it run, not how fast")
    given = parser.parse_args()
    device, parts = torch.device(given.device), given.parts or ["speed", "packed", "accuracy"]
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "a processor, not a GPU"
    print(f"torch {torch.__version__} on {name}", flush=True)
    workers = 1 if given.quick else given.workers
    if "speed" in parts:
        batches, samples, rounds = ([64], 128, 1) if given.quick else ([64, 256, 1024], 20_480, 7)
        speed(device, batches, samples, rounds, workers)
    if "packed" in parts:
        counts, samples, seconds = (PACKED[:2], 128, 1.0) if given.quick else (PACKED, 10_240, 15.0)
        packed(device, counts, 64 if given.quick else 256, samples, seconds)
    if "accuracy" in parts:
        epochs = 2 if given.quick else given.epochs
        accuracy(device, real_data(given.dataset, given.root), given.accuracy, epochs, 128, workers)


if __name__ == "__main__":
    main()
